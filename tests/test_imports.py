"""What is slow to import waits until it is needed."""

import ast
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
