"""import: labels of another tool → drafts.parquet and the label table, as if labeled here.

`score` then scores them as it does any labels: on this run's windows, of which nobody can say
whether the other tool's labeler has seen the text.
"""

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from autointerp.errors import InputError
from autointerp.evidence.store import EvidenceStore
from autointerp.identity import fingerprint
from autointerp.labeling.labeler import Draft, unlabelable
from autointerp.progress import say, track
from autointerp.runs.directory import Run
from autointerp.runs.record import ImportedFrom, LabelRecord
from autointerp.stages.collect.collect_stage import evidence_identity
from autointerp.stages.label.label_settings import TASK
from autointerp.tables.foreign_labels import IMPORTS, of_one_labeler
from autointerp.tables.write import write_drafts, write_labels


def import_labels(run: Run, format_name: str, path: Path, only: str | None = None) -> None:
    """Make the labels at `path` those of a run that has evidence and no labels yet.

    `only` names whose labels are taken, where there are several labelers'. Raises InputError; then
    the run is as it was. What is not taken is counted, said and recorded.
    """
    chosen = IMPORTS.find(format_name)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    with run.locked():
        evidence = evidence_identity(run)
        if run.drafts.exists() or run.labels.exists():
            raise InputError(
                f"{run.path} already has labels: import into a separate run, which `autointerp "
                "collect` creates with another --out"
            )
        began = time.monotonic()
        try:
            found = chosen.read(path)
        except OSError as error:
            raise InputError(f"{error.filename or path} cannot be read: {error.strerror}") from None
        made_by, texts = of_one_labeler(found, path, only)
        labeler = f"{format_name}:{made_by}"
        store = EvidenceStore(run.windows, run.features)
        drafts = _drafts(run, store, texts, labeler)
        left_out = Counter({f"{why}, in {path}": n for why, n in found.unreadable.items() if n})
        silent = sum(d.status != "labeled" for d in drafts if d.feature in texts)
        left_out["labels are of features that fire too little here to be scored"] = silent
        unknown = len(texts.keys() - store.statistics.keys())
        left_out["labels are of features that were not collected in this run"] = unknown
        coder = next((row["sae"] for row in store.statistics.values()), "")
        write_drafts(drafts, run.drafts)
        write_labels(coder, drafts, store.statistics, {}, {}, True, run.labels)
        outcomes = Counter[str](draft.status for draft in drafts)
        run.finish_stage(
            TASK,
            fingerprint(evidence=evidence, labeler=labeler, imported=sorted(texts.items())),
            time.monotonic() - began,
            LabelRecord(
                evidence=evidence,
                labeler=labeler,
                outcomes=dict(outcomes),
                imported=ImportedFrom.model_validate({"from": str(path), "left_out": +left_out}),
            ),
        )
    say(f"import: {outcomes['labeled']:,} of {len(drafts):,} features labeled by {labeler}")
    for why, count in (+left_out).items():
        say(f"import: {count:,} {why}")


def _drafts(run: Run, store: EvidenceStore, texts: Mapping[int, str], labeler: str) -> list[Draft]:
    """One of every feature that was collected."""
    min_windows = run.settings().number("min_windows")
    features = store.features
    drafts = []
    with track("import", len(features), "features") as progress:
        for evidence in store.read(features):
            progress.advance()
            text = texts.get(evidence.feature)
            draft = unlabelable(evidence, min_windows, labeler)
            if draft is None and text is None:
                draft = Draft(evidence.feature, "failed", labeler, error="it has no label there")
            drafts.append(draft or Draft(evidence.feature, "labeled", labeler, label=text))
    return drafts
