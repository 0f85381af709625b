"""capture: the subject model over text → activation cache."""

from dataclasses import replace
from itertools import compress

from autointerp.activations.activation_batch import ActivationBatch, NormSample
from autointerp.activations.capture import Encoding, capture, dense_bytes, stored_bytes
from autointerp.activations.manifest import SparseContent
from autointerp.activations.stream import StreamSettings
from autointerp.config.activation_settings import SPARSE
from autointerp.identity import fingerprint
from autointerp.progress import say
from autointerp.resources.activation_source import (
    cache_paths,
    check,
    check_width,
    is_captured,
    made_from,
    stream_settings,
)
from autointerp.resources.session import Session
from autointerp.runs.record import CaptureRecord
from autointerp.stages.stage import Stage
from autointerp.tensors.firings import Firings

NAME = "capture"


def inputs(session: Session) -> str:
    settings = stream_settings(session)
    return fingerprint(hooks=made_from(session, settings) if settings else None)


def is_done(session: Session, _inputs: str) -> bool:
    """Whether the cache is there from the same inputs, or was given."""
    settings = stream_settings(session)
    return settings is None or all(_there(session, settings))


def already(session: Session) -> str:
    settings = stream_settings(session)
    if settings is None:
        return f"uses the cache {session.config.cache_path()}"
    return f"already done: {', '.join(map(str, cache_paths(session, settings)))}"


def _there(session: Session, settings: StreamSettings) -> list[bool]:
    """Which of the caches are there."""
    paths, made = cache_paths(session, settings), made_from(session, settings)
    return [is_captured(path, inputs) for path, inputs in zip(paths, made, strict=True)]


def run(session: Session, inputs: str) -> None:
    """Make the cache, one for each hook."""
    settings = stream_settings(session)
    assert settings is not None
    paths, made_of = cache_paths(session, settings), made_from(session, settings)
    there = _there(session, settings)
    if any(there):
        say(f"capture: already done: {', '.join(map(str, compress(paths, there)))}")
    missing = [not whole for whole in there]
    settings = replace(settings, hooks=tuple(compress(settings.hooks, missing)))
    paths, made_of = list(compress(paths, missing)), list(compress(made_of, missing))
    sparse = session.config.store == SPARSE

    def encoder(norms: NormSample, width: int) -> Encoding:
        coder = check_width(session, width, f"{settings.subject} at {settings.hooks[0]}")
        coder = coder.calibrated(norms.mean).to(session.device)

        def encode(batch: ActivationBatch) -> Firings:
            return coder.encode(batch.activations.flatten(0, 1))

        content = SparseContent(
            coder=session.coder_name,
            coder_identity=session.coder_identity,
            features=coder.features,
            firings=0,
        )
        return Encoding(content, encode)

    with session.recorded(NAME, inputs, CaptureRecord()) as details:
        manifests = capture(settings, paths, session.device, made_of, encoder if sparse else None)
        details.tokens = manifests[0].tokens
        details.contexts = manifests[0].contexts
    if sparse:
        size, dense = stored_bytes(paths[0]), dense_bytes(manifests[0])
        say(
            f"capture: the sparse cache takes {size / 1e6:,.1f} MB; activations in bfloat16 would "
            f"take {dense / 1e6:,.1f} MB ({dense / size:.1f} times as much)"
        )


STAGE = Stage(
    NAME,
    inputs=inputs,
    is_done=is_done,
    already=already,
    run=run,
    check=check,
    is_wanted=lambda config: config.cache is not None,
)
