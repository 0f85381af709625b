"""Locates an SAE: a path, a file on the Hugging Face Hub, or an entry of SAELens's registry."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from autointerp.coders.coder_format import CODER_FORMATS
from autointerp.coders.formats import unsupported
from autointerp.errors import InputError, MissingPackageError

HUB, SAELENS = "hf:", "saelens:"
_CONFIGS = ("cfg.json", "config.json", "config.yaml")
_WEIGHT_SUFFIXES = (".pt", ".pth", ".npz", ".safetensors")


@dataclass(frozen=True)
class Corrections:
    """What SAELens's registry adds to an SAE's own files, or corrects in them."""

    input_scale: float | None = None
    expected_l0: float | None = None
    unit_rms: bool = False
    centered: bool = False

    def __str__(self) -> str:
        # Identities of SAEs have it in this spelling.
        return (
            f"Corrections(input_scale={self.input_scale!r}, expected_l0={self.expected_l0!r}, "
            f"unit_rms={self.unit_rms!r}, centred={self.centered!r})"
        )


@dataclass(frozen=True)
class Located:
    """A coder's files on this machine."""

    path: Path
    corrections: Corrections = Corrections()


def locate(spec: str) -> Located:
    """The coder named by a path, `hf:owner/repo[@revision]/file` or `saelens:release/id`.

    Files of the hub are downloaded once and then found in its cache, also without a network.
    Raises AutointerpError.
    """
    if spec.startswith(HUB):
        return Located(_from_hub(spec.removeprefix(HUB)))
    if spec.startswith(SAELENS):
        return _from_registry(spec.removeprefix(SAELENS))
    return Located(Path(spec))


def _from_hub(where: str) -> Path:
    parts = where.strip("/").split("/")
    if len(parts) < 2 or not all(parts):
        raise InputError(f"SAE {HUB}{where}: the form is {HUB}owner/repository/file or folder")
    repository, _, revision = "/".join(parts[:2]).partition("@")
    inside = "/".join(parts[2:])
    folder = "/".join(parts[2:-1]) if inside.endswith(_WEIGHT_SUFFIXES) else inside
    if inside.endswith(_WEIGHT_SUFFIXES):
        wanted = [inside, *(f"{folder}/{name}".lstrip("/") for name in _CONFIGS)]
    else:
        wanted = [f"{folder}/{name}".lstrip("/") for name in _downloads()]
    try:
        snapshot = snapshot_download(repository, revision=revision or None, allow_patterns=wanted)
    except (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        httpx.HTTPError,
        OSError,
        ValueError,
    ) as error:
        first_line = str(error).strip().splitlines()[0]
        raise InputError(f"SAE {HUB}{where} cannot be downloaded: {first_line}") from None
    path = Path(snapshot) / inside
    if not path.exists():
        raise InputError(
            f"SAE {HUB}{where}: {repository} has no SAE at {inside or 'its top'} (or, "
            "if there is no network, it is not in the Hugging Face cache)"
        )
    return path


def _downloads() -> list[str]:
    """Of a folder on the hub, what some format reads: checkpoints keep much more beside."""
    read = (name for known in CODER_FORMATS.values() for name in known.downloads)
    return list(dict.fromkeys([*read, *unsupported.DOWNLOADS]))


def _from_registry(where: str) -> Located:
    release, _, wanted = where.partition("/")
    registry = _registry()
    if release not in registry:
        raise InputError(f"SAE {SAELENS}{where}: SAELens has no release {release!r}")
    known = registry[release]
    entry = next((e for e in known["saes"] if str(e["id"]) == wanted), None)
    if entry is None:
        some = ", ".join(str(e["id"]) for e in known["saes"][:3])
        raise InputError(f"SAE {SAELENS}{where}: {release} has no {wanted!r}; it has {some}, …")
    overrides: dict[str, Any] = known.get("config_overrides") or {}
    kwargs = overrides.get("model_from_pretrained_kwargs") or {}
    corrections = Corrections(
        input_scale=entry.get("norm_scaling_factor"),
        expected_l0=entry.get("l0") or None,
        unit_rms=overrides.get("normalize_activations") == "constant_norm_rescale",
        centered=bool(kwargs.get("center_writing_weights")),
    )
    return Located(_from_hub(f"{known['repo_id']}/{entry['path']}"), corrections)


def _registry() -> dict[str, Any]:
    """SAELens's list of releases, read from its package without importing that."""
    package = importlib.util.find_spec("sae_lens")
    if package is None or package.origin is None:
        raise MissingPackageError(
            f"SAEs named {SAELENS}release/id need an extra package: pip install "
            "'autointerp[saelens]'"
        )
    file = Path(package.origin).with_name("pretrained_saes.yaml")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        registry: dict[str, Any] = yaml.load(file.read_text(encoding="utf-8"), Loader=loader)
    except (OSError, yaml.YAMLError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise InputError(f"SAELens's registry cannot be read: {first_line}") from None
    return registry
