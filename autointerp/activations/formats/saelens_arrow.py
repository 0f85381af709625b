"""SAELens's cached activations: a Hugging Face data set on disk (Arrow), one row a context.

`CacheActivationsRunner` writes a column named after the hook, float [context, d_in], and usually
`token_ids`. There is no padding and no record of model or text beside it.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from autointerp.activations.activation_batch import VALID
from autointerp.activations.cache import DenseCache, Origin
from autointerp.activations.cache_format import CacheFormat
from autointerp.errors import InputError
from autointerp.storage.files import files_identity

_STATE, _INFO, _RUNNER = "state.json", "dataset_info.json", "cache_activations_runner_cfg.json"
_TOKENS = "token_ids"


def matches(path: Path) -> bool:
    return (path / _INFO).is_file() and any(path.glob("*.arrow"))


def load(path: Path) -> DenseCache:
    """Raises AutointerpError for files that are damaged or hold something else."""
    files = _files(path)
    batches = [batch for file in files for batch in _record_batches(file)]
    batches = [b for b in batches if len(b) > 0]
    if not batches:
        raise InputError(f"the activation cache at {path} is empty: create it again")
    names = [n for n in batches[0].schema.names if n != _TOKENS]
    if len(names) != 1:
        raise InputError(
            f"{path}: a cache of activations has one column besides {_TOKENS}, but "
            f"this one has {', '.join(names) or 'none'}"
        )
    first = _array(batches[0], names[0], path)
    if first.ndim != 3:
        raise InputError(f"{path}: column {names[0]} does not hold activations [context, width]")
    length, width = first.shape[1:]
    starts = np.concatenate([[0], np.cumsum([len(b) for b in batches])])
    contexts = int(starts[-1])

    def read(begin: int, end: int) -> Tensor:
        parts = []
        for i in range(np.searchsorted(starts, begin, "right") - 1, len(batches)):
            if starts[i] >= end:
                break
            low, high = max(begin - starts[i], 0), min(end - starts[i], len(batches[i]))
            parts.append(_array(batches[i].slice(low, high - low), names[0], path))
        # Copied because what is mapped from disk cannot be written to.
        return torch.from_numpy(np.concatenate(parts))

    token_ids = None
    if _TOKENS in batches[0].schema.names:
        token_ids = torch.from_numpy(
            np.concatenate([_array(b, _TOKENS, path) for b in batches]).astype(np.int32)
        )
    runner = _settings(path / _RUNNER)
    return DenseCache(
        path=path,
        format="saelens",
        origin=Origin(
            subject=runner.get("model_name"),
            hook=names[0],
            text=runner.get("dataset_path"),
            producer="SAELens CacheActivationsRunner",
        ),
        identity=files_identity(files),
        shape=(contexts, length),
        token_ids=token_ids,
        mask=torch.full((contexts, length), VALID, dtype=torch.uint8),
        d_in=width,
        dtype=torch.float16 if first.dtype == np.float16 else torch.float32,
        read=read,
    )


def _settings(file: Path) -> dict[str, str]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}


def _files(path: Path) -> list[Path]:
    """The data files in the order of the data set."""
    try:
        state = json.loads((path / _STATE).read_text())
        names = [str(entry["filename"]) for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return sorted(path.glob("*.arrow"))
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise InputError(f"{path / _STATE} names {outside[0]}, which is not a file in that folder")
    files = [path / name for name in names]
    missing = [f for f in files if not f.is_file()]
    if missing:
        raise InputError(f"{missing[0]} is missing, which {path / _STATE} names")
    return files


def _record_batches(file: Path) -> list[pa.RecordBatch]:
    """Mapped from disk: nothing is read yet."""
    try:
        with pa.ipc.open_stream(pa.memory_map(str(file))) as reader:
            return list(reader)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None


def _array(batch: pa.RecordBatch, name: str, path: Path) -> np.ndarray:
    """A column of lists of equal length as an array with one dimension more for each nesting."""
    values = batch.column(name)
    # The `datasets` library, where it is imported, gives nested columns a type of its own.
    values = values.storage if isinstance(values, pa.ExtensionArray) else values
    shape = [len(values)]
    while pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        inner = values.flatten()
        each, rest = divmod(len(inner), max(len(values), 1))
        lengths = values.value_lengths() if pa.types.is_list(values.type) else None
        if rest or values.null_count or (lengths is not None and len(lengths.unique()) > 1):
            raise InputError(f"{path}: rows of column {name} differ in length")
        shape.append(each)
        values = inner
    try:
        array: np.ndarray = values.to_numpy(zero_copy_only=True).reshape(shape)
    except (pa.ArrowException, ValueError):
        raise InputError(f"{path}: column {name} holds {values.type}, not numbers") from None
    return array


CACHE_FORMAT = CacheFormat(
    name="saelens",
    about="SAELens's cached activations: a Hugging Face data set on disk",
    matches=matches,
    load=load,
    order=20,
)
