"""fade: what FADE measures with the subject model at hand, clarity and faithfulness.

The scorer of the same name judges windows that are there. Here a model writes texts for every
label, the coder says what the feature does on them, the subject model writes with the feature
turned up, and what it wrote is rated. Replies are in the journal, and what the subject model wrote
is kept with the run, so that a run that starts again pays for nothing twice.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from autointerp.activations.hooks import canonical_place
from autointerp.evidence.corpus import Corpus
from autointerp.evidence.peaks import FoundPeaks, Peaks
from autointerp.evidence.window import Window
from autointerp.metrics.estimates import Estimate as Value
from autointerp.progress import say, track
from autointerp.prompting.prompts import Prompt
from autointerp.resources import language_model
from autointerp.resources.activation_source import made_from, stream_settings
from autointerp.resources.estimate import CostEstimate
from autointerp.runs.session import Job
from autointerp.scoring import SCORERS
from autointerp.scoring.judge import JudgeJob, JudgeSettings
from autointerp.scoring.scorebook import beside_nulls
from autointerp.scoring.scorer import Item, Judged, Plan, Score
from autointerp.scoring.scorers import fade
from autointerp.scoring.scorers.concept_texts import TASK, TOKENS_A_TEXT, TextJob, Written
from autointerp.stages.score.steered_subject import NEW_TOKENS, Live, open_live, steering_files
from autointerp.tables.write import PredictionWriter, write_table
from autointerp.vocabulary import Vocabulary

NAME = fade.NAME
NATURAL_TEXTS = 500  # of the corpus, with which texts of a concept are compared
_TEXTS = pa.schema(
    [
        ("feature", pa.int32()),
        ("number", pa.int32()),
        ("text", pa.string()),
        ("activation", pa.float32()),  # the feature's largest on it
    ]
)


@dataclass(frozen=True)
class ExperimentInputs:
    """What is measured: labels by feature, and for nulls the feature whose label takes its place.

    `maxima`: each labeled feature's largest activation in the corpus.
    """

    job: Job
    corpus: Corpus
    vocabulary: Vocabulary
    labels: Mapping[int, str]
    nulls: Mapping[int, int]
    maxima: Mapping[int, float]
    prompts: Mapping[str, Prompt]


@dataclass
class Measured:
    """Metric → feature → estimate and parse rate by its own label, and by another's."""

    own: dict[str, dict[int, tuple[Value, float]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    nulls: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    spent: list[Judged] = field(default_factory=list)  # without their judgments
    asked: dict[str, Any] = field(default_factory=dict)  # totals of the texts, of the ratings
    stopped: BaseException | None = None

    def scores(self) -> Iterator[Score]:
        for metric, own in self.own.items():
            yield from beside_nulls(fade.NAME, metric, own, self.nulls[metric])


def asks(job: Job) -> bool:
    """Whether a model is asked for texts."""
    return job.config.uses_model() and fade.NAME in job.config.scorer_names()


def missing(job: Job) -> dict[str, str]:
    """Metric → why it cannot be measured in this run, whatever the replies."""
    settings = stream_settings(job) if job.coder is not None else None
    if not job.config.uses_model():
        why = "rules write no texts: name a model"
    elif settings is None or job.coder is None:
        why = "a cache was read, and they need the subject model: name --subject, --text, --coder"
    elif job.coder.read_decoder is None:
        return {fade.FAITHFULNESS: "the coder has no decoder that writes where it reads"}
    elif (canonical_place(settings.hooks[0]) or ("", 0))[0] == "normalized":
        return {fade.FAITHFULNESS: f"inside a norm, at {settings.hooks[0]}, nothing can be added"}
    else:
        return {}
    return {fade.CLARITY: why, fade.FAITHFULNESS: why}


def identity(job: Job, prompt_hashes: Mapping[str, str]) -> dict[str, Any]:
    """What clarity and faithfulness depend on, beside what all scores do."""
    config = job.config
    settings = stream_settings(job)
    cannot = missing(job)
    return {
        "texts": config.fade_texts,
        "prompt": None if fade.CLARITY in cannot else prompt_hashes.get(TASK),
        "factors": config.steering_factors(),
        "continuations": config.fade_continuations,
        "missing": cannot,
        "subject": made_from(job, settings) if settings else None,
    }


@dataclass(frozen=True)
class PreparedExperiment:
    """The subject model, where it can be had, and metric → why it cannot be measured."""

    live: Live | None
    missing: Mapping[str, str]


def prepare(job: Job) -> PreparedExperiment:
    """Load the subject model, and say what will be missing. Raises AutointerpError."""
    cannot = missing(job)
    if cannot:
        say(f"score: {' and '.join(cannot)} will be missing: {next(iter(cannot.values()))}")
    return PreparedExperiment(None if fade.CLARITY in cannot else open_live(job), cannot)


def measure(
    inputs: ExperimentInputs,
    prepared: PreparedExperiment,
    answering: list[tuple[str, str]],
    writer: PredictionWriter,
) -> Measured:
    """Ask, run the subject model, ask again; ends early where asking does."""
    measured = Measured()
    live = prepared.live
    assert live is not None
    written = _written(inputs, answering, measured)
    if measured.stopped is None:
        _measure_clarity(inputs, live, written, measured)
        if fade.FAITHFULNESS not in prepared.missing and len(inputs.corpus) > 0:
            _measure_faithfulness(inputs, live, answering, writer, measured)
    return measured


def text_jobs(job: Job, labels: Mapping[int, str], prompt: Prompt) -> Iterator[TextJob]:
    config = job.config
    name = language_model.model_name(config)
    for feature, label in labels.items():
        yield TextJob(feature, label, config.fade_texts, prompt, name, config.temperature)


def _written(
    inputs: ExperimentInputs, answering: list[tuple[str, str]], measured: Measured
) -> dict[int, Written]:
    """The texts for every label, by feature."""
    found: dict[int, Written] = {}
    with track("fade texts", len(inputs.labels), "labels") as progress:

        def take(written: Written) -> None:
            found[written.feature] = written
            measured.spent.append(_spent(written))
            progress.advance()

        def jobs() -> Iterator[TextJob]:
            return text_jobs(inputs.job, inputs.labels, inputs.prompts[TASK])

        asked = language_model.ask(inputs.job, answering, jobs, take, progress)
    measured.asked["texts"] = asdict(asked.totals)
    measured.stopped = asked.stopped
    return found


def _spent(written: Written) -> Judged:
    return Judged(
        plan=Plan(written.feature, (), float("nan")),
        scorer=fade.NAME,
        label_of=written.feature,
        judgments=(),
        prompt_tokens=written.prompt_tokens,
        completion_tokens=written.completion_tokens,
        cost_usd=written.cost_usd,
        error=written.error,
        unanswered=written.unanswered,
    )


def _measure_clarity(
    inputs: ExperimentInputs, live: Live, written: Mapping[int, Written], measured: Measured
) -> None:
    """Texts of the concept against natural ones, both run alone, from their first token on.

    The natural ones are a uniform sample of the corpus's windows. They are run again, since of a
    window's features the sample keeps which fire but not how strongly, and since in the corpus a
    window has text before it, which a text that was written has not.
    """
    job, corpus = inputs.job, inputs.corpus
    features = np.array(sorted(inputs.labels))
    order = np.random.default_rng([job.config.seed, 0xFADE]).permutation(len(corpus))
    chosen = [corpus.token_ids(int(i)) for i in order[:NATURAL_TEXTS]]
    natural = Peaks(
        (f.where(np.isin(f.feature, features)) for f in live.peaks(chosen)), len(chosen)
    )
    texts: list[str] = []
    spans = {}
    for feature in sorted(written):
        spans[feature] = len(texts), len(texts) + len(written[feature].texts)
        texts += written[feature].texts
    owner = np.array([f for f, (begin, end) in spans.items() for _ in range(begin, end)], np.int64)
    partner = np.full(live.coder.features, -1, dtype=np.int64)
    for feature, other in inputs.nulls.items():
        partner[feature] = other

    def wanted(found: FoundPeaks) -> FoundPeaks:
        of = owner[found.text]
        return found.where((found.feature == of) | (partner[found.feature] == of))

    concept = Peaks((wanted(f) for f in live.peaks(live.tokenized(texts))), len(texts))
    rows = []
    for feature in spans:
        background = natural.of(feature)
        own = concept.of(feature, *spans[feature])
        value = fade.clarity(own, background, job.config.seed)
        measured.own[fade.CLARITY][feature] = value, written[feature].parse_rate()
        if inputs.nulls.get(feature) in spans:
            against = concept.of(feature, *spans[inputs.nulls[feature]])
            null = fade.clarity(against, background, job.config.seed)
            measured.nulls[fade.CLARITY][feature] = null.value
        for number, (text, peak) in enumerate(zip(written[feature].texts, own, strict=True)):
            rows.append(
                {"feature": feature, "number": number, "text": text, "activation": float(peak)}
            )
    job.run.fade.mkdir(exist_ok=True)
    write_table(rows, _TEXTS, job.run.fade / "texts.parquet")


def _measure_faithfulness(
    inputs: ExperimentInputs,
    live: Live,
    answering: list[tuple[str, str]],
    writer: PredictionWriter,
    measured: Measured,
) -> None:
    """Ratings of what the subject model writes with the feature turned up, and without."""
    files = steering_files(live, inputs.corpus, {f: inputs.maxima[f] for f in inputs.labels})
    total = len(inputs.labels) + len(inputs.nulls)
    with track("fade ratings", total, "labels") as progress:

        def take(judged: Judged) -> None:
            writer.add(judged)
            value = fade.faithfulness(judged.judgments, inputs.job.config.seed)
            if judged.label_of == judged.feature:
                measured.own[fade.FAITHFULNESS][judged.feature] = value, judged.parse_rate()
            else:
                measured.nulls[fade.FAITHFULNESS][judged.feature] = value.value
            error = judged.error if judged.label_of == judged.feature else None
            bare = replace(judged, plan=replace(judged.plan, items=()), judgments=(), error=error)
            measured.spent.append(bare)
            progress.advance()

        def jobs() -> Iterator[JudgeJob]:
            for feature, texts in files.read(inputs.vocabulary):
                items = _items(texts, feature, inputs.job.config.seed)
                yield from rating_jobs(inputs, feature, items)

        asked = language_model.ask(inputs.job, answering, jobs, take, progress)
    measured.asked["ratings"] = asdict(asked.totals)
    measured.stopped = asked.stopped


def _items(
    texts: Sequence[tuple[float, int, np.ndarray, str]], feature: int, seed: int
) -> list[Item]:
    """Generated texts to rate, in an order that says nothing of their factor."""
    items = []
    for factor, start, token_ids, text in texts:
        window = Window(
            kind="generated",
            split="score",
            rank=start,
            context=-1,
            start=0,
            peak=0,
            token_ids=token_ids,
            activations=np.zeros(len(token_ids), dtype=np.float32),
            text=text,
        )
        stratum = "steered" if factor else "unsteered"
        items.append(Item(window, stratum, np.array([factor], dtype=np.float32)))
    order = np.random.default_rng([seed, feature]).permutation(len(items))
    return [items[i] for i in order]


def rating_jobs(
    inputs: ExperimentInputs, feature: int, items: Sequence[Item]
) -> Iterator[JudgeJob]:
    """Rate generated texts by the feature's own label and, for the null, another's."""
    config = inputs.job.config
    settings = JudgeSettings(
        language_model.model_name(config), config.temperature, config.judge_items
    )
    label_of = [feature, *([inputs.nulls[feature]] if feature in inputs.nulls else [])]
    for other in label_of:
        yield JudgeJob(
            scorer=SCORERS[fade.NAME],
            plan=Plan(feature, items, float("nan")),
            label_of=other,
            label=inputs.labels[other],
            prompt=inputs.prompts[fade.NAME],
            vocabulary=inputs.vocabulary,
            settings=settings,
            todo=tuple(range(len(items))),
        )


def estimate(inputs: ExperimentInputs, total: CostEstimate) -> None:
    """Add what would be sent: what the subject model will write is taken as so many words."""
    config = inputs.job.config
    cannot = missing(inputs.job)
    if fade.CLARITY in cannot:
        return
    for job in text_jobs(inputs.job, inputs.labels, inputs.prompts[TASK]):
        total.add(job.request(), TOKENS_A_TEXT // 2 * config.fade_texts)
    if fade.FAITHFULNESS in cannot:
        return
    factors = [0.0, *config.steering_factors()]
    ids = np.zeros(NEW_TOKENS, dtype=np.int32)
    texts = [
        (m, n, ids, "word " * NEW_TOKENS) for m in factors for n in range(config.fade_continuations)
    ]
    items = _items(texts, 0, config.seed)
    for feature in inputs.labels:
        for rating in rating_jobs(inputs, feature, items):
            total.add_judging(rating)
