"""The files of the label stage: the drafts, and the label table while they come and at the end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from autointerp.evidence.store import EvidenceStore
from autointerp.labeling.labeler import Draft
from autointerp.runs.directory import Run
from autointerp.stages.collect.collect_stage import evidence_identity
from autointerp.stages.label.labelers import Show
from autointerp.stages.label.live_table import written_meanwhile
from autointerp.tables.write import read_drafts, write_drafts, write_labels


@dataclass(frozen=True)
class LabelTable:
    """`priced`: whether it is known what labels cost."""

    run: Run
    store: EvidenceStore
    coder: str
    priced: bool

    @contextmanager
    def shown_meanwhile(self, features: Sequence[int], labeler: str) -> Iterator[Show]:
        """Takes drafts as they come; the table has them now and then, the rest as `pending`.

        drafts.parquet is written at the end alone, and says what is done. A table with scores that
        the same drafts would keep stays as it is until then.
        """
        if _is_scored(self.run):
            yield lambda draft: None
            return
        self.run.forget_stages("score")
        why = "it is not labeled yet"
        pending = [Draft(f, "pending", labeler, error=why) for f in features]
        with written_meanwhile(pending, self._write) as show:
            yield show

    def finish(self, drafts: list[Draft]) -> None:
        """Write drafts and table, unless they are there as they are to be, with their scores."""
        if _is_scored(self.run) and _said(drafts) == _said(read_drafts(self.run.drafts)):
            return
        # The table loses its scores, so they must come anew.
        self.run.forget_stages("score")
        write_drafts(drafts, self.run.drafts)
        self._write(drafts)

    def _write(self, drafts: list[Draft]) -> None:
        statistics = self.store.statistics
        write_labels(self.coder, drafts, statistics, {}, {}, self.priced, self.run.labels)


def _is_scored(run: Run) -> bool:
    """Whether the run has labels of this evidence, and their scores."""
    if not (run.drafts.is_file() and run.labels.is_file() and (scored := run.stages().score)):
        return False
    return scored.evidence == evidence_identity(run)


def _said(drafts: list[Draft]) -> set[tuple[object, ...]]:
    """What became of each feature; numbers, which a file rounds, follow from the same replies."""
    return {
        (
            *(d.feature, d.status, d.label, d.label_of, d.reason, d.rule, d.error),
            *(d.meanings or ()),
            *(d.flags or ()),
            *((c.label, c.n) for c in d.candidates or ()),
        )
        for d in drafts
    }
