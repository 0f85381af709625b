"""A language model as judge, at an endpoint or in this process: asked through the pool."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace

from autointerp.config.settings import RunConfig
from autointerp.llm.totals import PoolTotals
from autointerp.metrics.sequential import anytime_balanced_accuracy
from autointerp.progress import Tracker
from autointerp.prompting.prompts import Prompt
from autointerp.resources import model_facts
from autointerp.resources.language_model import LanguageModel
from autointerp.runs.record import ScoreRecord
from autointerp.scoring import SCORERS, forms
from autointerp.scoring.again import CarefulJob
from autointerp.scoring.judge import JudgeJob, JudgeSettings
from autointerp.scoring.planner import Planner
from autointerp.scoring.scorer import Judged, Scorer, Task, TokenTask
from autointerp.stages.score.judged_labels import JudgedLabels
from autointerp.stages.score.judging import Take, is_judged_by_rule, judged_by


@dataclass
class EndpointJudge:
    model: LanguageModel
    prompts: Mapping[str, Prompt]
    _totals: PoolTotals = field(default_factory=PoolTotals)

    def judge(
        self, planner: Planner, labels: JudgedLabels, take: Take, progress: Tracker
    ) -> BaseException | None:
        config = self.model.config
        empty: dict[tuple[str, int, int], Judged] = {}

        def jobs() -> Iterator[CarefulJob]:
            for one in judge_jobs(config, planner, labels, self.prompts):
                if one.todo:
                    yield CarefulJob(one, asks_again=not config.batch)
                else:
                    key = one.scorer.name, one.plan.feature, one.label_of
                    empty[key] = judged_by(one.scorer, one.plan, one.label_of, [])

        asked = self.model.ask(jobs, take, progress)
        for judged in empty.values():
            take(judged)
        self._totals = asked.totals
        return asked.stopped

    def note(self, details: ScoreRecord) -> None:
        details.asked = asdict(self._totals)


def judge_settings(config: RunConfig) -> JudgeSettings:
    name = model_facts.model_name(config)
    return JudgeSettings(name, config.temperature, config.judge_items)


def judge_jobs(
    config: RunConfig, planner: Planner, labels: JudgedLabels, prompts: Mapping[str, Prompt]
) -> Iterator[JudgeJob]:
    """All that is to be judged by the templates there are, whatever is not judged by rules."""
    settings, ways = judge_settings(config), _ways(prompts, config.judge_form)
    for scorer, label_of, plan in planner.plans(
        labels.features, ways, labels.judged, labels.all_known()
    ):
        if is_judged_by_rule(scorer, labels.drafts.get(plan.feature), config.judge):
            continue
        (task, prompt), *fallbacks = ways[scorer.name]
        fixed = scorer.protocol
        yield JudgeJob(
            scorer=scorer,
            plan=plan,
            label_of=label_of,
            label=labels.text(label_of),
            prompt=prompt,
            vocabulary=planner.vocabulary,
            settings=settings if fixed is None else replace(settings, items=fixed.items),
            todo=tuple(range(len(plan.items))),
            enough=_enough(scorer, config.precision),
            chosen_task=task,
            fallbacks=tuple(fallbacks),
        )


def _ways(
    prompts: Mapping[str, Prompt], form: str
) -> Mapping[str, list[tuple[Task | TokenTask, Prompt]]]:
    """Scorer → how it may ask by these templates, the best way first."""
    ways: dict[str, list[tuple[Task | TokenTask, Prompt]]] = defaultdict(list)
    for scorer in SCORERS.values():
        if scorer.forms and scorer.name in prompts:
            ways[scorer.name] += forms.ways(scorer, form, prompts[scorer.name])
            continue
        for template, task in scorer.templates().items():
            if template in prompts:
                ways[scorer.name].append((task, prompts[template]))
    return ways


def _enough(scorer: Scorer, precision: float | None) -> Callable[[Judged], bool] | None:
    """Whether the interval is as narrow as is asked for; None where all is to be judged."""
    counts = scorer.counts
    if counts is None or precision is None:
        return None

    def narrow(judged: Judged) -> bool:
        found = anytime_balanced_accuracy(counts(judged))
        return found.n > 0 and (found.ci_high - found.ci_low) / 2 <= precision

    return narrow
