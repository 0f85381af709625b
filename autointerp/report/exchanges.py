"""What a model was asked about a feature, and what it said."""

from autointerp.llm.journal.journal_file import JournaledExchange, exchanges
from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS
from autointerp.scoring.scorers.concept_texts import TASK as TEXTS
from autointerp.stages.label.candidate_choice import PURPOSE as CANDIDATE
from autointerp.stages.label.label_stage import NAME as LABEL


def feature_exchanges(run: Run, feature: int) -> list[JournaledExchange]:
    """Labeling, then judging, the newest of each first; empty where nothing was asked.

    Raises AutointerpError where the journal cannot be read.
    """
    if not run.journal.is_file():
        return []
    kinds = (LABEL, CANDIDATE, *SCORERS, TEXTS)
    found = exchanges(run.journal, [f"{kind}:{feature}" for kind in kinds])[::-1]
    return sorted(found, key=lambda exchange: not exchange.about.startswith(f"{LABEL}:"))
