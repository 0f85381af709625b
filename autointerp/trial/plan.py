"""What a trial asks: the requests of a run, made of planted evidence."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from autointerp.labeling.llm import LabelSettings, label_jobs
from autointerp.prompting.prompts import Prompt
from autointerp.scoring.judge import JudgeJob, JudgeSettings
from autointerp.scoring.scorer import Plan, Scorer, Task, TokenTask
from autointerp.scoring.scorers import detection, fuzzing, simulation
from autointerp.trial import concepts
from autointerp.trial.tasks import JudgeTry, LabelTry

Way = Sequence[tuple[Task | TokenTask, Prompt]]  # how to ask, and what to do where that fails

SIZES = (1, 4, 10)  # features in a request
FEW, MANY = 10, 24  # excerpts in a request
_ALONE = 6  # features that are asked about by themselves
_ANSWERS = 30  # of every form at first; the best is asked for as many again
_MAX_ROUNDS = 12  # in which they are asked for
_FURTHER_ROUNDS = 2  # of everything else
_FUZZING_ITEMS, _SIMULATION_WINDOWS = 12, 4
_SIMULATED = (0, 6)  # concepts whose active tokens are words
_ONE_BY_ONE = 24  # excerpts asked about by themselves, where all else fails


def label_tries(prompt: Prompt, settings: LabelSettings, given: int | None) -> Iterator[LabelTry]:
    """Labels one feature at a time and several at a time; `given`: so many, if it is settled."""
    every = range(len(concepts.concepts()))
    sizes = SIZES if given is None else dict.fromkeys((1, min(given, len(every))))
    for size in sizes:
        # A last request with fewer features would be another way of asking.
        features = every[::2][:_ALONE] if size == 1 else every[: len(every) // size * size]
        of_size = replace(settings, features_per_request=size)
        evidence = map(concepts.evidence, features)
        for job in label_jobs(evidence, prompt, concepts.vocabulary(), of_size):
            yield LabelTry(job)


def first_tries(settings: JudgeSettings, form: str, way: Way, items: int) -> Iterator[JudgeTry]:
    """Detection in one form, about so many excerpts a request."""
    for round_ in range(_rounds(items)):
        yield _detection(settings, form, way, items, round_)


def further_tries(settings: JudgeSettings, form: str, way: Way, items: int) -> Iterator[JudgeTry]:
    """As many answers again in one form."""
    for round_ in range(_rounds(items), 2 * _rounds(items)):
        yield _detection(settings, form, way, items, round_)


def many_tries(settings: JudgeSettings, form: str, way: Way, items: int) -> Iterator[JudgeTry]:
    """About more excerpts a request."""
    first = 2 * _rounds(items)
    for round_ in range(first, first + _FURTHER_ROUNDS):
        yield _detection(settings, form, way, MANY, round_)


def single_tries(settings: JudgeSettings, form: str, way: Way) -> Iterator[JudgeTry]:
    """Detection about one excerpt at a time: half of them have what the label says."""
    concept_count = len(concepts.concepts())
    for i in range(_ONE_BY_ONE):
        has = (i + i // concept_count) % 2
        plan = concepts.detection_plan(i % concept_count, 1, has, seed=100 + i)
        yield _judge(settings, detection.SCORER, form, way, plan)


def fuzzing_tries(settings: JudgeSettings, form: str, way: Way) -> Iterator[JudgeTry]:
    for feature in _features(0, _FURTHER_ROUNDS):
        plan = concepts.fuzzing_plan(feature, _FUZZING_ITEMS, seed=0)
        yield _judge(settings, fuzzing.SCORER, form, way, plan)


def simulation_tries(settings: JudgeSettings, mode: str, way: Way) -> Iterator[JudgeTry]:
    for feature in _SIMULATED:
        plan = concepts.simulation_plan(feature, _SIMULATION_WINDOWS, seed=0)
        yield _judge(settings, simulation.SCORER, mode, way, plan)


def few_items(given: int | None) -> int:
    """Excerpts in a request to begin with: an even number, half of which have the concept."""
    if given is None:
        return FEW
    return 1 if given == 1 else min(given, MANY) // 2 * 2


def _rounds(items: int) -> int:
    return min(-(-_ANSWERS // items), _MAX_ROUNDS)


def _features(first: int, n: int) -> Iterable[int]:
    """Different concepts of different sorts, one after another."""
    count = len(concepts.concepts())
    return (5 * i % count for i in range(first, first + n))


def _detection(settings: JudgeSettings, form: str, way: Way, items: int, round_: int) -> JudgeTry:
    (feature,) = _features(round_, 1)
    fires = items // 2 if items > 1 else round_ % 2
    plan = concepts.detection_plan(feature, items, fires, seed=round_)
    return _judge(settings, detection.SCORER, form, way, plan)


def _judge(settings: JudgeSettings, scorer: Scorer, name: str, way: Way, plan: Plan) -> JudgeTry:
    (task, prompt), *fallbacks = way
    job = JudgeJob(
        scorer=scorer,
        plan=plan,
        label_of=plan.feature,
        label=concepts.concepts()[plan.feature].label,
        prompt=prompt,
        vocabulary=concepts.vocabulary(),
        settings=replace(settings, items=max(1, len(plan.items))),
        todo=tuple(range(len(plan.items))),
        chosen_task=task,
        fallbacks=tuple(fallbacks),
    )
    return JudgeTry(job, name)
