"""What a model was asked about a feature, and what it said."""

from autointerp.llm.journal_file import Exchange, exchanges
from autointerp.runs import Run
from autointerp.scoring import SCORERS
from autointerp.scoring.concept_texts import TASK as TEXTS
from autointerp.stages.candidates import PURPOSE as CANDIDATE
from autointerp.stages.label import NAME as LABEL


def feature_exchanges(run: Run, feature: int) -> list[Exchange]:
    """Labeling, then judging, the newest of each first; empty where nothing was asked.

    Raises UserError where the journal cannot be read.
    """
    if not run.journal.is_file():
        return []
    kinds = (LABEL, CANDIDATE, *SCORERS, TEXTS)
    found = exchanges(run.journal, [f"{kind}:{feature}" for kind in kinds])[::-1]
    return sorted(found, key=lambda exchange: not exchange.about.startswith(f"{LABEL}:"))
