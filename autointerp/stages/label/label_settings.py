"""What the labeler is told by a run's settings."""

from pathlib import Path

from autointerp.config.settings import RunConfig
from autointerp.labeling.candidates import views
from autointerp.labeling.excerpts import Shown
from autointerp.labeling.llm import LabelSettings
from autointerp.prompting.prompts import Prompt, load_prompt
from autointerp.resources import model_facts
from autointerp.rules import lexical

TASK = "label"


def labeler_name(config: RunConfig) -> str:
    return model_facts.model_name(config) if config.uses_model() else lexical.NAME


def label_prompt(config: RunConfig) -> Prompt:
    return load_prompt(TASK, Path(config.prompts))


def settings_of(config: RunConfig) -> LabelSettings:
    return LabelSettings(
        model=model_facts.model_name(config),
        temperature=config.temperature,
        features_per_request=config.features_per_request,
        shown=Shown(
            top=config.label_top,
            quantiles=config.label_quantiles,
            activations=config.label_activations,
            contrast=config.label_contrast,
            output_tokens=config.label_output_tokens,
        ),
        meanings=config.label_meanings,
    )


def views_of(config: RunConfig) -> list[Shown]:
    return views(settings_of(config).shown, config.candidates, config.sample_windows)
