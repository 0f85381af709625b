"""The subject model at hand: what a coder's features do on any text, and steering by them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from autointerp.activations.masks import Mask
from autointerp.activations.steering import continuations
from autointerp.activations.stream import SubjectStream
from autointerp.coders import SparseCoder
from autointerp.evidence.corpus import Corpus
from autointerp.evidence.peaks import FoundPeaks, peaks_of
from autointerp.identity import fingerprint
from autointerp.progress import track
from autointerp.storage.files import atomic_path
from autointerp.storage.parquet_files import read_parquet, write_parquet
from autointerp.vocabulary import Vocabulary

START_TOKENS = 8  # of natural text, which the subject model goes on from
NEW_TOKENS = 30
_FEATURES_A_FILE = 16
_STEERED = pa.schema(
    [
        ("feature", pa.int32()),
        ("factor", pa.float32()),
        ("start", pa.int32()),
        ("token_ids", pa.list_(pa.int32())),
    ]
)
_NO_FEATURE = -1


@dataclass(frozen=True)
class LiveSubject:
    """A run's subject model, and its coder on the same device and at the same scale.

    `masks`: tokens that do not count. `made_from` and `coder_identity` change when what either does
    would.
    """

    stream: SubjectStream
    coder: SparseCoder
    batch_contexts: int
    masks: tuple[Mask, ...]
    made_from: Sequence[str]
    coder_identity: str

    def tokenized(self, texts: Sequence[str]) -> list[np.ndarray]:
        """int32 [tokens] each."""
        if not texts:
            return []
        encoded = self.stream.subject.tokenizer(list(texts), add_special_tokens=False)
        return [np.array(ids, dtype=np.int32) for ids in encoded["input_ids"]]

    def peaks(self, texts: Sequence[np.ndarray]) -> Iterator[FoundPeaks]:
        """The largest activation of every feature on texts, each run alone, batch by batch.

        texts: int32 [tokens] each. What counts as a center in the corpus counts here.
        """
        stream = self.stream
        for begin in range(0, len(texts), self.batch_contexts):
            contexts = stream.reader.alone(texts[begin : begin + self.batch_contexts])
            batch = stream.run(contexts, begin).batch(0, stream.norms.median)
            firings = self.coder.encode(batch.activations.flatten(0, 1))
            yield peaks_of(batch, firings, self.coder.features, self.masks)


@dataclass(frozen=True)
class Steering:
    """By what factors features are turned up, on how many starts, and where what comes is kept."""

    factors: Sequence[float]
    starts: int
    seed: int
    folder: Path


Continued = tuple[float, int, np.ndarray, str]  # factor, number of the start, token ids, text


@dataclass(frozen=True)
class Steered:
    """What the subject model wrote, in files: without steering, and for features in groups."""

    plain: Path
    steered: Sequence[Path]

    def read(self, vocabulary: Vocabulary) -> Iterator[tuple[int, list[Continued]]]:
        """Each feature with all that was written for it, and what was written without it."""
        _, plain = next(_by_feature(self.plain, vocabulary))
        for path in self.steered:
            for feature, texts in _by_feature(path, vocabulary):
                yield feature, plain + texts


def _by_feature(path: Path, vocabulary: Vocabulary) -> Iterator[tuple[int, list[Continued]]]:
    table = read_parquet(path)
    found: dict[int, list[Continued]] = {}
    for row in table.to_pylist():
        text = vocabulary.text(row["token_ids"])
        continued = row["factor"], row["start"], np.array(row["token_ids"], dtype=np.int32), text
        found.setdefault(row["feature"], []).append(continued)
    yield from found.items()


def steering_files(
    live: LiveSubject, corpus: Corpus, maxima: Mapping[int, float], steering: Steering, title: str
) -> Steered:
    """Have the subject model write with each feature turned up by every factor, and without.

    maxima: feature → its largest activation, the unit of factors. factor · maximum · decoder
    direction is added at the hook on every token. Every text of one start begins with the same
    tokens of the corpus. What was written before, with the same settings, is kept.
    """
    starts = _starts(live, corpus, steering)
    same = {
        "made_from": live.made_from,
        "coder": live.coder_identity,
        "starts": starts.tolist(),
        "factors": steering.factors,
        "tokens": NEW_TOKENS,
        "seed": steering.seed,
    }
    features = sorted(maxima)
    groups = [features[i : i + _FEATURES_A_FILE] for i in range(0, len(features), _FEATURES_A_FILE)]
    steering.folder.mkdir(exist_ok=True)
    read = live.coder.read_decoder
    assert read is not None
    decoder = read().weight
    paths = []
    with track(title, len(features), "features") as progress:
        for group in [[], *groups]:
            key = fingerprint(**same, maxima={f: maxima[f] for f in group})
            path = steering.folder / f"steered-{key[:24]}.parquet"
            if not path.is_file():
                shifts = [
                    (feature, factor, factor * maxima[feature] * decoder[feature].float())
                    for feature in group
                    for factor in steering.factors
                ]
                if not group:
                    shifts = [(_NO_FEATURE, 0.0, torch.zeros(live.coder.d_in))]
                _write(live, starts, shifts, int(key[:12], 16), path)
            paths.append(path)
            progress.advance(len(group))
    return Steered(paths[0], paths[1:])


def _starts(live: LiveSubject, corpus: Corpus, steering: Steering) -> torch.Tensor:
    """The beginnings of some of the corpus's windows: int64 [starts, tokens]."""
    order = np.random.default_rng([steering.seed, 0x57A27]).permutation(len(corpus))
    windows = [corpus.token_ids(int(number)) for number in order]
    length = min(START_TOKENS, max(len(ids) for ids in windows))
    begun = [ids[:length] for ids in windows if len(ids) >= length][: steering.starts]
    return torch.from_numpy(live.stream.reader.alone(begun).token_ids).long()


def _write(
    live: LiveSubject,
    starts: torch.Tensor,
    shifts: Sequence[tuple[int, float, torch.Tensor]],
    seed: int,
    path: Path,
) -> None:
    """shifts: feature, factor and what is added [d]; each goes with every start."""
    stream = live.stream
    scale = _scale(live)
    n = len(starts)
    at_once = max(1, live.batch_contexts * stream.context_length // (START_TOKENS + NEW_TOKENS))
    each = max(1, at_once // n)
    written = []
    for begin in range(0, len(shifts), each):
        part = shifts[begin : begin + each]
        shift = torch.stack([s for _, _, s in part]).repeat_interleave(n, 0) * scale
        rows = starts.repeat(len(part), 1)
        found = continuations(
            stream.subject, stream.hooks[0], rows, shift, NEW_TOKENS, seed + begin
        )
        written.append(found)
    pairs = [(feature, factor, start) for feature, factor, _ in shifts for start in range(n)]
    ids = torch.cat(written).tolist()
    table = pa.table(
        {
            "feature": [f for f, _, _ in pairs],
            "factor": [m for _, m, _ in pairs],
            "start": [s for _, _, s in pairs],
            "token_ids": ids,
        },
        schema=_STEERED,
    )
    with atomic_path(path) as temporary:
        write_parquet(table, temporary)


def _scale(live: LiveSubject) -> float:
    """What the decoder's units are worth at the hook, for coders that normalize each token.

    The mean over tokens: of each single one the norm is another.
    """
    if live.coder.input_norm == "none":
        return 1.0
    return live.stream.norms.mean / sqrt(live.coder.d_in)
