"""capture: the subject model over text → activation cache."""

from dataclasses import replace
from itertools import compress

from autointerp.activations.activation_batch import ActivationBatch, NormSample
from autointerp.activations.capture import Encoding, capture, dense_bytes, stored_bytes
from autointerp.activations.manifest import SparseContent
from autointerp.config.settings import SPARSE
from autointerp.identity import fingerprint
from autointerp.progress import say
from autointerp.resources.activation_source import (
    cache_paths,
    check_width,
    is_captured,
    made_from,
    stream_settings,
)
from autointerp.runs.session import Job
from autointerp.tensors.firings import Firings

NAME = "capture"


def run(job: Job) -> None:
    """Make the cache, unless it is there from the same inputs or was given."""
    settings = stream_settings(job)
    if settings is None:
        say(f"capture: uses the cache {job.config.cache_path()}")
        return
    inputs = made_from(job, settings)
    paths = cache_paths(job, settings)
    there = [is_captured(path, made) for path, made in zip(paths, inputs, strict=True)]
    if any(there):
        say(f"capture: done already, {', '.join(map(str, compress(paths, there)))}")
    if all(there):
        return
    missing = [not whole for whole in there]
    settings = replace(settings, hooks=tuple(compress(settings.hooks, missing)))
    paths, made_of = list(compress(paths, missing)), list(compress(inputs, missing))
    sparse = job.config.store == SPARSE

    def encoder(norms: NormSample, width: int) -> Encoding:
        coder = check_width(job, width, f"{settings.subject} at {settings.hooks[0]}")
        coder = coder.calibrated(norms.mean).to(job.device())

        def encode(batch: ActivationBatch) -> Firings:
            return coder.encode(batch.activations.flatten(0, 1))

        content = SparseContent(
            coder=job.coder_name,
            coder_identity=job.coder_identity,
            features=coder.features,
            firings=0,
        )
        return Encoding(content, encode)

    with job.recorded(NAME, fingerprint(hooks=inputs)) as details:
        manifests = capture(settings, paths, job.device(), made_of, encoder if sparse else None)
        details["tokens"] = manifests[0].tokens
        details["contexts"] = manifests[0].contexts
    if sparse:
        size, dense = stored_bytes(paths[0]), dense_bytes(manifests[0])
        say(
            f"capture: the sparse cache takes {size / 1e6:,.1f} MB, the activations would take "
            f"{dense / 1e6:,.1f} MB in bfloat16 ({dense / size:.1f} times as much)"
        )
