"""The bundled demo: a small subject model and a coder on its residual stream."""

from pathlib import Path

SUBJECT = Path(__file__).parent / "subject"
CODER = Path(__file__).parent / "coder"
