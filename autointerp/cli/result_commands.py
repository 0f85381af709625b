"""The commands that look at a run that is there, or take something out of it or into it."""

import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from autointerp.cli.options import settings_of_section, with_settings
from autointerp.config.settings import RunConfig
from autointerp.errors import MissingPackageError
from autointerp.plain_text import json_line, line_for_person

app = typer.Typer()
journal_app = typer.Typer(help="Look at a run's journal of replies.", no_args_is_help=True)
app.add_typer(journal_app, name="journal")

RunOption = Annotated[
    str | None, typer.Option("--run", help="The run's directory (default: the latest one).")
]


@journal_app.command("info")
def journal_info(run: RunOption = None) -> None:
    """Print how many replies the journal holds, what they cost, and what is in doubt."""
    from autointerp.report.probe_table import print_journal
    from autointerp.runs.directory import find_run

    print_journal(find_run(run).journal, Console())


@journal_app.command("export")
def journal_export(run: RunOption = None) -> None:
    """Print every reply, with what was asked, as a line of JSON, oldest first."""
    from autointerp.llm.journal.journal_file import export
    from autointerp.runs.directory import find_run

    for reply in export(find_run(run).journal):
        print(json_line(reply))


@journal_app.command("prune")
def journal_prune(
    days: Annotated[float, typer.Option(min=0, help="Forget replies older than so many days.")],
    run: RunOption = None,
) -> None:
    """Forget old replies and their prompts. What they cost stays counted.

    A run that needs them pays again.
    """
    from autointerp.llm.journal.journal_file import prune
    from autointerp.runs.directory import find_run

    found = find_run(run)
    with found.locked():
        removed = prune(found.journal, time.time() - days * 86400)
    print(f"{removed:,} replies forgotten in {found.journal}")


@app.command()
def show(feature: Annotated[int, typer.Argument(min=0)], run: RunOption = None) -> None:
    """Print one feature: label, scores, statistics and highlighted windows."""
    from autointerp.report.terminal import show_feature
    from autointerp.runs.directory import find_run

    show_feature(find_run(run), feature, Console())


@app.command()
def labels(
    run: RunOption = None,
    sort: Annotated[
        str, typer.Option(help="A scorer, f1, density, confidence or feature.")
    ] = "feature",
    limit: Annotated[int, typer.Option(min=1, help="Rows to print.")] = 20,
    grep: Annotated[
        str | None, typer.Option(help="Only labels that match this regular expression.")
    ] = None,
    columns: Annotated[
        bool, typer.Option("--columns", help="Print what each column holds instead.")
    ] = False,
) -> None:
    """Print the label table."""
    from autointerp.report.terminal import print_columns, print_labels
    from autointerp.runs.directory import find_run

    if columns:
        print_columns(Console())
        return
    print_labels(find_run(run), sort, limit, grep, Console())


@app.command()
def scores(run: RunOption = None) -> None:
    """Print how the scores are spread, beside their null, and by strength of activation."""
    from autointerp.report.scores import print_scores
    from autointerp.runs.directory import find_run

    print_scores(find_run(run), Console())


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="RUN", help="A run's directory.")],
    b: Annotated[str, typer.Argument(metavar="RUN", help="Another one's, of the same coder.")],
    metric: Annotated[
        str | None, typer.Option(help="Only this metric, or this scorer's (default: all).")
    ] = None,
    top: Annotated[
        int, typer.Option(min=0, help="Features to list with the largest gains, and losses.")
    ] = 5,
) -> None:
    """Print how the second run differs from the first: scores by feature, labels, cost, settings.

    A run and its control (--control random-coder) are compared without pairing features.

    `autointerp.compare_runs` gives the paired scores as a pandas table.
    """
    from autointerp.report.comparison import print_comparison
    from autointerp.runs.directory import find_run

    print_comparison(find_run(a), find_run(b), metric, top, Console())


@app.command()
def repair(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's directory.")],
) -> None:
    """Set damaged files of a run aside, and make again what can be made from the others.

    Labels come back from the drafts and scores, replies from what is left of the journal. Evidence
    needs the activations, so `collect` makes it again.
    """
    from autointerp.runs.directory import Run
    from autointerp.stages.repair import repair as repair_run

    for line in repair_run(Run(Path(run))):
        print(line_for_person(line))


RunArgument = Annotated[
    str | None, typer.Argument(metavar="RUN", help="The run's directory (default: the latest one).")
]


@app.command()
def report(
    run: RunArgument = None,
    features: Annotated[
        str | None,
        typer.Option(help="Which have a page: all, 0-99,512, @ids.txt (default: random:200)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file (default: report.html in the run's directory).")
    ] = None,
) -> None:
    """Write one HTML file, which opens from disk: the run's overview and pages of features."""
    from autointerp.report.html_report import write_report
    from autointerp.runs.directory import find_run

    found = find_run(run)
    path = out or found.path / "report.html"
    written = write_report(found, features, path)
    size = path.stat().st_size / 1e6
    print(line_for_person(f"{written:,} features in {path} ({size:,.1f} MB)"))


@app.command()
@with_settings(
    ("cache", "token_ids", "prompts", "embedding_model", *settings_of_section("model")),
)
def serve(
    config: RunConfig,
    run: RunArgument = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Let every account of this machine in.")
    ] = False,
) -> None:
    """Show a run's pages in the browser, on this machine alone, until Ctrl-C (extra serve).

    New labels are asked of the model that is named here, with the key and the templates named
    here: a run's record, which may come from somebody else, is shown and not trusted.
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


@app.command()
def export(
    format_name: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="neuronpedia, neuronpedia-upload, saedashboard, openai, delphi, jsonl or csv.",
        ),
    ],
    run: RunOption = None,
    features: Annotated[
        str, typer.Option(help="Which: all, 0-99,512, @ids.txt, random:9.")
    ] = "all",
    out: Annotated[
        Path | None, typer.Option(help="Where to (default: exports/ in the run's directory).")
    ] = None,
    model_id: Annotated[
        str | None, typer.Option(help="What Neuronpedia calls the subject model.")
    ] = None,
    source_id: Annotated[
        str | None, typer.Option(help="And the coder: LAYER-NAME, such as 6-res-jb.")
    ] = None,
    creator_id: Annotated[
        str, typer.Option(help="The id of the user there to whom rows belong.")
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


@app.command()
def plot(
    run: RunArgument = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder (default: plots/ in the run's directory).")
    ] = None,
    format_name: Annotated[
        Literal["png", "svg", "pdf"], typer.Option("--format", help="Of the files.")
    ] = "png",
) -> None:
    """Write the run's figures for a paper, a file each: scores, deciles, density, cost, time."""
    from autointerp.report.plots import write_plots
    from autointerp.runs.directory import find_run

    written, left_out = write_plots(find_run(run), out, format_name)
    for path in written:
        print(line_for_person(path))
    for why in left_out:
        print(line_for_person(f"left out: {why}"), file=sys.stderr)


@app.command("import")
def import_(
    format_name: Annotated[str, typer.Argument(metavar="FORMAT", help="neuronpedia or delphi.")],
    path: Annotated[Path, typer.Argument(help="The file or folder with the explanations.")],
    run: RunOption = None,
    only: Annotated[
        str | None, typer.Option(help="Whose labels, where there are several labelers'.")
    ] = None,
) -> None:
    """Take another tool's labels into a run with evidence and no labels, for `score` to score."""
    from autointerp.runs.directory import find_run
    from autointerp.stages.label.import_labels import import_labels

    import_labels(find_run(run), format_name, path, only)
