"""What a stage is. Each is described in a file of its own; `stage_list` has them in their order."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from autointerp.config.settings import RunConfig
from autointerp.errors import NotDoneError
from autointerp.progress import say
from autointerp.resources.session import Session

# The messages of a request, as sent; or, as a line, whom none is sent for and why.
Messages = list[dict[str, str]] | str


@dataclass(frozen=True)
class ModelUse:
    """That a stage asks the model of the session's settings, and what for."""

    session: Session
    labels: bool = False
    judges: bool = False


@dataclass(frozen=True)
class Stage:
    """One step of a run; what a session lacks, or what is wrong with it, is an AutointerpError.

    `inputs`: a hash of all that the result depends on, to be asked for once `needs` names nothing
    that has to be made before. `is_done`: whether the result is there, from these inputs, and
    nothing is left that another try may mend; `already` then says so. `run` makes it. `check` finds
    what is bound to fail, before a file is touched or a cent spent. `is_wanted`: whether a whole
    run has the stage.

    Of a stage that asks a model: `uses_model`, and the `templates` that the session's settings ask
    with; `estimate`, what a dry run says in its place; `prompts`, what would be sent for a task of
    `tasks`, which has the keys of the JSON object that replies to it are.
    """

    name: str
    inputs: Callable[[Session], str]
    is_done: Callable[[Session, str], bool]
    already: Callable[[Session], str]
    run: Callable[[Session, str], None]
    needs: Callable[[Session], str | None] = lambda _: None
    check: Callable[[Session], None] = lambda _: None
    is_wanted: Callable[[RunConfig], bool] = lambda _: True
    uses_model: Callable[[Session], ModelUse | None] = lambda _: None
    templates: Callable[[Session], list[str]] = lambda _: []
    estimate: Callable[[Session], list[str]] | None = None
    tasks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    prompts: Callable[[Session, str], Iterator[Messages]] = lambda *_: iter(())


def do(stage: Stage, session: Session) -> None:
    """Run the stage, unless it is done from the same inputs. Raises AutointerpError."""
    if missing := stage.needs(session):
        raise NotDoneError(missing)
    inputs = stage.inputs(session)
    if stage.is_done(session, inputs):
        say(f"{stage.name}: {stage.already(session)}")
    else:
        stage.run(session, inputs)
