"""Reading files of settings and tensors, with errors a user can act on."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor

from autointerp.errors import UserError


def read_settings(file: Path) -> dict[str, Any]:
    """The object of settings in a JSON or YAML file. Raises UserError."""
    try:
        text = file.read_text(encoding="utf-8")
        settings: Any = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise UserError(f"{file} cannot be read: {first_line}") from None
    if not isinstance(settings, dict):
        raise UserError(f"{file} holds no object of settings")
    return settings


def section(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object within settings, or an empty one where it is missing or of another kind."""
    found = settings.get(name)
    return found if isinstance(found, dict) else {}


def read_safetensors(file: Path, *names: str) -> dict[str, Tensor]:
    """Those of the named tensors that the file has; the rest of it is not read."""
    try:
        with safe_open(file, framework="pt") as stored:
            present = set(stored.keys())
            return {name: stored.get_tensor(name) for name in names if name in present}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None


def safetensors_names(file: Path) -> set[str]:
    try:
        with safe_open(file, framework="pt") as stored:
            return set(stored.keys())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None


def read_pickled(file: Path) -> dict[str, Any]:
    """The dictionary of a `.pt` file, its tensors mapped: they are read where they are used.

    No code in the file is run. Raises UserError.
    """
    try:
        stored = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise UserError(f"{file} cannot be read: holds more than tensors, or is damaged") from None
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        lines = str(error).strip().splitlines() or ["not a file of tensors"]
        raise UserError(f"{file} cannot be read: {lines[0]}") from None
    if not isinstance(stored, dict):
        raise UserError(f"{file} holds no dictionary of tensors")
    return stored
