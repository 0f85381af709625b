"""Commands that inspect an existing run, export from it or import into it."""

import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from autointerp.cli.command import CommandGroup, command, group
from autointerp.config.model_settings import ModelSettings
from autointerp.config.settings import RunConfig
from autointerp.errors import ConfigurationError, MissingPackageError
from autointerp.plain_text import counted, json_line, line_for_person

app = typer.Typer(cls=CommandGroup)
journal_app = group(
    app,
    "journal",
    "autointerp journal info outputs/mine",
    "Inspect a run's journal of replies.",
)

Named = str | None  # a run, as `command` lets it be named
_FORMAT_HELP = "One of the formats above."


@command(journal_app, "autointerp journal info outputs/mine", name="info")
def journal_info(run: Named = None) -> None:
    """Print how many replies the journal holds, their cost, and what is unconfirmed."""
    from autointerp.report.probe_table import print_journal
    from autointerp.runs.directory import find_run

    print_journal(find_run(run).journal, Console())


@command(journal_app, "autointerp journal export outputs/mine > replies.jsonl", name="export")
def journal_export(run: Named = None) -> None:
    """Print every reply and its request as a line of JSON, oldest first."""
    from autointerp.llm.journal.journal_file import export
    from autointerp.runs.directory import find_run

    for reply in export(find_run(run).journal):
        print(json_line(reply))


@command(journal_app, "autointerp journal prune outputs/mine --days 90", name="prune")
def journal_prune(
    days: Annotated[float, typer.Option(min=0, help="Delete replies older than this many days.")],
    run: Named = None,
) -> None:
    """Delete old replies and their prompts. Their cost remains counted.

    A run that needs them again pays for them again.
    """
    from autointerp.llm.journal.journal_file import prune
    from autointerp.runs.directory import find_run

    found = find_run(run)
    with found.locked():
        removed = prune(found.journal, time.time() - days * 86400)
    print(f"{counted(removed, 'reply', 'replies')} deleted from {found.journal}")


@command(app, "autointerp show 12 outputs/mine")
def show(feature: Annotated[int, typer.Argument(min=0)], run: Named = None) -> None:
    """Print one feature: label, scores, statistics and highlighted windows."""
    from autointerp.report.terminal import show_feature
    from autointerp.runs.directory import find_run

    show_feature(find_run(run), feature, Console())


@command(app, "autointerp labels outputs/mine --sort detection --grep 'legal|court'")
def labels(
    run: Named = None,
    sort: Annotated[
        str,
        typer.Option(
            help="Sort by a scorer, f1 or expected_f1 (by the lower end of the interval), "
            "density, confidence or feature."
        ),
    ] = "feature",
    limit: Annotated[int, typer.Option(min=1, help="Number of rows to print.")] = 20,
    grep: Annotated[
        str | None, typer.Option(help="Only print labels that match this regular expression.")
    ] = None,
    columns: Annotated[
        bool, typer.Option("--columns", help="Describe the columns instead.")
    ] = False,
) -> None:
    """Print the label table."""
    from autointerp.report.terminal import print_columns, print_labels
    from autointerp.runs.directory import find_run

    if columns:
        print_columns(Console())
        return
    print_labels(find_run(run), sort, limit, grep, Console())


@command(app, "autointerp scores outputs/mine")
def scores(run: Named = None) -> None:
    """Print score distributions next to their null, and by activation decile."""
    from autointerp.report.scores import print_scores
    from autointerp.runs.directory import find_run

    print_scores(find_run(run), Console())


@command(app, "autointerp compare outputs/a outputs/b")
def compare(
    a: Annotated[str, typer.Argument(metavar="RUN", help="A run's directory.")],
    b: Annotated[str, typer.Argument(metavar="RUN", help="Another run's, of the same SAE.")],
    metric: Annotated[
        str | None, typer.Option(help="Only this metric or scorer (default: all).")
    ] = None,
    top: Annotated[
        int,
        typer.Option(min=0, help="Number of features to list with the largest gains and losses."),
    ] = 5,
    repeat: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="A second run of the first one's settings, with another seed or a journal of its "
            "own: how far scores move when nothing is changed.",
        ),
    ] = None,
) -> None:
    """Print how the second run differs from the first in scores, labels, cost and settings.

    Scores are paired by feature, except between a run and its control (--control random-coder).
    Features whose labels came in one reply, or are the same, count as one cluster.
    In Python, `autointerp.compare_runs` gives the paired scores as a pandas table.
    """
    from autointerp.report.comparison import print_comparison
    from autointerp.runs.directory import find_run

    again = None if repeat is None else find_run(repeat)
    print_comparison(find_run(a), find_run(b), metric, top, Console(), again)


@command(app, "autointerp repair outputs/mine")
def repair(run: Named = None) -> None:
    """Move damaged files of a run aside, and restore what the others allow.

    Labels are restored from drafts and scores, replies from the readable part of the journal.
    Evidence needs the activations: run `collect` again.
    """
    from autointerp.runs.directory import Run
    from autointerp.stages.repair import repair as repair_run

    if run is None:
        raise ConfigurationError("repair needs a run: autointerp repair RUN")
    for line in repair_run(Run(Path(run))):
        print(line_for_person(line))


@command(app, "autointerp report outputs/mine --features 0-99")
def report(
    run: Named = None,
    features: Annotated[
        str | None,
        typer.Option(help="Features to include: all, 0-99,512, @ids.txt (default: random:200)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output file (default: report.html in the run's directory).")
    ] = None,
) -> None:
    """Write a self-contained HTML file: the run's overview and a page per feature."""
    from autointerp.report.html_report import write_report
    from autointerp.runs.directory import find_run

    found = find_run(run)
    path = out or found.path / "report.html"
    written = write_report(found, features, path)
    size = path.stat().st_size / 1e6
    print(line_for_person(f"{written:,} features in {path} ({size:,.1f} MB)"))


@command(
    app,
    "autointerp serve outputs/mine --model gpt-5-nano",
    uses=("cache", "token_ids", "prompts", "embedding_model", ModelSettings),
)
def serve(
    config: RunConfig,
    run: Named = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")
    ] = 8000,
    no_token: Annotated[
        bool,
        typer.Option(
            "--no-token", help="Do not require a token: any account on this machine can connect."
        ),
    ] = False,
) -> None:
    """Serve a run's pages to a browser on this machine until Ctrl-C (extra serve).

    New labels come from the model, key and templates that are given to this command, never from
    those in the run's record, which may be somebody else's.
    """
    from autointerp.runs.directory import find_run

    found = find_run(run)
    try:
        from autointerp.serve.server import serve as serve_run
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn", "duckdb"):
            raise
        raise MissingPackageError(
            f"serve needs {error.name}: pip install 'autointerp[serve]'"
        ) from None
    try:
        serve_run(found, port, config, with_token=not no_token)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@command(app, "autointerp export csv outputs/mine", lists="autointerp.exports")
def export(
    format_name: Annotated[
        str,
        typer.Argument(metavar="FORMAT", help=_FORMAT_HELP),
    ],
    run: Named = None,
    features: Annotated[
        str, typer.Option(help="Features to export: all, 0-99,512, @ids.txt, random:9.")
    ] = "all",
    out: Annotated[
        Path | None,
        typer.Option(help="Output file or folder (default: in exports/ in the run's directory)."),
    ] = None,
    model_id: Annotated[
        str | None, typer.Option(help="Neuronpedia's id of the subject model.")
    ] = None,
    source_id: Annotated[
        str | None, typer.Option(help="Neuronpedia's id of the SAE: LAYER-NAME, such as 6-res-jb.")
    ] = None,
    creator_id: Annotated[
        str, typer.Option(help="Neuronpedia user id that owns the rows.")
    ] = "autointerp",
) -> None:
    """Write labels, scores and evidence in another tool's format."""
    from autointerp.runs.directory import find_run
    from autointerp.tables.exports import export as write

    written = write(
        find_run(run),
        format_name,
        features,
        out,
        model=model_id,
        source_id=source_id,
        creator=creator_id,
    )
    print(line_for_person(written))


@command(app, "autointerp plot outputs/mine --format pdf")
def plot(
    run: Named = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder (default: plots/ in the run's directory).")
    ] = None,
    format_name: Annotated[
        Literal["png", "svg", "pdf"], typer.Option("--format", help="File format.")
    ] = "png",
) -> None:
    """Write the run's figures as files: scores, deciles, density, cost, time."""
    from autointerp.report.plots import write_plots
    from autointerp.runs.directory import find_run

    written, left_out = write_plots(find_run(run), out, format_name)
    for path in written:
        print(line_for_person(path))
    for why in left_out:
        print(line_for_person(f"left out: {why}"), file=sys.stderr)


@command(
    app,
    "autointerp import neuronpedia explanations/ outputs/mine",
    name="import",
    lists="autointerp.imports",
)
def import_(
    format_name: Annotated[str, typer.Argument(metavar="FORMAT", help="One of the formats below.")],
    path: Annotated[Path, typer.Argument(help="File or folder with the explanations.")],
    run: Named = None,
    only: Annotated[
        str | None, typer.Option(help="Only import labels by this labeler, if there are several.")
    ] = None,
) -> None:
    """Import another tool's labels into a run that has evidence but no labels, to score them.

    `autointerp import activations` imports evidence.
    """
    from autointerp.runs.directory import find_run
    from autointerp.stages.label.import_labels import import_labels

    import_labels(find_run(run), format_name, path, only)


@command(
    app,
    "autointerp import activations records.jsonl.gz --out outputs/theirs",
    name="import activations",
    uses=(
        *("out", "seed", "skip_bad_rows", "window_length", "window_before", "repeats"),
        *("top_windows", "sample_windows", "negative_windows", "score_windows"),
    ),
    lists="autointerp.records",
    by_place=False,
)
def import_records(
    config: RunConfig,
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Files or folders.")],
    format_name: Annotated[
        str | None,
        typer.Option("--format", help="One of those below, or delphi (default: by content)."),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="The model whose token ids the records have in the place of texts."),
    ] = None,
    token_marks: Annotated[
        Literal["none", "byte-level", "sentencepiece"],
        typer.Option(help="How tokens stand in the files: as text, or as in a vocabulary (Ġ, ▁)."),
    ] = "none",
    all_for_labeling: Annotated[
        bool, typer.Option("--all-for-labeling", help="Keep no records for scoring labels.")
    ] = False,
    allow_negative: Annotated[
        bool,
        typer.Option("--allow-negative", help="Negative activations count as inactive."),
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="What tables call the SAE (default: as the files do).")
    ] = None,
) -> None:
    """Make a run of activation records: tokens, and a feature's activation on each.

    `autointerp label` and `autointerp score` go on with it.
    """
    from autointerp.stages.import_records import ImportOptions, import_activations

    options = ImportOptions(
        format_name, tokenizer, token_marks, all_for_labeling, allow_negative, name
    )
    run = import_activations(files, config, options)
    print(line_for_person(run.path))
