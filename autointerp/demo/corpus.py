"""The demo's text: the standard library of the Python that runs it."""

import hashlib
import sysconfig
from collections.abc import Iterator
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
    root = Path(sysconfig.get_paths()["stdlib"])
    found: list[tuple[int, str, Path]] = []
    for path in root.rglob("*.py"):
        parts = set(path.relative_to(root).parts)
        if parts & _EXCLUDED or (not with_tests and parts & _TEST_TREES):
            continue
        relative = path.relative_to(root).as_posix()
        found.append((path_hash(relative), relative, path))
    for _, relative, path in sorted(found):
        yield relative, path


def standard_library_documents(*, with_tests: bool = False) -> Iterator[tuple[str, str]]:
    """(relative path, text) of every readable source of the standard library."""
    for relative, path in standard_library_files(with_tests=with_tests):
        try:
            yield relative, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            # A few sources are written in other encodings on purpose, to test Python itself.
            continue
