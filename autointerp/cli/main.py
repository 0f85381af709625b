"""The command line: parses, calls, prints. No logic lives here."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from autointerp.cli import result_commands
from autointerp.cli.command import CommandGroup, command, group
from autointerp.config.activation_settings import ActivationSettings
from autointerp.config.evidence_settings import EvidenceSettings
from autointerp.config.labeling_settings import LabelingSettings
from autointerp.config.loading import config_template
from autointerp.config.model_settings import ModelSettings
from autointerp.config.run_settings import RunSettings
from autointerp.config.scoring_settings import ScoringSettings
from autointerp.config.settings import SECTIONS, RunConfig
from autointerp.errors import AutointerpError, ConfigurationError
from autointerp.plain_text import line_for_person
from autointerp.secrets import hide_environment, masked_stream
from autointerp.storage.files import unwritable
from autointerp.version import __version__

if TYPE_CHECKING:
    from autointerp.resources.session import Session

app = typer.Typer(
    cls=CommandGroup,
    help="Example: autointerp run outputs/first --features random:20\n\n"
    "Label the features of sparse autoencoders, and find out how far each label can be trusted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
prompt_app = group(app, "prompt", "autointerp prompt check", "Inspect prompt templates.")

DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Estimate requests, tokens and cost without sending anything."),
]
Yes = Annotated[
    bool,
    typer.Option("--yes", help="Continue even if the model was found to be no better than chance."),
]


def _agrees(yes: bool) -> Callable[[str], bool] | None:
    """How a question is answered; None where nobody is there to be asked."""
    if yes:
        return lambda _: True
    if not sys.stdin.isatty():
        return None
    return lambda question: typer.confirm(line_for_person(question), err=True)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Exit status 130 where Ctrl-C ends the block, with what was done so far kept."""
    try:
        yield
    except KeyboardInterrupt:
        print("autointerp: stopped; rerun the same command to resume", file=sys.stderr)
        raise typer.Exit(130) from None


def _run_stages(
    config: RunConfig, stages: tuple[str, ...], dry_run: bool = False, yes: bool = False
) -> None:
    from autointerp.pipeline import run_stages
    from autointerp.report.terminal import summary
    from autointerp.resources.session import open_session

    session = open_session(config, coder_needed=stages != ("capture",))
    with _stoppable():
        run_stages(session, stages, dry_run=dry_run, agrees=_agrees(yes))
    if not dry_run and session.run.labels.is_file():
        Console().print(summary(session.run))
        if "label" in stages:
            _exit_if_many_failed(session)


def _exit_if_many_failed(session: "Session") -> None:
    """Exit status 1 where a run cannot be called a success."""
    from autointerp.stages.label.label_stage import MANY_FAILED, failed

    lost = failed(session)
    if lost > MANY_FAILED * len(session.features):
        print(
            f"autointerp: {lost:,} of {len(session.features):,} features failed; the column "
            f"`error` of {session.run.labels} says why, and rerunning the same command retries "
            "them",
            file=sys.stderr,
        )
        raise typer.Exit(1)


@command(
    app,
    "autointerp run outputs/mine --sae hf:owner/sae --subject owner/model --text t.txt",
    uses=SECTIONS,
)
def run(config: RunConfig, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Collect evidence, label, score. Finished stages are skipped.

    Activations are not stored unless --cache is given.
    """
    from autointerp.pipeline import stages_of

    _run_stages(config, stages_of(config), dry_run, yes)


@command(
    app,
    "autointerp capture --subject owner/model --hook residual:20 --text t.txt --cache acts",
    uses=("out", "device", ActivationSettings),
)
def capture(config: RunConfig) -> None:
    """Run the subject model over text and store its activations at one or more hook points."""
    _run_stages(config, ("capture",))


@command(
    app,
    "autointerp collect outputs/mine --sae my/sae --cache acts",
    uses=(RunSettings, ActivationSettings, EvidenceSettings, "tier", "candidates"),
)
def collect(config: RunConfig) -> None:
    """Collect every feature's evidence, in one pass over the activations."""
    _run_stages(config, ("collect",))


@command(
    app,
    "autointerp label outputs/mine --sae my/sae --model gpt-5-nano --budget 5",
    uses=(
        "out",
        "features",
        "seed",
        "device",
        "auto",
        ActivationSettings,
        LabelingSettings,
        ModelSettings,
    ),
)
def label(config: RunConfig, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Label the collected features."""
    _run_stages(config, ("label",), dry_run, yes)


@command(
    app,
    "autointerp score outputs/mine --sae my/sae --model gpt-5-nano --scorers detection,fuzzing",
    uses=(RunSettings, ActivationSettings, "labeler", "prompts", ModelSettings, ScoringSettings),
)
def score(config: RunConfig, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Score the labels on windows the labeler never saw."""
    _run_stages(config, ("score",), dry_run, yes)


@command(app, "autointerp config > run.toml")
def config() -> None:
    """Print a TOML file with every setting, commented out at its default."""
    print(config_template(), end="")


@command(
    prompt_app,
    "autointerp prompt show label outputs/mine --features 12",
    name="show",
    uses=("out", "features", "coder", "cache", LabelingSettings, ModelSettings, ScoringSettings),
)
def prompt_show(
    config: RunConfig,
    task: Annotated[str, typer.Argument(help="label, or a scorer that asks a model.")],
) -> None:
    """Print the exact prompts that would be sent for the selected features."""
    from autointerp.resources.session import open_session
    from autointerp.stages.show_prompts import show

    if config.model is None:
        config = config.model_copy(update={"model": "MODEL"})
    print(show(open_session(config), task))


def _prompts_folder(config: RunConfig, named: str | None = None) -> Path:
    folder = Path(named or config.prompts)
    if (named or "prompts" in config.model_fields_set) and not folder.is_dir():
        raise ConfigurationError(f"prompts {folder}: no such folder")
    return folder


@command(prompt_app, "autointerp prompt list", name="list", uses=("prompts",))
def prompt_list(config: RunConfig) -> None:
    """List the template of each task: whose it is, its hash, its file, its purpose."""
    from autointerp.report.prompt_listing import listed
    from autointerp.stages.show_prompts import TEMPLATES

    for line in listed(_prompts_folder(config), TEMPLATES):
        print(line)


@command(prompt_app, "autointerp prompt check my/prompts", name="check", uses=("prompts",))
def prompt_check(
    config: RunConfig,
    folder: Annotated[str | None, typer.Argument(help="A folder of templates.")] = None,
) -> None:
    """Render every template with sample data. Exit status 1 if one is broken."""
    from autointerp.report.prompt_listing import checked
    from autointerp.stages.show_prompts import TEMPLATES

    good = True
    for usable, line in checked(_prompts_folder(config, folder), TEMPLATES):
        print(line)
        good &= usable
    if not good:
        raise typer.Exit(1)


@command(prompt_app, "autointerp prompt diff outputs/a outputs/b", name="diff", uses=("prompts",))
def prompt_diff(
    config: RunConfig,
    runs: Annotated[list[str] | None, typer.Argument(help="Two runs, or nothing.")] = None,
) -> None:
    """Print how your templates differ from the package's, or one run's from another's."""
    from autointerp.report.prompt_listing import differences, differences_of_runs
    from autointerp.runs.directory import find_run
    from autointerp.stages.show_prompts import TEMPLATES

    if not runs:
        lines = differences(_prompts_folder(config), TEMPLATES)
    elif len(runs) == 2:
        lines = differences_of_runs(find_run(runs[0]), find_run(runs[1]))
    else:
        raise ConfigurationError(
            "prompt diff takes two runs, or none (to compare your templates with the package's)"
        )
    for line in lines:
        print(line)


cache_app = group(app, "cache", "autointerp cache info acts", "Inspect activation caches.")


@command(cache_app, "autointerp cache info outputs/mine/cache", name="info")
def cache_info(path: Annotated[Path, typer.Argument(help="The cache's folder or file.")]) -> None:
    """Print what an activation cache contains, and what is missing."""
    from autointerp.report.sources import print_cache

    print_cache(path, Console())


@command(
    app,
    "autointerp doctor --sae my/sae --cache acts --model gpt-5-nano",
    uses=(
        "out",
        "seed",
        "device",
        ActivationSettings,
        "masks",
        "labeler",
        "prompts",
        "judge",
        ModelSettings,
    ),
)
def doctor(config: RunConfig) -> None:
    """Check that SAE and activations fit and, with --model, what the model can do.

    Some 30 requests about planted features show whether the model can label and judge, in which
    form, and how many items at once. The best settings are printed, and kept for --auto. With only
    --model, nothing else is checked. Exit status 1 if something is wrong.

    With --local-model or --labeler local, a model on this machine is tested. If one model labels
    and another judges, the labeler is tested; run the command on each to test both.
    """
    from autointerp.report.probe_table import print_probes
    from autointerp.report.sources import print_check
    from autointerp.report.trial_findings import print_trial
    from autointerp.resources.language_model import diagnose as diagnose_model
    from autointerp.resources.session import model_session, open_session
    from autointerp.stages import model_trial
    from autointerp.stages.doctor import diagnose

    console = Console()
    checked, wrong = "", False
    config = config.to_be_tried()
    asks = config.uses_model()
    if asks and config.names_no_source():
        session = model_session(config)
    else:
        session = open_session(config)
        diagnosis = diagnose(session)
        print_check(diagnosis, console)
        checked = "the SAE and the activations"
        wrong = bool(diagnosis.warnings)
    if asks:
        wrong |= print_probes(diagnose_model(session.model), console)
        with _stoppable(), session.run.locked():
            record = model_trial.try_model(session)
        wrong |= print_trial(record, config, session.run.trial, console)
        checked = "the SAE, the activations and the model" if checked else "the model"
    if wrong:
        console.print("problems found: see the warnings above", style="yellow")
        raise typer.Exit(1)
    console.print(f"no problems found with {checked}")


app.add_typer(result_commands.app)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run a command; a user's mistake is one line on standard error and exit status 2."""
    hide_environment()
    sys.stdout, sys.stderr = masked_stream(sys.stdout), masked_stream(sys.stderr)
    try:
        try:
            app(prog_name="autointerp")
        finally:
            sys.stdout.flush()
    except AutointerpError as error:
        print(line_for_person(f"autointerp: {error}"), file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        said = unwritable(Path(error.filename or "the output"), error)
        if error.filename is None:
            # What is left in the buffer would fail once more as Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        print(line_for_person(f"autointerp: {said}"), file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
