"""Prompts to look at: what would be sent for the selected features, whatever the task."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from autointerp.errors import ConfigurationError
from autointerp.labeling.label_reply import reply_schema
from autointerp.labeling.labeler import Draft
from autointerp.plain_text import line_for_person, one_line
from autointerp.prompting.prompts import Prompt, load_prompt
from autointerp.runs.session import Job
from autointerp.scoring import SCORERS, has_template
from autointerp.scoring.scorer import Task
from autointerp.scoring.scorers import concept_texts
from autointerp.scoring.scorers.on_device import shown
from autointerp.stages.label import label_stage
from autointerp.stages.score import fade_experiment, judging
from autointerp.tables.write import read_drafts

_ASKED = {name: task for s in SCORERS.values() for name, task in s.templates().items()}
# Task → the keys of the JSON object that its replies are; none where they are not JSON.
TEMPLATES: dict[str, tuple[str, ...]] = {
    label_stage.NAME: tuple(reply_schema([1]).schema["properties"]),
    **{name: task.keys() if isinstance(task, Task) else () for name, task in _ASKED.items()},
    **{name: () for name, s in SCORERS.items() if s.task is None and has_template(s)},
    concept_texts.TASK: tuple(concept_texts.schema(1).schema["properties"]),
}


def show(job: Job, task: str) -> str:
    """The messages of all requests of the task for the selected features, exactly as sent.

    Before there are labels a judge's prompts have a placeholder in their place. Raises
    AutointerpError.
    """
    if task not in TEMPLATES:
        raise ConfigurationError(
            f"prompt show {task}: there is no such task, only {', '.join(TEMPLATES)}"
        )
    shown = []
    for messages in (
        label_stage.prompts_shown(job)
        if task == label_stage.NAME
        else _judging(job.judging(), task)
    ):
        if isinstance(messages, str):
            shown.append(line_for_person(messages))
        else:
            shown += [f"--- {m['role']} ---\n{m['content']}" for m in messages]
    return "\n".join(shown)


def _judging(job: Job, task: str) -> Iterator[list[dict[str, str]] | str]:
    """What a judge is sent for each feature's own label, then whom nothing is sent for."""
    inputs = judging.JudgingInputs(job)
    prompts = {task: load_prompt(task, Path(job.config.prompts))}
    read = read_drafts(job.run.drafts) if job.run.drafts.is_file() else []
    drafts = {draft.feature: draft for draft in read}
    asked, skipped = [], []
    for feature in job.features:
        draft = drafts.get(feature)
        if inputs.store.statistics[feature]["n_active"] == 0:
            skipped.append(f"(feature {feature} is not judged: it never fires)")
        elif draft is not None and draft.label is None:
            skipped.append(f"(feature {feature} is not judged: {draft.error or draft.status})")
        else:
            asked.append(feature)
    if task == concept_texts.TASK:
        labels = {f: judging.label_shown(drafts, f) for f in asked}
        for texts in fade_experiment.text_jobs(job, labels, prompts[task]):
            yield texts.messages()
    elif task in SCORERS and SCORERS[task].task is None:
        yield from _read_here(inputs, drafts, asked, prompts[task])
    for request in judging.judge_jobs(inputs, drafts, asked, {}, prompts):
        if request.plan.items:
            yield request.messages()
        else:
            skipped.append(f"(feature {request.plan.feature} is not judged: {judging.NOTHING})")
    yield from skipped


def _read_here(
    inputs: judging.JudgingInputs, drafts: Mapping[int, Draft], features: list[int], prompt: Prompt
) -> Iterator[list[dict[str, str]]]:
    """What a model on this machine reads: the template's blocks, then each window in its turn.

    Windows are shown on one line, as a terminal can take them; the model reads their line breaks.
    """
    for _, plan in inputs.plans(features, [prompt.task]):
        label = judging.label_shown(drafts, plan.feature)
        texts = (one_line(shown(item.window)) for item in plan.items)
        windows = [{"role": "window", "content": text} for text in texts]
        yield prompt.messages(label=label) + windows
