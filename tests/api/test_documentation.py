"""docs/python-api.md: everything public stands there."""

import re
import subprocess
import sys
from pathlib import Path

import autointerp as ai

PAGE = (Path(__file__).parents[2] / "docs" / "python-api.md").read_text()


def test_everything_public_is_documented():
    for name in ai.__all__:
        assert hasattr(ai, name)
        assert name == "__version__" or re.search(rf"\b{name}\b", PAGE), name
    for kind in (ai.Run, ai.SparseCoder):
        public = (n for n, v in vars(kind).items() if not n.startswith("_") and callable(v))
        for name in public:
            assert re.search(rf"\b{name}\b", PAGE) or hasattr(kind.__bases__[0], name), name


def test_the_page_names_nothing_else():
    named = set(re.findall(r"\bai\.([a-z_]+)", PAGE)) | set(re.findall(r"\b(\w+Error)\b", PAGE))
    assert named <= set(ai.__all__)


def test_importing_the_package_waits_for_nothing():
    code = "import autointerp, sys; print([m for m in ('torch', 'pandas') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
