"""The course of a trial: what is asked next follows from what has come back."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autointerp.labeling.llm import LabelSettings
from autointerp.prompting.prompts import Prompt, load_prompt
from autointerp.scoring import forms
from autointerp.scoring.judge import JudgeSettings
from autointerp.scoring.scorer import Scorer
from autointerp.scoring.scorers import detection, fuzzing, simulation
from autointerp.trial import plan, verdict
from autointerp.trial.plan import Way
from autointerp.trial.tally import judge_ways
from autointerp.trial.tasks import JudgeTry, LabelTry, Tried

Try = LabelTry | JudgeTry
LABEL = "label"  # the task of the labels' template


def load_prompts(folder: Path) -> dict[str, Prompt]:
    """The templates that are tried, by task. Raises AutointerpError where one is broken."""
    tasks = (LABEL, detection.NAME, fuzzing.NAME, *simulation.SCORER.templates())
    return {task: load_prompt(task, folder) for task in tasks}


def find_out(
    ask: Callable[[Sequence[Try]], list[Tried]],
    prompts: Mapping[str, Prompt],
    labels: LabelSettings,
    judge: JudgeSettings,
    given: Mapping[str, Any],
    say: Callable[[str], None],
) -> list[Tried]:
    """Everything that was tried.

    First labels, every form of judging and every mode of simulation; then the best form once more,
    or the best two; then it is asked about more excerpts a request and, where none of that tells
    the judge from chance, about single ones. `given` are settings that need not be found out.
    """
    ways = _forms(prompts, given.get("judge_form"), say)
    items = plan.few_items(given.get("judge_items"))
    tries: list[Try] = []
    tries += plan.label_tries(prompts[LABEL], labels, given.get("features_per_request"))
    for form, way in ways.items():
        tries += plan.first_tries(judge, form, way, items)
    for mode, way in _modes(prompts, given.get("simulation_mode")).items():
        tries += plan.simulation_tries(judge, mode, way)
    tried = ask(tries)
    judged = judge_ways(tried)
    if not judged:
        return tried
    # The first look may have picked the wrong one of two, or neither is any better than a coin.
    candidates = [verdict.best_form(judged), verdict.second_form(judged)]
    tries = []
    for form in filter(None, candidates):
        tries += plan.further_tries(judge, form, ways[form], items)
    tried += ask(tries)
    form = verdict.best_form([way for way in judge_ways(tried) if way.form in candidates])
    is_open = "judge_items" not in given
    way = forms.ways(fuzzing.SCORER, form, prompts[fuzzing.NAME])
    more = [*plan.fuzzing_tries(judge, form, way)]
    if is_open:
        more += plan.many_tries(judge, form, ways[form], items)
    tried += ask(more)
    if is_open and not verdict.is_any_good(judge_ways(tried)):
        say("trial: no better than chance so far; trying one excerpt per request")
        tried += ask([*plan.single_tries(judge, form, ways[form])])
    return tried


def _forms(
    prompts: Mapping[str, Prompt], given: str | None, say: Callable[[str], None]
) -> dict[str, Way]:
    """The forms of judging to try: those in which the user's templates can ask.

    Raises AutointerpError where they cannot ask in the one that is given.
    """

    def ways(scorer: Scorer, form: str) -> Way:
        return forms.ways(scorer, form, prompts[scorer.name])

    if given is not None:
        way = ways(detection.SCORER, given)
        # With what takes its place where the endpoint does not allow it.
        return {str(task.mode or forms.LISTS): way[i:] for i, (task, _) in enumerate(way)}
    if not all("form" in prompts[name].variables for name in (detection.NAME, fuzzing.NAME)):
        say("trial: your templates only support lists, so no other form is tried")
        return {forms.LISTS: ways(detection.SCORER, forms.LISTS)}
    return {form: ways(detection.SCORER, form) for form in forms.FORMS}


def _modes(prompts: Mapping[str, Prompt], given: str | None) -> dict[str, Way]:
    """Each followed by the last, which every endpoint allows: where that one is asked for, the
    other is not to be had."""
    every = [(task, prompts[name]) for name, task in simulation.SCORER.templates().items()]
    return {
        str(task.mode): [(task, prompt)] if task is every[-1][0] else [(task, prompt), every[-1]]
        for task, prompt in every
        if given in (None, task.mode)
    }
