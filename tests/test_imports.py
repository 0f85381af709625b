"""What is slow to import waits until it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import autointerp

SLOW = {"datasets", "scipy.optimize", "sentence_transformers", "transformers"}
SOURCES = sorted(Path(autointerp.__file__).parent.rglob("*.py"))


def imported_at_once(source: str) -> set[str]:
    """The modules that a module's own import imports: those in functions wait."""
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found | {name.partition(".")[0] for name in found}


def test_no_command_waits_for_what_it_may_not_need():
    """transformers alone takes three seconds."""
    assert len(SOURCES) > 100
    at_once = {path: imported_at_once(path.read_text()) & SLOW for path in SOURCES}
    assert not {path: found for path, found in at_once.items() if found}
    for line in ("import transformers.utils", "from scipy import optimize"):
        assert imported_at_once(line) & SLOW
    assert not imported_at_once("def f():\n    import transformers") & SLOW


def test_settings_wait_for_no_tensors():
    """A command's help needs all settings, and those need all scorers."""
    code = "import autointerp.config.settings as s; s.RunConfig(); import sys; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "autointerp.scoring.scorers.surprisal" in loaded
    assert "torch" not in loaded
