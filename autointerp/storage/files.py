"""Files that are either whole or not there, and what is said where they cannot be written."""

import errno
import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from autointerp.errors import OutputError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
# Some libraries give a failure of the system as text alone, and torch does not even say which.
_SAID_FULL = f"os error {errno.ENOSPC})"
_NO_ROOM = 64 << 10  # bytes: with less than that free, a failed write failed for want of room


def is_full(error: BaseException, folder: Path) -> bool:
    """Whether writing in `folder` failed because the disk, or the user's share of it, is full."""
    number = getattr(error, "errno", None)
    if number is not None:
        return number in _FULL
    if _SAID_FULL in str(error):
        return True
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _NO_ROOM


def unwritable(path: Path, error: BaseException) -> OutputError:
    """What to say of a file or folder that could not be written."""
    if is_full(error, path.parent):
        return OutputError(
            f"{path} cannot be written: the disk is full. Free some space and rerun "
            "the same command"
        )
    why = error.strerror if isinstance(error, OSError) else None
    return OutputError(f"{path} cannot be written: {why or str(error).splitlines()[0]}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block that writes `path`: raises OutputError where the disk is full or read-only.

    Other failures pass: the block may do more than write.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        name = getattr(error, "filename", None)
        is_ours = not isinstance(name, str) or Path(name).parent == path.parent
        is_closed = isinstance(error, OSError) and error.errno in _CLOSED
        if is_ours and (is_closed or is_full(error, path.parent)):
            raise unwritable(path, error) from error
        raise


@contextmanager
def atomic_path(path: Path, leftover: str = "tmp") -> Iterator[Path]:
    """A temporary path in the same folder that becomes `path` when the block ends well.

    The file is synced before it is renamed, so that a reader never sees half of it, not even
    after a power cut. When the block raises, `path` is left as it was. Temporary names end in
    `leftover`: a run that starts clears away those in `tmp`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{leftover}")
    try:
        with writing(path):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        with suppress(OSError):  # a folder that is read-only says so once
            temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def aside(path: Path) -> Path:
    """Rename a damaged file to a name of its own beside it; which one that is."""
    number = 1
    while (moved := path.with_name(f"{path.name}.damaged{number}")).exists():
        number += 1
    with writing(path):
        path.rename(moved)
    return moved


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that becomes it when the block ends well.

    `path` must not be there yet. When the block raises, nothing is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        temporary.mkdir()
    try:
        with writing(path):
            yield temporary
            os.sync()  # at once: there may be a million small files
            os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def gzip_lines(path: Path) -> Iterator[Callable[[str], None]]:
    """Write lines to a gzip file that is the same for the same lines: no name or time in it."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as packed,
    ):

        def write(line: str) -> None:
            packed.write(line.encode() + b"\n")

        yield write


def files_in(folder: Path) -> list[Path]:
    """All files of a folder and of those in it, in the order of their names."""
    return sorted(p for p in folder.rglob("*") if p.is_file())


def files_identity(files: Iterable[Path]) -> str:
    """Changes when the files do: their names, sizes and times, not their contents."""
    stats = [(str(f.resolve()), f.stat()) for f in files]
    return json.dumps([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
