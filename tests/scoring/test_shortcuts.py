"""What is judged cannot be told by its form: no judge gets anywhere by lengths, places and marks.

On windows of the demo's features a classifier that sees all but the words learns, on some features
and contexts, what others' answers are. Both are kept apart, since the windows of the corpus sample
recur under many features: known by their start or length, they would be known to be silent.

Text stays out, and with it lengths in characters and how frequent marked tokens are: what a
feature fires on is longer or rarer than other text where that is what it fires on. The peak stays
out of detection: it is not shown, and a silent window has none.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from autointerp.evidence.corpus import Corpus
from autointerp.evidence.store import EvidenceStore
from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS
from autointerp.scoring.scorer import FIRES, Item, Material, Plan
from autointerp.scoring.scorers.intruder import windows_shown
from autointerp.scoring.strata import strata_of
from autointerp.vocabulary import Vocabulary
from tests.conftest import run_command

FEATURES = 120
CONTEXT = 128
WINDOWS = {"detection": 20, "fuzzing": 12, "intruder": 10}
TOLERANCE = 0.05


@pytest.fixture(scope="session")
def plans(tmp_path_factory) -> dict[str, list[Plan]]:
    out: Path = tmp_path_factory.mktemp("shortcuts")
    flags = ["--tokens", "200_000", "--features", f"0-{FEATURES - 1}", "--out", str(out)]
    code, _, said = run_command("collect", *flags)
    assert code == 0, said
    run = Run(out)
    store = EvidenceStore(run.windows, run.features)
    corpus, special = Corpus.read(run.corpus), Vocabulary.load(run.vocabulary).special_ids
    found: dict[str, list[Plan]] = {name: [] for name in WINDOWS}
    for known in store.read([f for f, s in store.statistics.items() if s["n_active"] > 0]):
        material = Material(known, corpus, strata_of(corpus, known), 0, special)
        for name, windows in WINDOWS.items():
            found[name].append(
                SCORERS[name].plan(material, SCORERS[name].settings(windows=windows))
            )
    return found


def form_of_marks(marks: np.ndarray) -> list[float]:
    """Number of marks, where they begin, end and are on the whole, number and lengths of runs."""
    places = np.flatnonzero(marks)
    edges = np.flatnonzero(np.diff(np.r_[0, marks.astype(int), 0]))
    lengths = edges[1::2] - edges[::2]
    around = [places[0], places[-1], places.mean()]
    return [len(marks), len(places), *around, len(lengths), lengths.max(), lengths.min()]


class Rows:
    """What is seen of each thing to be judged, and what the answer is."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []
        self.truths: list[bool] = []
        self.features: list[int] = []
        self.contexts: list[int] = []

    def add(self, seen: Sequence[float], truth: bool, feature: int, context: int) -> None:
        self.seen.append(list(seen))
        self.truths.append(truth)
        self.features.append(feature)
        self.contexts.append(context)

    def auroc(self) -> float:
        """Of a classifier on features and contexts that it has not seen, over four folds."""
        seen, truths = np.array(self.seen, float), np.array(self.truths)
        feature, context = np.array(self.features) % 2, np.array(self.contexts) % 2
        found = []
        for f in (0, 1):
            for c in (0, 1):
                train, test = (feature == f) & (context == c), (feature != f) & (context != c)
                model = GradientBoostingClassifier(n_estimators=30, subsample=0.5, random_state=0)
                guessed = model.fit(seen[train], truths[train]).predict_proba(seen[test])[:, 1]
                found.append(roc_auc_score(truths[test], guessed))
        return float(np.mean(found))


def position(item: Item) -> list[float]:
    start, length = item.window.start, len(item.window.token_ids)
    return [length, start, start == 0, start + length == CONTEXT]


def detection_rows(plans: list[Plan], *, position_of=position) -> Rows:
    rows = Rows()
    for plan in plans:
        for order, item in enumerate(plan.items):
            seen = [order, *position_of(item)]
            rows.add(seen, bool(item.truth[0]), plan.feature, item.window.context)
    return rows


def fuzzing_rows(plans: list[Plan], kind: str) -> Rows:
    rows = Rows()
    for plan in plans:
        for order, item in enumerate(plan.items):
            if item.stratum in (FIRES, kind):
                seen = [order, *form_of_marks(item.marks[item.part])]
                rows.add(seen, bool(item.truth[0]), plan.feature, item.window.context)
    return rows


def intruder_rows(plans: list[Plan]) -> Rows:
    """Each of the five windows, by itself and against the others."""
    rows = Rows()
    for plan in plans:
        for order, item in enumerate(plan.items):
            shown = windows_shown(item)
            forms = np.array([form_of_marks(one.marks[one.part]) for one in shown])
            for place, (one, form) in enumerate(zip(shown, forms, strict=True), 1):
                seen = [order, place, *form, *(form - forms.mean(0))]
                is_intruder = place == item.truth[0]
                rows.add(seen, is_intruder, plan.feature, one.window.context)
    return rows


def test_detection_is_not_told_by_where_windows_lie(plans):
    assert detection_rows(plans["detection"]).auroc() == pytest.approx(0.5, abs=TOLERANCE)


@pytest.mark.parametrize("kind", ["within", "elsewhere"])
def test_fuzzing_is_not_told_by_its_marks(plans, kind):
    assert fuzzing_rows(plans["fuzzing"], kind).auroc() == pytest.approx(0.5, abs=TOLERANCE)


def test_intruders_are_not_told_by_their_marks(plans):
    assert intruder_rows(plans["intruder"]).auroc() == pytest.approx(0.5, abs=TOLERANCE)


def test_a_shortcut_would_be_found(plans):
    """Silent windows with a peak of their own would be told by it."""
    shortcut = detection_rows(
        plans["detection"], position_of=lambda item: [*position(item), item.window.peak]
    )
    assert shortcut.auroc() > 0.9


def test_most_features_have_their_windows(plans):
    assert np.median([len(plan.items) for plan in plans["fuzzing"]]) == 3 * WINDOWS["fuzzing"]
    assert np.median([len(plan.items) for plan in plans["intruder"]]) >= 5
