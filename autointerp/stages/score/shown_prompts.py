"""What judges would be sent, to look at."""

from collections.abc import Iterator
from pathlib import Path

from autointerp.plain_text import one_line
from autointerp.prompting.prompts import Prompt, load_prompt
from autointerp.resources.session import Session
from autointerp.scoring import SCORERS
from autointerp.scoring.experiment import experiment_of
from autointerp.scoring.planner import Planner
from autointerp.scoring.scorers.on_device import shown as read_on_device
from autointerp.stages.score.endpoint_judge import judge_jobs
from autointerp.stages.score.judged_labels import JudgedLabels
from autointerp.stages.score.judging import NOTHING
from autointerp.stages.score.laboratory import Laboratory
from autointerp.stages.stage import Messages
from autointerp.tables.write import read_drafts


def shown(judging: Session, task: str, planner: Planner) -> Iterator[Messages]:
    """What a judge is sent for each feature's own label, then whom nothing is sent for."""
    prompts = {task: load_prompt(task, Path(judging.config.prompts))}
    read = read_drafts(judging.run.drafts) if judging.run.drafts.is_file() else []
    drafts = {draft.feature: draft for draft in read}
    asked, skipped = [], []
    for feature in judging.features:
        draft = drafts.get(feature)
        if judging.store.statistics[feature]["n_active"] == 0:
            skipped.append(f"(no request for feature {feature}: it never fires)")
        elif draft is not None and draft.label is None:
            skipped.append(f"(no request for feature {feature}: {draft.error or draft.status})")
        else:
            asked.append(feature)
    labels = JudgedLabels(drafts, asked, {}, judging.store.statistics)
    for scorer in SCORERS.values():
        experiment = experiment_of(scorer)
        if experiment is not None and task in experiment.tasks:
            lab = Laboratory(judging, scorer, prompts)
            texts = {feature: labels.text(feature) for feature in asked}
            yield from experiment.messages(lab, texts, task)
    if task in SCORERS and SCORERS[task].task is None:
        yield from _read_here(planner, labels, prompts[task])
    for request in judge_jobs(judging.config, planner, labels, prompts):
        if request.plan.items:
            yield request.messages()
        else:
            skipped.append(f"(no request for feature {request.plan.feature}: {NOTHING})")
    yield from skipped


def _read_here(planner: Planner, labels: JudgedLabels, prompt: Prompt) -> Iterator[Messages]:
    """What a model on this machine reads: the template's blocks, then each window in its turn.

    Windows are shown on one line, as a terminal can take them; the model reads their line breaks.
    """
    for _, label_of, plan in planner.plans(labels.features, [prompt.task], labels.judged):
        if label_of != plan.feature:
            continue
        texts = (one_line(read_on_device(item.window)) for item in plan.items)
        windows = [{"role": "window", "content": text} for text in texts]
        yield prompt.messages(label=labels.text(plan.feature)) + windows
