"""Prompts to look at: what would be sent for the selected features, whatever the task."""

from autointerp.errors import ConfigurationError
from autointerp.plain_text import line_for_person
from autointerp.resources.session import Session
from autointerp.stages.stage_list import STAGES

# Task → the keys of the JSON object that its replies are; none where they are not JSON.
TEMPLATES = {task: keys for stage in STAGES for task, keys in stage.tasks.items()}


def show(session: Session, task: str) -> str:
    """The messages of all requests of the task for the selected features, exactly as sent.

    Before there are labels a judge's prompts have a placeholder in their place. Raises
    AutointerpError.
    """
    if task not in TEMPLATES:
        raise ConfigurationError(
            f"prompt show {task}: not a task; tasks are {', '.join(TEMPLATES)}"
        )
    (stage,) = (stage for stage in STAGES if task in stage.tasks)
    shown = []
    for messages in stage.prompts(session, task):
        if isinstance(messages, str):
            shown.append(line_for_person(messages))
        else:
            shown += [f"--- {m['role']} ---\n{m['content']}" for m in messages]
    return "\n".join(shown)
