"""The language model on this machine that labels or judges: found, checked, opened once."""

import functools
import importlib.util
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from safetensors import SafetensorError

from autointerp.activations.subject import LOADING, load_tokenizer
from autointerp.config.settings import RunConfig
from autointerp.errors import InputError, MissingPackageError
from autointerp.held import PREFIX, held, is_held
from autointerp.llm.local import constrained, llamacpp
from autointerp.llm.local.function_client import FunctionClient, NamedFunction
from autointerp.llm.local.generation import ChatModel
from autointerp.llm.local.llamacpp import LlamaClient, open_server
from autointerp.llm.local.local_client import LocalClient
from autointerp.llm.wire.client import Client
from autointerp.progress import say
from autointerp.scoring.scorers.on_device import identity

_GGUF = ".gguf"
# Weights in other files may run code as they are read.
_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
_TROUBLES = (
    *(OSError, ValueError, RuntimeError, ImportError, KeyError, AttributeError, MemoryError),
    SafetensorError,
)


def model_name(config: RunConfig) -> str:
    """The model with what it is, as the journal and the tables name it."""
    name = config.local_model_name()
    return name.removeprefix(PREFIX) if is_held(name) else identity(name)


def check(config: RunConfig) -> None:
    """Raises AutointerpError where a package is missing, or the model cannot be had.

    A model of the hub is downloaded here, before anything else is done.
    """
    name = config.local_model_name()
    if is_held(name):
        held(name, NamedFunction)
        return
    needed = [constrained.PACKAGE]
    if name.endswith(_GGUF) and not _is_for_llamacpp(name):
        needed.append("gguf")
    for package in needed:
        if importlib.util.find_spec(package) is None:
            raise MissingPackageError(
                f"a local model needs {package}: pip install 'autointerp[local]'"
            )
    path = _found(name)
    if path.is_dir() and load_tokenizer(str(path)).chat_template is None:
        raise InputError(
            f"--local-model {name} has no chat template: use an instruction-tuned model"
        )


def _is_for_llamacpp(name: str) -> bool:
    return name.endswith(_GGUF) and importlib.util.find_spec(llamacpp.PACKAGE) is not None


def _found(name: str) -> Path:
    """The folder or .gguf file. Raises AutointerpError."""
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(
                f"--local-model {name}: the folder has no config.json (for a .gguf file, give the "
                "file)"
            )
        return path
    if path.is_file():
        if path.suffix != _GGUF:
            raise InputError(f"--local-model {name}: a model file must end in {_GGUF}")
        return path
    parts = name.split("/")
    try:
        if len(parts) == 2 and not name.endswith(_GGUF):
            return Path(snapshot_download(name, allow_patterns=_FILES))
        if len(parts) == 3 and name.endswith(_GGUF):
            return Path(hf_hub_download("/".join(parts[:2]), parts[2]))
    # The hub's own errors are of these kinds too, and so are those of the network.
    except Exception as error:
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"--local-model {name} is not on this machine and cannot be downloaded ({first_line}): "
            "give a local folder or .gguf file"
        ) from None
    raise InputError(f"--local-model {name}: no such file or folder")


def rows(config: RunConfig, device: torch.device) -> int:
    """How many requests the model answers at once, at most.

    A concurrency that was given is not for this model where an endpoint is asked, too.
    """
    if "concurrency" in config.model_fields_set and config.model is None:
        return config.concurrency
    if is_held(config.local_model_name()):
        return config.concurrency
    if _is_for_llamacpp(config.local_model_name()):
        return 4
    return 8 if device.type == "cpu" else 64


def open_client(config: RunConfig, device: torch.device) -> Client:
    """The model in an endpoint's place. Raises AutointerpError where it cannot be loaded."""
    name, most = config.local_model_name(), rows(config, device)
    if is_held(name):
        return FunctionClient(held(name, NamedFunction), most)
    path = str(_found(name))
    if _is_for_llamacpp(name):
        return LlamaClient(_server(path, device, most), most)
    return LocalClient(_chat_model(path, device), most, say)


@functools.lru_cache(maxsize=1)
def _server(path: str, device: torch.device, slots: int) -> Any:
    return open_server(Path(path), device, slots)


@functools.lru_cache(maxsize=1)
def _chat_model(path: str, device: torch.device) -> ChatModel:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    folder, file = (str(Path(path).parent), Path(path).name) if path.endswith(_GGUF) else (path, "")
    named = {"gguf_file": file} if file else {"use_safetensors": True}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, **({"gguf_file": file} if file else {})
        )
        with LOADING:
            model = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=_dtype(device), **named
            )
        if tokenizer.chat_template is None:
            raise InputError(
                f"--local-model {path} has no chat template: use an instruction-tuned model"
            )
        return ChatModel(model.to(device).eval(), tokenizer)
    except _TROUBLES as error:
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"--local-model {path} cannot be loaded: {first_line}") from None


def _dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    # Elsewhere bfloat16 is computed in float32, and slower for it.
    fast: bool = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32
