"""fade: what FADE measures with the subject model at hand, clarity and faithfulness.

The scorer itself judges windows that are there. Here a model writes texts for every label, the
coder says what the feature does on them, the subject model writes with the feature turned up, and
what it wrote is rated. Replies are in the journal, and what the subject model wrote is kept with
the run, so that a run that starts again pays for nothing twice.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from autointerp.activations.hooks import canonical_place
from autointerp.evidence.peaks import FoundPeaks, Peaks
from autointerp.evidence.window import Window
from autointerp.llm.wire.request import ChatRequest
from autointerp.progress import track
from autointerp.prompting.prompts import Prompt
from autointerp.scoring.experiment import Experiment, ExperimentLabels, Lab, Measured
from autointerp.scoring.judge import JudgeJob, JudgeSettings
from autointerp.scoring.scorer import Item, Judged, Plan
from autointerp.scoring.scorers import fade_measures
from autointerp.scoring.scorers.concept_texts import (
    TASK,
    TOKENS_A_TEXT,
    TextJob,
    Written,
    schema,
)
from autointerp.scoring.scorers.fade import FadeSettings
from autointerp.scoring.scorers.fade_measures import CLARITY, FAITHFULNESS, NAME
from autointerp.scoring.steered_subject import NEW_TOKENS, Steering, steering_files
from autointerp.storage.files import atomic_path
from autointerp.storage.parquet_files import write_parquet

NATURAL_TEXTS = 500  # of the corpus, with which texts of a concept are compared
_TEXTS = pa.schema(
    [
        ("feature", pa.int32()),
        ("number", pa.int32()),
        ("text", pa.string()),
        ("activation", pa.float32()),  # the feature's largest on it
    ]
)


def _settings(lab: Lab) -> FadeSettings:
    settings: FadeSettings = lab.settings
    return settings


def _judge(lab: Lab) -> JudgeSettings:
    assert lab.judge is not None
    return lab.judge


def missing(lab: Lab) -> dict[str, str]:
    """Metric → why it cannot be measured in this run, whatever the replies."""
    if lab.judge is None:
        why = "rules write no texts: name a model"
    elif lab.hook is None or lab.coder is None:
        why = "a cache was read, and they need the subject model: name --subject, --text, --sae"
    elif lab.coder.read_decoder is None:
        return {FAITHFULNESS: "the SAE has no decoder that writes where it reads"}
    elif (canonical_place(lab.hook) or ("", 0))[0] == "normalized":
        return {FAITHFULNESS: f"inside a norm, at {lab.hook}, nothing can be added"}
    else:
        return {}
    return {CLARITY: why, FAITHFULNESS: why}


def identity(lab: Lab) -> dict[str, Any]:
    """What clarity and faithfulness depend on, beside what all scores do."""
    settings, cannot = _settings(lab), missing(lab)
    prompt = lab.prompts.get(TASK)
    return {
        "texts": settings.texts,
        "prompt": None if CLARITY in cannot or prompt is None else prompt.hash,
        "factors": settings.steering_factors(),
        "continuations": settings.continuations,
        "missing": cannot,
        "subject": lab.made_from,
    }


def measure(lab: Lab, labels: ExperimentLabels, predict: Callable[[Judged], None]) -> Measured:
    """Ask, run the subject model, ask again; ends early where asking does."""
    measured = Measured()
    written = _written(lab, labels, measured)
    if measured.stopped is None:
        _measure_clarity(lab, labels, written, measured)
        if FAITHFULNESS not in missing(lab) and len(lab.corpus) > 0:
            _measure_faithfulness(lab, labels, predict, measured)
    return measured


def text_jobs(
    labels: Mapping[int, str], wanted: int, prompt: Prompt, judge: JudgeSettings
) -> Iterator[TextJob]:
    for feature, label in labels.items():
        yield TextJob(feature, label, wanted, prompt, judge.model, judge.temperature)


def _text_jobs(lab: Lab, labels: Mapping[int, str]) -> Iterator[TextJob]:
    return text_jobs(labels, _settings(lab).texts, lab.prompts[TASK], _judge(lab))


def _written(lab: Lab, labels: ExperimentLabels, measured: Measured) -> dict[int, Written]:
    """The texts for every label, by feature."""
    found: dict[int, Written] = {}
    with track("fade texts", len(labels.texts), "labels") as progress:

        def take(written: Written) -> None:
            found[written.feature] = written
            measured.spent.append(_spent(written))
            progress.advance()

        measured.asked["texts"], measured.stopped = lab.ask(
            lambda: _text_jobs(lab, labels.texts), take, progress
        )
    return found


def _spent(written: Written) -> Judged:
    return Judged(
        plan=Plan(written.feature, (), float("nan")),
        scorer=NAME,
        label_of=written.feature,
        judgments=(),
        prompt_tokens=written.prompt_tokens,
        completion_tokens=written.completion_tokens,
        cost_usd=written.cost_usd,
        error=written.error,
        unanswered=written.unanswered,
    )


def _measure_clarity(
    lab: Lab, labels: ExperimentLabels, written: Mapping[int, Written], measured: Measured
) -> None:
    """Texts of the concept against natural ones, both run alone, from their first token on.

    The natural ones are a uniform sample of the corpus's windows. They are run again, since of a
    window's features the sample keeps which fire but not how strongly, and since in the corpus a
    window has text before it, which a text that was written has not.
    """
    live, corpus = lab.subject, lab.corpus
    features = np.array(sorted(labels.texts))
    order = np.random.default_rng([lab.seed, 0xFADE]).permutation(len(corpus))
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
    for feature, other in labels.nulls.items():
        partner[feature] = other

    def wanted(found: FoundPeaks) -> FoundPeaks:
        of = owner[found.text]
        return found.where((found.feature == of) | (partner[found.feature] == of))

    concept = Peaks((wanted(f) for f in live.peaks(live.tokenized(texts))), len(texts))
    rows = []
    for feature in spans:
        background = natural.of(feature)
        own = concept.of(feature, *spans[feature])
        value = fade_measures.clarity(own, background, lab.seed)
        measured.own[CLARITY][feature] = value, written[feature].parse_rate()
        if labels.nulls.get(feature) in spans:
            against = concept.of(feature, *spans[labels.nulls[feature]])
            null = fade_measures.clarity(against, background, lab.seed)
            read = written[labels.nulls[feature]].parse_rate()
            measured.nulls[CLARITY][feature] = null, read
        for number, (text, peak) in enumerate(zip(written[feature].texts, own, strict=True)):
            rows.append(
                {"feature": feature, "number": number, "text": text, "activation": float(peak)}
            )
    lab.folder.mkdir(exist_ok=True)
    with atomic_path(lab.folder / "texts.parquet") as temporary:
        write_parquet(pa.Table.from_pylist(rows, schema=_TEXTS), temporary)


def _measure_faithfulness(
    lab: Lab, labels: ExperimentLabels, predict: Callable[[Judged], None], measured: Measured
) -> None:
    """Ratings of what the subject model writes with the feature turned up, and without."""
    settings, seed = _settings(lab), lab.seed
    steering = Steering(settings.steering_factors(), settings.continuations, seed, lab.folder)
    files = steering_files(lab.subject, lab.corpus, labels.maxima, steering, "fade steering")
    total = len(labels.texts) + len(labels.nulls)
    with track("fade ratings", total, "labels") as progress:

        def take(judged: Judged) -> None:
            predict(judged)
            value = fade_measures.faithfulness(judged.judgments, seed)
            if judged.label_of == judged.feature:
                measured.own[FAITHFULNESS][judged.feature] = value, judged.parse_rate()
            else:
                measured.nulls[FAITHFULNESS][judged.feature] = value, judged.parse_rate()
            error = judged.error if judged.label_of == judged.feature else None
            bare = replace(judged, plan=replace(judged.plan, items=()), judgments=(), error=error)
            measured.spent.append(bare)
            progress.advance()

        def jobs() -> Iterator[JudgeJob]:
            for feature, texts in files.read(lab.vocabulary):
                yield from _rating_jobs(lab, labels, feature, _items(texts, feature, seed))

        measured.asked["ratings"], measured.stopped = lab.ask(jobs, take, progress)


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


def _rating_jobs(
    lab: Lab, labels: ExperimentLabels, feature: int, items: Sequence[Item]
) -> Iterator[JudgeJob]:
    """Rate generated texts by the feature's own label and, for the null, another's."""
    label_of = [feature, *([labels.nulls[feature]] if feature in labels.nulls else [])]
    for other in label_of:
        yield JudgeJob(
            scorer=lab.scorer,
            plan=Plan(feature, items, float("nan")),
            label_of=other,
            label=labels.texts[other],
            prompt=lab.prompts[NAME],
            vocabulary=lab.vocabulary,
            settings=_judge(lab),
            todo=tuple(range(len(items))),
        )


def requests(lab: Lab, labels: ExperimentLabels) -> Iterator[tuple[ChatRequest, int]]:
    """What would be sent: what the subject model will write is taken as so many words."""
    settings, cannot = _settings(lab), missing(lab)
    if CLARITY in cannot:
        return
    for job in _text_jobs(lab, labels.texts):
        yield job.request(), TOKENS_A_TEXT // 2 * settings.texts
    if FAITHFULNESS in cannot:
        return
    factors = [0.0, *settings.steering_factors()]
    ids = np.zeros(NEW_TOKENS, dtype=np.int32)
    starts = range(settings.continuations)
    texts = [(m, n, ids, "word " * NEW_TOKENS) for m in factors for n in starts]
    items = _items(texts, 0, lab.seed)
    for feature in labels.texts:
        for rating in _rating_jobs(lab, labels, feature, items):
            yield from rating.requests()


def messages(lab: Lab, labels: Mapping[int, str], _task: str) -> Iterator[list[dict[str, str]]]:
    for texts in _text_jobs(lab, labels):
        yield texts.messages()


EXPERIMENT = Experiment(
    metrics=(CLARITY, FAITHFULNESS),
    missing=missing,
    identity=identity,
    measure=measure,
    tasks={TASK: tuple(schema(1).schema["properties"])},
    requests=requests,
    messages=messages,
)
