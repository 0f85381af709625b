"""autointerp from Python: the whole job, or a stage of it, over files or things in memory."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from autointerp.activations.record_reading import TokenMarks
from autointerp.coders import SparseCoder
from autointerp.config.settings import RunConfig
from autointerp.errors import OutOfBudgetError
from autointerp.given import naming_arguments, taken
from autointerp.llm.local.function_client import ChatFunction
from autointerp.loops import Beside
from autointerp.pipeline import run_stages, stages_of
from autointerp.resources.session import open_session
from autointerp.results import RunResults
from autointerp.runs.directory import Run
from autointerp.secrets import hide_environment
from autointerp.tables.migrate import open_table

P = ParamSpec("P")
T = TypeVar("T")
_SCORE = "score"
_CALL = ("config", "dry_run", "yes")  # arguments about the call itself


def run(
    *,
    subject: Any = None,
    tokenizer: Any = None,
    sae: str | Path | SparseCoder | Any = None,
    text: str | Path | Iterable[Any] | None = None,
    activations: Any = None,
    token_ids: Any = None,
    mask: Any = None,
    evidence: Any = None,
    labeler: str | ChatFunction | None = None,
    judge: str | ChatFunction | None = None,
    features: str | int | Iterable[int] | None = None,
    out: str | Path | None = None,
    config: str | Path | None = None,
    dry_run: bool = False,
    yes: bool = False,
    **settings: Any,
) -> RunResults:
    """Do the whole job: collect, label, score. Stages that are done are skipped.

    - subject: a path or name, or a model of transformers with its `tokenizer`.
    - sae: a path or name, a `SparseCoder`, an SAE of SAELens, or an object with `encode`.
    - text: a path or name, strings, conversations, or a data set of `datasets`.
    - activations, [contexts, length, d], with token_ids, [contexts, length], instead of subject
      and text; mask is false where there is padding, tokenizer says what the ids mean.
    - evidence, in the place of all these: a mapping from each feature to its excerpts, each the
      texts of its tokens and the feature's activations on them; or a frame with columns feature,
      tokens and activations.
    - labeler, judge: as on the command line, or a function, plain or asynchronous, that takes
      messages and returns text.
    - features: as on the command line, or numbers.
    - config: a TOML file of settings. dry_run: estimate requests, tokens and cost without sending
      anything. yes: continue even if the model was found to be no better than chance.

    All other settings are those of the command line, by the same names, and come before
    AUTOINTERP_* variables and the file. Raises AutointerpError; KeyboardInterrupt where it is
    stopped, with all that came kept.
    """
    given = {name: value for name, value in locals().items() if name != "settings"}
    return _done(given | settings)


def _done(given: Mapping[str, Any], only: tuple[str, ...] | None = None) -> RunResults:
    """The run, with the stages done that are asked for; without `only` all of them."""
    hide_environment()
    own = inspect.signature(run).parameters.keys() - {"settings"}
    found = taken({n: v for n, v in given.items() if n not in _CALL}, own)
    file = Path(given["config"]) if given.get("config") else None
    with naming_arguments(), found.in_use():
        config = found.config(file)
        stages = stages_of(config) if only is None else only
        parts = [(config, stages)]
        if found.judging:
            judging = found.config(file, judging=True)
            parts = [(config, tuple(s for s in stages if s != _SCORE))]
            parts += [(judging, (_SCORE,))] * (_SCORE in stages)
        for settings, these in parts:
            if these:
                _run(settings, these, given)
        _check_budget(config, Run(config.run_path()))
        return RunResults(config.run_path())


def _run(config: RunConfig, stages: tuple[str, ...], given: Mapping[str, Any]) -> None:
    session = open_session(config, coder_needed=stages != ("capture",))
    agrees = (lambda _: True) if given.get("yes") else None
    run_stages(session, stages, dry_run=bool(given.get("dry_run")), agrees=agrees)


def _check_budget(config: RunConfig, files: Run) -> None:
    """Raises OutOfBudgetError where something was not asked for want of money."""
    if config.budget is None or not files.labels.is_file():
        return
    rows = open_table(files.labels).read(columns=["status", "error"]).to_pylist()
    unasked = [
        row["status"] == "over_budget" or "the budget of $" in (row["error"] or "") for row in rows
    ]
    if any(unasked):
        raise OutOfBudgetError(
            f"the budget of ${config.budget:g} is used up: {sum(unasked):,} of {len(unasked):,} "
            f"features in {files.path} are not finished; a higher budget resumes from there"
        )


def _as_run_takes(_: Callable[P, Any]) -> Callable[[Callable[..., T]], Callable[P, T]]:
    """Types and shows a function as one that takes what `run` takes."""

    def typed(function: Callable[..., T]) -> Callable[P, T]:
        returned = inspect.signature(function).return_annotation
        signature = inspect.signature(run).replace(return_annotation=returned)
        function.__signature__ = signature  # type: ignore[attr-defined]
        return function

    return typed


@_as_run_takes(run)
async def arun(**given: Any) -> RunResults:
    """`run` for `await`: the caller's loop goes on meanwhile. Canceling it stops the run, which
    writes what it has first."""
    return await Beside(lambda: run(**given)).outcome()


@_as_run_takes(run)
def capture(**given: Any) -> RunResults:
    """Run the subject model over the text and store its activations. Takes what `run` takes."""
    return _done(given, ("capture",))


@_as_run_takes(run)
def collect(**given: Any) -> RunResults:
    """Collect the evidence of every feature, in one pass. Takes what `run` takes."""
    return _done(given, ("collect",))


@_as_run_takes(run)
def label(**given: Any) -> RunResults:
    """Label the features that were collected. Takes what `run` takes."""
    return _done(given, ("label",))


@_as_run_takes(run)
def score(**given: Any) -> RunResults:
    """Score the labels on windows that the labeler did not see. Takes what `run` takes."""
    return _done(given, ("score",))


def import_activations(
    files: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    format: str | None = None,
    tokenizer: str | None = None,
    token_marks: TokenMarks = "none",
    all_for_labeling: bool = False,
    allow_negative: bool = False,
    name: str | None = None,
    config: str | Path | None = None,
    **settings: Any,
) -> RunResults:
    """Make a run of activation records in files; `label(out=…)` and `score(out=…)` go on with it.

    - files: files, or folders of them; their formats are told by content, or by `format`.
    - tokenizer: whose token ids the records have in the place of texts: a path or name.
    - token_marks: `byte-level` or `sentencepiece` where tokens stand as in a vocabulary (Ġ, ▁).
    - all_for_labeling: keep no records for scoring labels.
    - allow_negative: negative activations count as inactive, as of neurons and plain directions.
    - name: what tables call the SAE.

    Other settings are those of `autointerp import activations`. Raises AutointerpError.
    """
    from autointerp.stages.import_records import ImportOptions
    from autointerp.stages.import_records import import_activations as make

    hide_environment()
    paths = [files] if isinstance(files, str | Path) else files
    options = ImportOptions(format, tokenizer, token_marks, all_for_labeling, allow_negative, name)
    with naming_arguments():
        found = taken({"out": out} | settings, ())
        chosen = found.config(Path(config) if config is not None else None)
        run = make([Path(path) for path in paths], chosen, options)
    return RunResults(run.path)


def open_run(path: str | Path) -> RunResults:
    """A run that is there, finished or not. Raises InputError where there is none."""
    return RunResults(path)
