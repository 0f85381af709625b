"""Reading files of settings and tensors, with errors a user can act on.

Files may come from anybody: none of them runs code, and no number in them takes memory that the
file does not fill.
"""

import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor

from autointerp.errors import InputError

T = TypeVar("T")
_MAX_SETTINGS_BYTES = 16 << 20
_MAX_SETTINGS = 100_000
_MAX_INTEGER = 1 << 63
_MAX_DEFLATED = 1032  # times the size of a file is the most that deflate makes of it


def read_settings(file: Path) -> dict[str, Any]:
    """The object of settings in a JSON or YAML file. Raises AutointerpError."""
    try:
        if file.stat().st_size > _MAX_SETTINGS_BYTES:
            raise ValueError("too large for a settings file")
        text = file.read_text(encoding="utf-8")
        settings: Any = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
        _check_size(settings)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{file} cannot be read: {_first_line(error)}") from None
    if not isinstance(settings, dict):
        raise InputError(f"{file} does not hold a JSON object")
    return settings


def _check_size(settings: object) -> None:
    """Raise ValueError for settings that would grow when they are shown or computed with.

    YAML may name one part many times over, and both have numbers of any size.
    """
    waiting, seen = [settings], 0
    while waiting:
        found = waiting.pop()
        seen += 1
        if seen > _MAX_SETTINGS:
            raise ValueError("more settings than any SAE has")
        if isinstance(found, int) and abs(found) > _MAX_INTEGER:
            raise ValueError("a number that is too large")
        if isinstance(found, dict):
            waiting += [*found.keys(), *found.values()]
        elif isinstance(found, list | tuple | set):
            waiting += found


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def section(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object within settings, or an empty one where it is missing or of another kind."""
    found = settings.get(name)
    return found if isinstance(found, dict) else {}


def read_safetensors(file: Path, *names: str) -> dict[str, Tensor]:
    """Those of the named tensors that the file has; the rest of it is not read."""

    def read(stored: Any) -> dict[str, Tensor]:
        present = set(stored.keys())
        return {name: stored.get_tensor(name) for name in names if name in present}

    return _with_safetensors(file, read)


def safetensors_names(file: Path) -> set[str]:
    return _with_safetensors(file, lambda stored: set(stored.keys()))


def _with_safetensors(file: Path, read: Callable[[Any], T]) -> T:
    try:
        with safe_open(file, framework="pt") as stored:
            return read(stored)
    # A damaged header ends in whatever its reader stumbles over.
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{file} cannot be read: {_first_line(error)}") from None


def read_npz(file: Path, names: Mapping[str, str]) -> dict[str, Tensor]:
    """The named arrays of a .npz file: name there → name here. Raises AutointerpError."""
    try:
        with zipfile.ZipFile(file) as archive, np.load(file, allow_pickle=False) as stored:
            found = {}
            for theirs, ours in names.items():
                if theirs in stored.files:
                    _check_member(archive, f"{theirs}.npy", file.stat().st_size)
                    found[ours] = torch.from_numpy(stored[theirs])
            return found
    except Exception as error:
        # As with pickles.
        raise InputError(f"{file} cannot be read: {_first_line(error)}") from None


def _check_member(archive: zipfile.ZipFile, name: str, file_bytes: int) -> None:
    """Raise ValueError where an array claims more than the file can hold: numpy believes it."""
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        read = {(1, 0): "read_array_header_1_0", (2, 0): "read_array_header_2_0"}.get(version)
        if read is None:
            raise ValueError(f"{name} is of version {version} of numpy's format")
        shape, _, dtype = getattr(np.lib.format, read)(member)
    if prod(shape) * dtype.itemsize > _MAX_DEFLATED * file_bytes:
        raise ValueError(f"{name} declares an array of {shape}, more than the file holds")


def read_pickled(file: Path) -> dict[str, Any]:
    """The dictionary of a `.pt` file, its tensors mapped: they are read where they are used.

    No code in the file is run. Raises AutointerpError.
    """
    try:
        stored = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{file} cannot be read: it holds more than tensors, or is damaged"
        ) from None
    except Exception as error:
        # What a damaged pickle makes its reader stumble over may be anything.
        raise InputError(f"{file} cannot be read: {_first_line(error)}") from None
    if not isinstance(stored, dict):
        raise InputError(f"{file} does not hold a dictionary of tensors")
    return stored
