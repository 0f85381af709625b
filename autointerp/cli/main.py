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
from autointerp.cli.options import CONFIG_HELP, with_settings
from autointerp.config.loading import config_template, load_config
from autointerp.config.settings import RunConfig
from autointerp.errors import AutointerpError, ConfigurationError
from autointerp.plain_text import line_for_person
from autointerp.secrets import hide_environment, masked_stream
from autointerp.storage.files import unwritable
from autointerp.version import __version__

if TYPE_CHECKING:
    from autointerp.runs.session import Job

app = typer.Typer(
    help="Label the features of sparse autoencoders, and know how far each label can be trusted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
prompt_app = typer.Typer(help="Look at prompt templates.", no_args_is_help=True)
app.add_typer(prompt_app, name="prompt")

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Count requests, tokens and cost; send nothing.")
]
Yes = Annotated[
    bool, typer.Option("--yes", help="Go on with a model that was found to be of no use.")
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
        print("autointerp: stopped; the same command goes on from here", file=sys.stderr)
        raise typer.Exit(130) from None


def _run_stages(
    config: RunConfig, stages: tuple[str, ...], dry_run: bool = False, yes: bool = False
) -> None:
    from autointerp.pipeline import run_stages
    from autointerp.report.terminal import summary
    from autointerp.runs.session import open_job

    job = open_job(config, coder_needed=stages != ("capture",))
    with _stoppable():
        run_stages(job, stages, dry_run=dry_run, agrees=_agrees(yes))
    if not dry_run and job.run.labels.is_file():
        Console().print(summary(job.run))
        if "label" in stages:
            _exit_if_many_failed(job)


def _exit_if_many_failed(job: "Job") -> None:
    """Exit status 1 where a run cannot be called a success."""
    from autointerp.stages.label.label_stage import MANY_FAILED, failed

    lost = failed(job)
    if lost > MANY_FAILED * len(job.features):
        print(
            f"autointerp: {lost:,} of {len(job.features):,} features failed; `error` in "
            f"{job.run.labels} says why, and the same command tries them again",
            file=sys.stderr,
        )
        raise typer.Exit(1)


@app.command()
@with_settings()
def run(config: RunConfig, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Do the whole job: collect, label, score. Done stages are skipped.

    Activations are computed as they are needed and not stored, unless --cache names where.
    """
    from autointerp.pipeline import stages_of

    _run_stages(config, stages_of(config), dry_run, yes)


@app.command()
@with_settings()
def capture(config: RunConfig) -> None:
    """Run the subject model over text and store what the hook sees."""
    _run_stages(config, ("capture",))


@app.command()
@with_settings()
def collect(config: RunConfig) -> None:
    """Collect every feature's evidence from the cache, in one pass."""
    _run_stages(config, ("collect",))


@app.command()
@with_settings()
def label(config: RunConfig, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Label the collected features."""
    _run_stages(config, ("label",), dry_run, yes)


@app.command()
@with_settings()
def score(config: RunConfig, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Score the labels on windows the labeler never saw."""
    _run_stages(config, ("score",), dry_run, yes)


@app.command()
def config() -> None:
    """Print a TOML file with every setting at its default, commented."""
    print(config_template(), end="")


@prompt_app.command("show")
@with_settings()
def prompt_show(
    config: RunConfig,
    task: Annotated[str, typer.Argument(help="label, or a scorer that asks a model.")],
) -> None:
    """Print exactly what would be sent for the selected features."""
    from autointerp.runs.session import open_job
    from autointerp.stages.show_prompts import show

    if config.model is None:
        config = config.model_copy(update={"model": "MODEL"})
    print(show(open_job(config), task))


PromptsOption = Annotated[str | None, typer.Option("--prompts", help="The folder of templates.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help=CONFIG_HELP)]


def _prompts_folder(prompts: str | None, config: Path | None) -> Path:
    folder = Path(load_config(config, {"prompts": prompts}).prompts)
    if prompts is not None and not folder.is_dir():
        raise ConfigurationError(f"prompts {folder}: there is no such folder")
    return folder


@prompt_app.command("list")
def prompt_list(prompts: PromptsOption = None, config: ConfigOption = None) -> None:
    """Print each task's template: yours or the package's, its hash, its file, what it is for."""
    from autointerp.report.prompt_listing import listed
    from autointerp.stages.show_prompts import TEMPLATES

    for line in listed(_prompts_folder(prompts, config), TEMPLATES):
        print(line)


@prompt_app.command("check")
def prompt_check(
    folder: Annotated[str | None, typer.Argument(help="A folder of templates.")] = None,
    prompts: PromptsOption = None,
    config: ConfigOption = None,
) -> None:
    """Try every template on samples. Exit status 1 if one is broken."""
    from autointerp.report.prompt_listing import checked
    from autointerp.stages.show_prompts import TEMPLATES

    good = True
    for usable, line in checked(_prompts_folder(folder or prompts, config), TEMPLATES):
        print(line)
        good &= usable
    if not good:
        raise typer.Exit(1)


@prompt_app.command("diff")
def prompt_diff(
    runs: Annotated[list[str] | None, typer.Argument(help="Two runs, or nothing.")] = None,
    prompts: PromptsOption = None,
    config: ConfigOption = None,
) -> None:
    """Print how your templates differ from the package's, or those of one run from another's."""
    from autointerp.report.prompt_listing import differences, differences_of_runs
    from autointerp.runs.directory import find_run
    from autointerp.stages.show_prompts import TEMPLATES

    if not runs:
        lines = differences(_prompts_folder(prompts, config), TEMPLATES)
    elif len(runs) == 2:
        lines = differences_of_runs(find_run(runs[0]), find_run(runs[1]))
    else:
        raise ConfigurationError("prompt diff takes two runs, or none to compare with the package")
    for line in lines:
        print(line)


cache_app = typer.Typer(help="Look at activation caches.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")


@cache_app.command("info")
def cache_info(path: Annotated[Path, typer.Argument(help="The cache's folder or file.")]) -> None:
    """Print what an activation cache holds, and what it lacks."""
    from autointerp.report.sources import print_cache

    print_cache(path, Console())


@app.command()
@with_settings()
def doctor(config: RunConfig) -> None:
    """Check that coder and activations fit and, with --model, what the model can do.

    The model is asked some 30 requests about planted features: can it label, can it judge, in which
    form and how many at once? What it is best asked with is printed, and kept for --auto. With
    --model alone nothing else is checked. Exit status 1 if something is wrong.

    With --local-model, or --labeler local, a model on this machine is tried. Where one model labels
    and another judges, the labeler is tried: name each alone to try both.
    """
    from autointerp.report.probe_table import print_probes
    from autointerp.report.sources import print_check
    from autointerp.report.trial_findings import print_trial
    from autointerp.resources import language_model
    from autointerp.runs.session import model_job, open_job
    from autointerp.stages import model_trial
    from autointerp.stages.doctor import diagnose

    console = Console()
    checked, wrong = "", False
    config = config.to_be_tried()
    asks = config.uses_model()
    if asks and config.names_no_source():
        job = model_job(config)
    else:
        job = open_job(config)
        diagnosis = diagnose(job)
        print_check(diagnosis, console)
        checked = "the coder and the activations"
        wrong = bool(diagnosis.warnings)
    if asks:
        wrong |= print_probes(language_model.diagnose(job), console)
        with _stoppable(), job.run.locked():
            record = model_trial.try_model(job)
        wrong |= print_trial(record, config, job.run.trial, console)
        checked = "the coder, the activations and the model" if checked else "the model"
    if wrong:
        console.print("something is wrong: see the warnings", style="yellow")
        raise typer.Exit(1)
    console.print(f"nothing wrong was found with {checked}")


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
