"""Deterministic 64-bit hashes of integers on tensors: what makes samples and splits repeatable."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB

LABEL, VALIDATE, SCORE = 0, 1, 2
# Of 100 contexts: what the labeler may see, what chooses between labels, what scores them.
_SPLIT_BOUNDS = (50, 60, 100)
# The same of ten units in a row, in groups within which a hash decides which is which: of any three
# in a row at a corpus's beginning, and of any ten, each side has its share.
_UNITS_OF_SIDES = ((LABEL, VALIDATE, SCORE), (LABEL, SCORE), (LABEL, SCORE), (LABEL, LABEL, SCORE))


def _signed(value: int) -> int:
    """The int64 with the same 64 bits: tensors have no unsigned 64-bit arithmetic."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift: the sign bit is not copied down."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser (Steele et al. 2014) of every int64 in `x`, same shape."""
    x = x + _signed(_GOLDEN)
    x = (x ^ _shift_right(x, 30)) * _signed(_MIX_1)
    x = (x ^ _shift_right(x, 27)) * _signed(_MIX_2)
    return x ^ _shift_right(x, 31)


def hash_integers(seed: int, *parts: Tensor) -> Tensor:
    """A non-negative 63-bit hash of the seed and of the broadcast integer tensors."""
    state = start_hash(seed, parts[0])
    for part in parts[1:]:
        state = continue_hash(state, mix(part.long()))
    return end_hash(state)


def start_hash(seed: int, part: Tensor) -> Tensor:
    """The state after the seed and the first part; with the next two, `hash_integers` in steps.

    So that parts which many hashes share are mixed once.
    """
    state = mix(torch.tensor(_signed(seed), dtype=torch.int64, device=part.device))
    return continue_hash(state, mix(part.long()))


def continue_hash(state: Tensor, mixed_part: Tensor) -> Tensor:
    """The state after one more part, which `mix` has been through."""
    return mix(state ^ mixed_part)


def end_hash(state: Tensor) -> Tensor:
    """The non-negative 63-bit hash of a state."""
    return _shift_right(state, 1)


def split_of_contexts(context: Tensor, seed: int) -> Tensor:
    """LABEL, VALIDATE or SCORE for every context index, by its hash alone."""
    percent = hash_integers(seed ^ 0x5B117, context) % _SPLIT_BOUNDS[-1]
    return (percent >= _SPLIT_BOUNDS[0]).long() + (percent >= _SPLIT_BOUNDS[1]).long()


def split_of_units(unit: Tensor, seed: int) -> Tensor:
    """LABEL, VALIDATE or SCORE for every number of a unit, the same shape."""
    sides = torch.tensor([side for group in _UNITS_OF_SIDES for side in group], device=unit.device)
    sizes = [len(group) for group in _UNITS_OF_SIDES for _ in group]
    firsts = [sum(map(len, _UNITS_OF_SIDES[:i])) for i, g in enumerate(_UNITS_OF_SIDES) for _ in g]
    place = unit % len(sides)
    size, first = (torch.tensor(n, device=unit.device)[place] for n in (sizes, firsts))
    own = hash_integers(seed ^ 0x5B117, unit)
    rank = torch.zeros_like(unit)
    for i in range(max(sizes)):
        other = hash_integers(seed ^ 0x5B117, unit - place + first + i)
        rank += (i < size) & (other < own)
    return sides[first + rank]


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
