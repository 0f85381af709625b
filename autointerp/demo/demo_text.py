"""The demo's text: the standard library of the Python that runs it."""

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# Vendored or generated trees that other installations lack or that hold no prose-like source.
_EXCLUDED = {"site-packages", "dist-packages", "__pycache__", "_vendor", "ensurepip"}
_TEST_TREES = {"test", "tests", "idle_test"}


def path_hash(relative: str) -> int:
    """A stable 64-bit hash of a path, for orders and splits that any machine repeats."""
    return int.from_bytes(hashlib.sha256(relative.encode()).digest()[:8], "big")


def standard_library_files(*, with_tests: bool = False) -> Iterator[tuple[str, Path]]:
    """(relative path, path) of the standard library's sources, in an order set by their names.

    The order is that of the hashed relative path: any prefix of it is a varied sample. Tests are
    left out by default because many installations do not ship them.
    """
    yield from _files(Path(sysconfig.get_paths()["stdlib"]), with_tests)


@cache
def _files(root: Path, with_tests: bool) -> list[tuple[str, Path]]:
    unwanted = _EXCLUDED if with_tests else _EXCLUDED | _TEST_TREES
    found: list[tuple[int, str, Path]] = []
    for folder, folders, names in os.walk(root):
        # Installed packages can be a hundred times as many files as the library.
        folders[:] = [name for name in folders if name not in unwanted]
        for path in (Path(folder, name) for name in names if name.endswith(".py")):
            relative = path.relative_to(root).as_posix()
            found.append((path_hash(relative), relative, path))
    return [(relative, path) for _, relative, path in sorted(found)]


def standard_library_documents(*, with_tests: bool = False) -> Iterator[tuple[str, str]]:
    """(relative path, text) of every readable source of the standard library."""
    for relative, path in standard_library_files(with_tests=with_tests):
        try:
            yield relative, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            # A few sources are written in other encodings on purpose, to test Python itself.
            continue
