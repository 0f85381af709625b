"""Which scorers are asked for, and with what templates they ask."""

from pathlib import Path

from autointerp.config.scorer_settings import ScorerSettings
from autointerp.config.settings import RunConfig
from autointerp.prompting.prompts import Prompt, load_prompt
from autointerp.scoring import SCORERS, forms, has_template
from autointerp.scoring.experiment import Experiment, experiment_of
from autointerp.scoring.scorer import Scorer
from autointerp.stages.score import local_judges


def settings_of(config: RunConfig) -> dict[str, ScorerSettings]:
    """Scorer → its own settings, of all scorers."""
    return {name: config.settings_of(name, one.settings) for name, one in SCORERS.items()}


def chat_scorers(config: RunConfig) -> list[str]:
    """The scorers that ask a model's endpoint; without one, rules judge in its place."""
    return [name for name in config.scorer_names() if SCORERS[name].task]


def experiments_of(config: RunConfig) -> dict[str, Experiment]:
    """Scorer → its experiment, of those that have one."""
    found = {name: experiment_of(SCORERS[name]) for name in config.scorer_names()}
    return {name: experiment for name, experiment in found.items() if experiment is not None}


def chat_templates(config: RunConfig) -> list[str]:
    return [name for scorer in chat_scorers(config) for name in _ways(config, SCORERS[scorer])]


def _ways(config: RunConfig, scorer: Scorer) -> list[str]:
    """The templates of the ways in which the scorer may ask, the best first."""
    if not scorer.preferred_modes:
        return [scorer.name]
    mode = config.settings_of(scorer.name, scorer.settings).chosen_mode()
    return list(scorer.templates()) if mode == "auto" else [scorer.template(mode)]


def templates(config: RunConfig) -> list[str]:
    """The tasks for which a template is read."""
    asked: list[str] = []
    if config.uses_model():
        asked += chat_templates(config)
        asked += (task for one in experiments_of(config).values() for task in one.tasks)
    return [*asked, *(n for n in local_judges.names(config) if has_template(SCORERS[n]))]


def load_prompts(config: RunConfig) -> dict[str, Prompt]:
    """The templates by task.

    Raises AutointerpError where one cannot ask in the form that is set.
    """
    folder = Path(config.prompts)
    prompts = {name: load_prompt(name, folder) for name in templates(config)}
    for prompt in prompts.values():
        if prompt.task in SCORERS and SCORERS[prompt.task].forms:
            forms.check(prompt, config.judge_form)
    return prompts
