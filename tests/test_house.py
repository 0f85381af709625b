"""The house stays in order: rooms import one way, and no name stands for two things."""

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import autointerp

PACKAGE = Path(autointerp.__file__).parent
# From the roof to the ground: what stands earlier may import what stands later.
FLOORS = [
    "api", "given", "results", "cli", "serve", "report", "pipeline", "stages", "trial", "tables",
    "resources", "labeling", "scoring", "prompting", "rules", "evidence", "runs", "config",
    "activations", "coders", "llm", "metrics", "demo", "tensors", "vocabulary", "storage",
    "identity", "loops", "progress", "held", "errors", "plain_text", "secrets", "version",
]  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    module_name(path): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__main__.py"
}


def imported(tree: ast.AST) -> set[str]:
    """The package's modules that are imported anywhere in a file, in functions too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in SOURCES else str(node.module) for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & SOURCES.keys()


def room(module: str) -> str:
    """A folder or a file of the package; the package itself stands on the roof."""
    return module.split(".")[1] if "." in module else ""


IMPORTS = {module: imported(tree) - {module} for module, tree in SOURCES.items()}


def test_rooms_import_downwards_only():
    assert {room(module) for module in SOURCES} == {"", *FLOORS}
    floor = {name: number for number, name in enumerate(["", *FLOORS])}
    wrong = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in others
        if floor[room(other)] < floor[room(module)]
    ]
    assert not wrong


def test_no_files_import_each_other_in_a_circle():
    # A package's own file only hands names on.
    graph = {m: {o for o in others if o in SOURCES} for m, others in IMPORTS.items()}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" imports ".join(error.args[1]))


def test_no_name_stands_for_two_things():
    modules, classes = defaultdict(list), defaultdict(list)
    for module, tree in SOURCES.items():
        modules[module.rpartition(".")[2]].append(module)
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].append(module)
    files = {p.stem: 0 for p in PACKAGE.rglob("*.py")}
    assert len(files) > 100
    twice = {
        name: places
        for name, places in (modules | classes).items()
        if len([p for p in places if not (PACKAGE.parent / p.replace(".", "/")).is_dir()]) > 1
    }
    assert not twice
