"""Windows and statistics of a few features from records of their activations.

What a collector does with all contexts of a corpus is done here with records that somebody chose:
windows are cut around the same firings, and the best and a sample of them kept for each split. A
window is non-activating where the record itself says so. Records without an activation come first;
a feature that has none in a split gets parts of records in which it fires elsewhere.
"""

import torch
from torch import Tensor

from autointerp.evidence.choosing import DroppedWindows, choose
from autointerp.evidence.collector import CollectSettings
from autointerp.evidence.record_spool import RecordBatch
from autointerp.evidence.repeats import text_keys
from autointerp.evidence.selection import NONE, OfferedWindows, Selection
from autointerp.evidence.statistics import Statistics
from autointerp.evidence.window import Split
from autointerp.tensors.hashing import (
    continue_hash,
    end_hash,
    hash_integers,
    mix,
    split_of_contexts,
    start_hash,
)

SPLITS: tuple[Split, ...] = ("label", "validate", "score")
_SAMPLE_SALT, _SILENT_SALT, _TOKEN_SALT = 0x5A4, 0x2E7, 0x70D
_VALUE_BITS = 32
_LAST_NUMBER = (1 << _VALUE_BITS) - 1
_WHOLE = 1 << 62  # in the priority of a record without any activation


class RecordWindows:
    """`add` batches of records, then `settle`; what it keeps is read as a collector's is."""

    def __init__(self, features: Tensor, settings: CollectSettings, only: Split | None) -> None:
        """features: int64 [rows], ascending. only: the split of all records, where it is not left
        to their hash."""
        self.features = features
        self.settings = settings
        self._only = only
        device = features.device
        self.selections = [
            Selection(spec, settings.places(spec), len(features), settings.length, device)
            for spec in settings.selections
        ]
        self.statistics = Statistics(len(features), device)
        self.records = 0

    def add(self, batch: RecordBatch) -> None:
        """Take in records of these features, padded to a window's length at least."""
        settings = self.settings
        token_ids = torch.from_numpy(batch.token_ids)
        values = torch.from_numpy(batch.activations)
        number = torch.from_numpy(batch.number)
        row = torch.searchsorted(self.features, torch.from_numpy(batch.feature))
        split = self._splits(batch)
        fires = values > 0
        self.records += len(row)
        self._count(token_ids, values, fires, row, number)
        lengths = (token_ids >= 0).sum(1)
        keys = number.unsqueeze(1).expand(-1, token_ids.shape[1] - settings.length + 1)
        if settings.repeats != "none":
            keys = text_keys(token_ids, 0, settings.length, settings.repeats)
        active = fires.any(1)

        def offer(kind: str, which: Tensor, peak: Tensor, start: Tensor, priority: Tensor) -> None:
            """Records `which` [windows]; the others of the same shape."""
            at = start.unsqueeze(1) + torch.arange(settings.length)
            new = OfferedWindows(
                row=row[which],
                priority=priority,
                context=number[which],
                peak=peak,
                start=start,
                text_key=keys[which, start],
                document=torch.from_numpy(batch.document)[which],
                token_ids=token_ids[which].gather(1, at),
                activations=values[which].gather(1, at),
            )
            for selection in self.selections:
                if selection.spec.kind == kind:
                    mine = split[which] == SPLITS.index(selection.spec.split)
                    selection.offer(new, mine.nonzero().flatten())

        def around(peak: Tensor, which: Tensor) -> Tensor:
            latest = (lengths[which] - settings.length).clamp(min=0)
            return torch.minimum((peak - settings.before).clamp(min=0), latest)

        which = active.nonzero().flatten()
        largest, peak = _first_maximum(values[which])
        # Positive floats order as their bits; equal ones by record.
        priority = (largest.view(torch.int32).long() << _VALUE_BITS) + _LAST_NUMBER - number[which]
        offer("top", which, peak, around(peak, which), priority)

        state = start_hash(settings.seed ^ _SAMPLE_SALT, self.features)[row[which]]
        state = continue_hash(state, mix(number[which]))
        position = mix(torch.arange(token_ids.shape[1]))
        draws = end_hash(continue_hash(state.unsqueeze(1), position))
        drawn, peak = draws.masked_fill(~fires[which], NONE).max(1)
        offer("sample", which, peak, around(peak, which), drawn)

        draw = hash_integers(settings.seed ^ _SILENT_SALT, self.features[row], number)
        which = (~active).nonzero().flatten()
        token = draw[which] % lengths[which]
        start = around(token, which)
        offer("negative", which, start, start, draw[which] >> 1 | _WHOLE)

        which, start = self._silent_parts(token_ids, fires, active, draw)
        offer("negative", which, start, start, draw[which] >> 1 & (_WHOLE - 1))

    def _splits(self, batch: RecordBatch) -> Tensor:
        if self._only is not None:
            return torch.full((len(batch.split),), SPLITS.index(self._only))
        told = torch.from_numpy(batch.split).long()
        drawn = split_of_contexts(torch.from_numpy(batch.split_key), self.settings.seed)
        return torch.where(told >= 0, told, drawn)

    def _count(
        self, token_ids: Tensor, values: Tensor, fires: Tensor, row: Tensor, number: Tensor
    ) -> None:
        record, position = fires.nonzero(as_tuple=True)
        draw = hash_integers(self.settings.seed ^ _TOKEN_SALT, number[record], position)
        self.statistics.add(
            row=row[record],
            value=values[record, position],
            token_id=token_ids,
            place=record * token_ids.shape[1] + position,
            draw=draw,
            eligible=token_ids >= 0,
            masked={},
        )

    def _silent_parts(
        self, token_ids: Tensor, fires: Tensor, active: Tensor, draw: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A window of each firing record in which nothing fires, where it has one: records, starts.

        Of several any is as likely.
        """
        length = self.settings.length
        taken = torch.nn.functional.pad((fires | (token_ids < 0)).cumsum(1), (1, 0))
        free = taken[:, length:] == taken[:, :-length]
        free &= active.unsqueeze(1)
        which = free.any(1).nonzero().flatten()
        free = free[which]
        rank = free.cumsum(1)
        wanted = draw[which] % rank[:, -1] + 1
        return which, (free & (rank == wanted.unsqueeze(1))).int().argmax(1)

    def settle(self) -> None:
        """Merge and sort what was offered; call it after the last batch."""
        for selection in self.selections:
            selection.sort()
            if selection.spec.kind == "negative":
                is_part = (selection.priority != NONE) & (selection.priority < _WHOLE)
                has_whole = (selection.priority >= _WHOLE).any(1, keepdim=True)
                selection.priority[is_part & has_whole] = NONE
        self.statistics.settle()

    def choose(self) -> DroppedWindows:
        """Reduce every selection to the windows that were asked for; call it after `settle`."""
        found = choose(self.selections, self.settings.repeats)
        met = sum(selection.repeats for selection in self.selections)
        return DroppedWindows(met + found.repeats, found.shared)

    def has_silence(self) -> Tensor:
        """Which features have non-activating windows to be scored on: bool [rows]."""
        return self._has_negatives(0)

    def silent_elsewhere(self) -> Tensor:
        """Of which features these are parts of records in which they fire: bool [rows]."""
        return self.has_silence() & ~self._has_negatives(_WHOLE)

    def _has_negatives(self, least: int) -> Tensor:
        """Which features have some of at least this priority to be scored on: bool [rows]."""
        found = torch.zeros(len(self.features), dtype=torch.bool)
        for selection in self.selections:
            if (selection.spec.kind, selection.spec.split) == ("negative", "score"):
                found |= (selection.priority >= least).any(1)
        return found

    def window_density(self) -> Tensor:
        """It is not known of records that somebody chose: NaN, float64 [rows]."""
        return torch.full((len(self.features),), torch.nan, dtype=torch.float64)


def _first_maximum(values: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row [tokens > 0] the largest value and where it is first."""
    largest = values.amax(1) if len(values) else values.new_empty(0)
    return largest, (values == largest.unsqueeze(1)).int().argmax(1)
