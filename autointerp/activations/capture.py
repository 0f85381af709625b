"""Store what a stream gives: one native cache for each hook, dense or sparse."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from autointerp.activations.activation_batch import ActivationBatch, NormSample
from autointerp.activations.finite import check_finite
from autointerp.activations.manifest import Manifest, Norms, SparseContent
from autointerp.activations.stream import Captured, StreamSettings, SubjectStream
from autointerp.activations.subject import tokenizer_sha256
from autointerp.activations.writer import CacheWriter
from autointerp.progress import Tracker, say, track
from autointerp.tensors.firings import Firings
from autointerp.version import __version__


@dataclass(frozen=True)
class Encoding:
    """How a sparse cache is made of activations; `content.firings` is counted while writing."""

    content: SparseContent
    encode: Callable[[ActivationBatch], Firings]


# An encoding may depend on the size of activations, which is known when the capture begins.
Encoder = Callable[[NormSample, int], Encoding]


def capture(
    settings: StreamSettings,
    paths: list[Path],
    device: torch.device,
    made_from: list[str],
    encoder: Encoder | None = None,
) -> list[Manifest]:
    """Write the native cache of every hook at its path, in one pass over the text.

    `made_from`: for each hook a fingerprint of everything that its cache depends on.

    A capture that is stopped leaves its finished shards beside the path, and goes on from them.
    With an `encoder` (norms and width of the activations → encoding) the caches are sparse.
    Raises AutointerpError.
    """
    stream = SubjectStream(settings, device)
    total = stream.contexts * stream.context_length
    # The first contexts are run for the checks: they take their time too.
    with track("capture", total, "tokens") as progress:
        for warning in stream.check():
            say(f"capture: {warning}")
        # A text of no context, or a coder of another width, is said before a file is touched.
        norms, widths = stream.norm_samples, stream.widths
        encodings = [encoder(n, w) if encoder else None for n, w in zip(norms, widths, strict=True)]
        writers = [CacheWriter(path, made) for path, made in zip(paths, made_from, strict=True)]
        done = min(writer.written for writer in writers)
        for writer, sample in zip(writers, norms, strict=True):
            writer.begin(sample)
        if done > 0:
            say(f"capture: resuming after {done:,} contexts")
        progress.skip(done * stream.context_length)
        for captured in stream.captured(skip=done):
            _store(captured, writers, norms, encodings, progress)
    for remark in stream.remarks():
        say(f"capture: {remark}")
    manifests = []
    for number, (writer, encoding) in enumerate(zip(writers, encodings, strict=True)):
        stream.get_vocabulary().save(writer.partial / "vocabulary.parquet")
        about = _about(stream, number, made_from[number], encoding.content if encoding else None)
        manifest = writer.finish(about)
        for warning in check_finite(manifest.not_finite, manifest.tokens, str(writer.path)):
            say(f"capture: {warning}")
        manifests.append(manifest)
    return manifests


def _store(
    captured: Captured,
    writers: list[CacheWriter],
    norms: list[NormSample],
    encodings: list[Encoding | None],
    progress: Tracker,
) -> None:
    for number, (writer, encoding) in enumerate(zip(writers, encodings, strict=True)):
        batch = captured.batch(number, norms[number].median)
        firings = encoding.encode(batch) if encoding else None
        writer.add(batch, captured.contexts.document, firings)
    progress.advance(captured.token_ids.numel())


def _about(
    stream: SubjectStream, number: int, made_from: str, sparse: SparseContent | None
) -> Manifest:
    """What is known of a cache before its content is counted."""
    settings, subject, hook = stream.settings, stream.subject, stream.hooks[number]
    return Manifest(
        producer=f"autointerp {__version__}",
        made_from=made_from,
        subject=settings.subject,
        subject_revision=subject.revision,
        tokenizer=settings.subject,
        tokenizer_sha256=tokenizer_sha256(subject.tokenizer),
        hook=hook.name,
        hook_module=hook.path,
        hook_side=hook.side,
        d_in=stream.widths[number],
        dtype="bfloat16" if settings.dtype == "bfloat16" else "float32",
        sparse=sparse,
        context_length=settings.text.length,
        contexts=0,
        tokens=0,
        not_finite=0,
        text=settings.text.text,
        documents=0,
        packing=settings.text.packing,
        bos=stream.reader.bos,
        turns=settings.text.turns,
        special_token_ids=sorted(stream.get_vocabulary().special_ids),
        pad_id=stream.reader.pad_id,
        norms=Norms(sample_median=0, sample_mean=0, median=0, mean=0, p999=0),
        shards=[],
    )


def dense_bytes(manifest: Manifest) -> int:
    """Size of the activations of a cache when they are stored dense in bfloat16."""
    return manifest.contexts * manifest.context_length * manifest.d_in * 2


def stored_bytes(path: Path) -> int:
    """Size of all the files of a cache but its vocabulary."""
    return sum(f.stat().st_size for f in path.glob("*.safetensors"))
