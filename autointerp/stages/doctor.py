"""doctor: do coder and activations fit?"""

from contextlib import suppress
from dataclasses import replace

from torch import Tensor

from autointerp.activations.activation_batch import ActivationBatch
from autointerp.activations.cache import DenseCache, SparseCache
from autointerp.activations.hooks import canonical_place, decoder_layers, resolve_hook
from autointerp.activations.stream import SubjectStream
from autointerp.coders import SparseCoder
from autointerp.coders.check import (
    CHECK_TOKENS,
    CoderCheck,
    Diagnosis,
    LayerFit,
    check_coder,
    reconstruction,
)
from autointerp.errors import AutointerpError
from autointerp.resources.activation_source import Source, open_source
from autointerp.resources.session import Session


def counted_activations(batch: ActivationBatch) -> Tensor:
    """The activations of tokens that count: [tokens, d_in]."""
    return batch.activations[batch.eligible()]


def hook_of(source: Source) -> str | None:
    return source.hooks[0].name if isinstance(source, SubjectStream) else source.origin.hook


def fit(session: Session, source: DenseCache | SubjectStream) -> tuple[SparseCoder, CoderCheck]:
    """The coder, on the run's device and at the scale of these activations, and how it fits."""
    assert session.coder is not None
    warnings = source.check()
    coder = session.coder.calibrated(source.norms.mean).to(session.device)
    x = counted_activations(source.first_batch()).to(session.device)
    check = check_coder(coder, x)
    hook = hook_of(source)
    here, there = (canonical_place(h) if h else None for h in (hook, coder.hook))
    if here and there and here != there:
        said = f"the activations are from {hook}, but the SAE's files name {coder.hook}"
        warnings.append(said)
    return coder, replace(check, warnings=(*check.warnings, *warnings))


def diagnose(session: Session) -> Diagnosis:
    """Run the checks on the first batch; with a subject model also on its other layers."""
    source = open_source(session)
    if isinstance(source, SparseCache):
        return Diagnosis(session.coder, hook_of(source), None, (), ())
    coder, check = fit(session, source)
    layers = _layers(session, source) if isinstance(source, SubjectStream) else ()
    warnings = list(check.warnings)
    if layers:
        best = min(layers, key=lambda found: found.fvu)
        place = canonical_place(hook_of(source) or "")
        if place is not None and best.layer != place[1]:
            warnings.append(
                f"the SAE reconstructs layer {best.layer} better (FVU {best.fvu:.3g}) than layer "
                f"{place[1]}, at which it reads"
            )
    return Diagnosis(coder, hook_of(source), check, layers, tuple(warnings))


def _layers(session: Session, stream: SubjectStream) -> tuple[LayerFit, ...]:
    """The fit at the same place of every layer that has it, empty where that cannot be told."""
    place = canonical_place(stream.hooks[0].name)
    assert session.coder is not None
    if place is None or session.coder.read_decoder is None:
        return ()
    model = stream.subject.model
    hooks: dict[int, str] = {}
    for layer in range(len(decoder_layers(model)[1])):
        with suppress(AutointerpError):  # layers of hybrid models differ
            hooks[layer] = resolve_hook(model, f"{place[0]}:{layer}").name
    contexts = max(1, CHECK_TOKENS // stream.context_length + 1)
    settings = replace(
        stream.settings, hooks=tuple(hooks.values()), tokens=contexts * stream.context_length
    )
    every = SubjectStream(settings, stream.device, stream.subject)
    captured = next(every.captured())
    found = []
    for number, (layer, norms) in enumerate(zip(hooks, every.norm_samples, strict=True)):
        x = counted_activations(captured.batch(number, norms.median))[:CHECK_TOKENS]
        if x.shape[1] != session.coder.d_in:
            continue
        l0, fvu = reconstruction(session.coder.calibrated(norms.mean).to(session.device), x)
        assert fvu is not None
        found.append(LayerFit(layer, l0, fvu))
    return tuple(found)
