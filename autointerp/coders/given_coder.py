"""SAEs that are given in Python: tensors, an SAE of SAELens, or any object with `encode`."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from autointerp.coders.activation import above
from autointerp.coders.coder import Activation, Decoder, InputNorm, SparseCoder
from autointerp.coders.formats import saelens
from autointerp.errors import InputError
from autointerp.tensors.digest import digest_of
from autointerp.tensors.firings import Firings

Numbers = Tensor | np.ndarray
_PROBE_TOKENS = 64
_WIDTHS, _FEATURES = ("d_in", "d_model", "activation_dim"), ("d_sae", "dict_size", "num_latents")


@dataclass(frozen=True)
class GivenCoder(SparseCoder):
    """A sparse autoencoder or transcoder made in Python. Public as `autointerp.SparseCoder`."""

    @classmethod
    def from_tensors(
        cls,
        *,
        w_enc: Numbers,
        b_enc: Numbers,
        w_dec: Numbers | None = None,
        b_dec: Numbers | None = None,
        activation: Activation = "relu",
        threshold: Numbers | None = None,
        k: int | None = None,
        input_norm: InputNorm = "none",
        apply_b_dec_to_input: bool = False,
        name: str = "",
        hook: str | None = None,
    ) -> "GivenCoder":
        """w_enc: [d, features]; b_enc: [features]; w_dec: [features, d]; b_dec: [d].

        A feature's activation is max(0, x · w_enc + b_enc) for `relu`; `jumprelu` takes what is
        over `threshold` ([features]), `topk` the `k` largest of a token, `groupmax` the largest of
        each of `k` groups. With `apply_b_dec_to_input`, b_dec is subtracted from x first. Without
        `w_dec` near misses and output tokens are not known. `name` is what tables call the SAE,
        `hook` where its input comes from. Raises InputError.
        """
        if activation not in get_args(Activation):
            known = ", ".join(get_args(Activation))
            raise InputError(f"activation {activation!r} is not one of {known}")
        encoder, bias = _floats("w_enc", w_enc).T.contiguous(), _floats("b_enc", b_enc)
        features, width = encoder.shape if encoder.ndim == 2 else (0, 0)
        if bias.shape != (features,):
            _misfit("w_enc", w_enc, "b_enc", b_enc, "[d, features] and [features]")
        before = None if b_dec is None else _floats("b_dec", b_dec)
        if before is not None and before.shape != (width,):
            _misfit("w_enc", w_enc, "b_dec", b_dec, "[d, features] and [d]")
        if apply_b_dec_to_input:
            if before is None:
                raise InputError("apply_b_dec_to_input needs b_dec")
            bias = bias - encoder @ before
        decoder = None
        if w_dec is not None:
            rows = _floats("w_dec", w_dec)
            if rows.shape != (features, width):
                _misfit("w_enc", w_enc, "w_dec", w_dec, "[d, features] and [features, d]")
            decoder = Decoder(rows, torch.zeros(width) if before is None else before)
        level = None
        if activation == "jumprelu":
            if threshold is None:
                raise InputError("a jumprelu SAE needs threshold, a number for each feature")
            level = _floats("threshold", threshold).flatten().expand(features).clone()
        if activation in ("topk", "groupmax") and not (k and 0 < k <= features):
            raise InputError(f"a {activation} SAE needs k, from 1 to its {features} features")
        return cls(
            name=name,
            encoder=encoder,
            bias=bias,
            activation=activation,
            threshold=level,
            k=k if activation in ("topk", "groupmax") else None,
            input_norm=input_norm,
            hook=hook,
            expected_l0=k if activation in ("topk", "groupmax") else None,
            read_decoder=None if decoder is None else lambda: decoder,
        )

    @classmethod
    def from_saelens(cls, sae: Any, *, name: str = "") -> "GivenCoder":
        """An SAE or transcoder of SAELens, as it is read from its files. Raises InputError."""
        save = getattr(sae, "save_model", None)
        if save is None:
            raise InputError(f"a {type(sae).__name__} is not an SAE of SAELens: it cannot be saved")
        with tempfile.TemporaryDirectory() as folder:
            save(folder)
            read = saelens.load(Path(folder))
            decoder = None if read.read_decoder is None else _copied(read.read_decoder())
            own = {f: _whole(getattr(read, f)) for f in SparseCoder.__dataclass_fields__}
        own["name"] = name
        own["read_decoder"] = None if decoder is None else lambda: decoder
        return cls(**own)

    @classmethod
    def from_encoder(
        cls,
        encoder: Any,
        *,
        d_in: int | None = None,
        w_dec: Numbers | None = None,
        name: str = "",
        hook: str | None = None,
    ) -> "GivenCoder":
        """Any object whose `encode` takes activations [tokens, d] and gives feature activations
        [tokens, features], of which those over 0 are active.

        `d_in` is needed where the object does not tell it. With `w_dec` ([features, d]) or an
        attribute `W_dec` near misses are known. What identifies it are its tensors and settings,
        or where it has none, what it makes of a fixed sample. Raises InputError.
        """
        width = d_in or _told(encoder, _WIDTHS)
        if width is None and isinstance(weight := getattr(encoder, "W_enc", None), Tensor):
            width = weight.shape[0]
        if width is None:
            raise InputError(
                f"the {type(encoder).__name__} does not tell how wide its inputs are: give d_in"
            )
        sample = torch.randn(_PROBE_TOKENS, width, generator=torch.Generator().manual_seed(0))
        made = _encoded(encoder, sample)
        features = made.shape[1]
        stored = w_dec if w_dec is not None else getattr(encoder, "W_dec", None)
        decoder = None
        if isinstance(stored, Tensor | np.ndarray):
            rows = _floats("w_dec", stored)
            if rows.shape != (features, width):
                raise InputError(
                    f"w_dec is {tuple(rows.shape)}, and not [features, d]: {features, width}"
                )
            decoder = Decoder(rows, torch.zeros(width))
        return EncoderObject(
            name=name,
            # Shapes without memory: the object has the weights.
            encoder=torch.empty(features, width, device="meta"),
            bias=torch.empty(features, device="meta"),
            activation="topk",  # features may compete: all are encoded at once
            k=features,
            hook=hook,
            read_decoder=None if decoder is None else lambda: decoder,
            object=encoder,
            probe=made,
        )

    def digest(self) -> str:
        """A hash of all that decides what it encodes and decodes."""
        return coder_digest(self)


@dataclass(frozen=True)
class EncoderObject(GivenCoder):
    """An object with `encode` in an SAE's place."""

    object: Any = None
    probe: Tensor | None = None  # what it makes of a fixed sample

    def to(self, device: torch.device) -> "EncoderObject":
        return self  # inputs are taken to where the object is

    def alone(self) -> "EncoderObject":
        return replace(self, read_decoder=None)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Firings:
        made = _encoded(self.object, x).to(x.device)
        return Firings(*above(made, 0))

    def digest(self) -> str:
        tensors, settings = _state_of(self.object)
        tensors |= {} if tensors else {"probe": self.probe}
        kind = f"{type(self.object).__module__}.{type(self.object).__qualname__}"
        return digest_of(tensors | _decoder_tensors(self), kind=kind, **settings)


def given_coder(sae: Any) -> SparseCoder:
    """The SAE as it was given, or what is made of it. Raises InputError."""
    if isinstance(sae, SparseCoder):
        return sae
    if type(sae).__module__.partition(".")[0] == "sae_lens":
        return GivenCoder.from_saelens(sae)
    if callable(getattr(sae, "encode", None)):
        return GivenCoder.from_encoder(sae)
    raise InputError(
        f"sae is a {type(sae).__name__}: give a path or name, a SparseCoder, an SAE of SAELens, or "
        "an object with encode"
    )


def coder_digest(coder: SparseCoder) -> str:
    if isinstance(coder, EncoderObject):
        return coder.digest()
    tensors = {f: getattr(coder, f) for f in ("encoder", "bias", "threshold", "gain", "shift")}
    settings = {f: getattr(coder, f) for f in ("activation", "k", "input_norm")}
    return digest_of(tensors | _decoder_tensors(coder), **settings)


def _decoder_tensors(coder: SparseCoder) -> dict[str, Tensor | None]:
    if coder.read_decoder is None:
        return {}
    decoder = coder.read_decoder()
    return {"decoder": decoder.weight, "decoder_bias": decoder.bias}


def _floats(name: str, values: Any) -> Tensor:
    """Numbers in float32 on the CPU. Raises InputError where they are not finite."""
    found = torch.as_tensor(values).detach().to("cpu", torch.float32)
    if not bool(torch.isfinite(found).all()):
        raise InputError(f"{name} has values that are not finite")
    return found


def _misfit(one: str, a: Any, other: str, b: Any, shapes: str) -> None:
    raise InputError(
        f"{one} is {tuple(a.shape)} and {other} {tuple(b.shape)}: they have to be {shapes}"
    )


def _encoded(encoder: Any, x: Tensor) -> Tensor:
    """What the object makes of activations: float32 [tokens, features]. Raises InputError."""
    weight = next(iter(_state_of(encoder)[0].values()), None)
    if weight is not None:
        x = x.to(weight.device)
    with torch.no_grad():
        made = encoder.encode(x)
    if not isinstance(made, Tensor) or made.ndim != 2 or len(made) != len(x):
        shape = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise InputError(
            f"encode of the {type(encoder).__name__} gave {shape} for {len(x)} tokens, and not "
            "[tokens, features]"
        )
    return made.float()


def _state_of(encoder: Any) -> tuple[dict[str, Tensor | None], dict[str, Any]]:
    """The tensors of an object, and those of its settings that are text or numbers."""
    own = vars(encoder) if hasattr(encoder, "__dict__") else {}
    if isinstance(encoder, torch.nn.Module):
        tensors: dict[str, Tensor | None] = dict(encoder.state_dict())
    else:
        tensors = {n: torch.as_tensor(v) for n, v in own.items() if isinstance(v, Numbers)}
    settings = {n: v for n, v in own.items() if isinstance(v, str | int | float | bool)}
    return tensors, {"settings": {n: v for n, v in settings.items() if n != "training"}}


def _told(encoder: Any, names: tuple[str, ...]) -> int | None:
    for place in (encoder, getattr(encoder, "cfg", None), getattr(encoder, "config", None)):
        for name in names:
            found = place.get(name) if isinstance(place, Mapping) else getattr(place, name, None)
            if isinstance(found, int):
                return found
    return None


def _copied(decoder: Decoder) -> Decoder:
    return Decoder(decoder.weight.clone(), decoder.bias.clone())


def _whole(value: Any) -> Any:
    """In memory, where it was mapped from a file."""
    return value.clone() if isinstance(value, Tensor) else value
