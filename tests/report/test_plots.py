"""The figures: files that open, numbers that are the overview's."""

import struct
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from autointerp.plain_text import one_line
from autointerp.report.figures import figures, style
from autointerp.report.overview import overview
from tests.support.made_run import HOSTILE, make_run

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    scorers = ("detection", "simulation")
    return make_run(tmp_path_factory.mktemp("plots") / "run", features=200, scorers=scorers)[0]


@pytest.fixture(scope="module")
def drawn(made):
    with style():
        return overview(made), dict(figures(overview(made)))


def refused(cli, *arguments):
    code, out, said = cli("plot", *arguments)
    assert (code, out) == (2, "")
    assert said.count("\n") == 1
    return said


def test_every_figure_is_a_file_that_is_named(cli, made, tmp_path, drawn):
    code, out, said = cli("plot", str(made.path), "--out", str(tmp_path / "a" / "b"))
    assert code == 0, said
    assert said == ""
    written = sorted((tmp_path / "a" / "b").iterdir())
    assert sorted(out.splitlines()) == [str(path) for path in written]
    assert {path.stem for path in written} == set(drawn[1])
    assert len(written) == 4 + 2 + 2 + 5
    for path in written:
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        assert data.endswith(b"IEND\xaeB`\x82")
        assert struct.unpack(">I", data[16:20]) == (990,)  # 3.3 inches at 300 dots


def test_text_of_vector_files_stays_text_and_strangers_text_stays_as_it_is(cli, made, tmp_path):
    code, _, said = cli("plot", str(made.path), "--out", str(tmp_path), "--format", "svg")
    assert code == 0, said
    texts = {}
    for path in tmp_path.iterdir():
        root = ElementTree.parse(path).getroot()
        texts[path.stem] = ["".join(t.itertext()) for t in root.iter(f"{SVG}text")]
    assert "detection balanced accuracy" in texts["score-detection-balanced_accuracy"]
    assert any(t.startswith("own label: median") for t in texts["score-simulation-correlation"])
    assert {"density (share of tokens)", "10⁻³"} <= set(texts["density"])
    assert "judged to match" in texts["deciles-detection"]
    assert "correlation" in texts["deciles-simulation"]
    assert any("$" in t and "in all" in t for t in texts["cost"])
    shown = "".join(texts["failures"])
    assert one_line(HOSTILE)[:9] == "$\\frac{$ "
    for part in ("$\\frac{$", "<script>&amp;··[31m·", "🦀"):
        assert part in shown


def test_the_same_numbers_make_the_same_files(cli, tmp_path):
    run = make_run(tmp_path / "run", labels=False)[0]
    for kind in ("svg", "pdf"):
        code, out, _ = cli("plot", str(run.path), "--format", kind)
        assert code == 0
        first = [Path(name).read_bytes() for name in out.split()]
        assert cli("plot", str(run.path), "--format", kind)[1] == out
        assert [Path(name).read_bytes() for name in out.split()] == first
        assert len(first) == 2


def test_what_is_drawn_is_the_overview(drawn):
    found, figure = drawn
    for d in found.scores:
        axes = figure[f"score-{d.scorer}-{d.metric}"].axes[0]
        own, null = (patch.get_data() for patch in axes.patches)
        for bars, counts, n in ((own, d.counts, d.n), (null, d.null_counts, d.null_n)):
            assert bars.values.tolist() == [count / n for count in counts]
            assert list(bars.edges) == d.edges
        assert [line.get_xdata()[0] for line in axes.lines] == [d.median, d.null_median]
        below = d.lowest < d.edges[0]
        assert ("first bar: down to" in axes.get_xlabel()) == below
    for s in found.scatter:
        axes = figure[f"density-{s.scorer}-{s.metric}"].axes[0]
        points = axes.collections[0].get_offsets().tolist()
        assert points == [list(point) for point in zip(s.density, s.value, strict=True)]
        assert axes.get_xscale() == "log"
    assert found.scatter
    for curve in found.strata:
        axes = figure[f"deciles-{curve.scorer}"].axes
        kinds = (curve.deciles(), curve.others())
        assert len(axes) == (2 if curve.figure == "said_yes" else 1)
        for ax, rows in zip(axes, kinds, strict=False):
            own, null = ax.containers
            assert own[0].get_ydata().tolist() == [row.own for row in rows]
            assert null[0].get_ydata().tolist() == [row.another for row in rows]
            ends = [segment[:, 1].tolist() for segment in own[2][0].get_segments()]
            known = [[r.low, r.high] if r.low is not None else [r.own, r.own] for r in rows]
            assert ends == [pytest.approx(pair) for pair in known]
    density = figure["density"].axes[0].patches[0].get_data()
    assert density.values.tolist() == found.density.counts
    assert f"{found.density.zero:,} never fire" in figure["density"].axes[0].get_title(loc="right")
    for name, values in (
        ("status", [c.n for c in found.counts]),
        ("failures", [f.n for f in found.failures][:8]),
        ("cost", [found.cost.prompt_tokens, found.cost.completion_tokens]),
        ("time", [t.seconds for t in found.time]),
    ):
        assert [bar.get_width() for bar in figure[name].axes[0].patches] == values


@pytest.mark.filterwarnings("ignore:Glyph")
def test_text_is_seven_points_or_more_and_lies_within_the_figure(drawn):
    with style():
        for name, figure in drawn[1].items():
            renderer = FigureCanvasAgg(figure).get_renderer()
            figure.draw_without_rendering()
            texts = [t for t in figure.findobj(Text) if t.get_text()]
            assert min(t.get_fontsize() for t in texts) >= 7
            box, (width, height) = figure.get_tightbbox(renderer), figure.get_size_inches()
            assert min(box.x0, box.y0) > -0.01, name
            assert max(box.x1 - width, box.y1 - height) < 0.01, name


def test_figures_without_data_are_left_out_and_said(cli, tmp_path):
    run = make_run(tmp_path / "run", labels=False, dead=True)[0]
    code, out, said = cli("plot", str(run.path), "--format", "pdf")
    assert code == 0
    assert out.splitlines() == [str(run.path / "plots" / "time.pdf")]
    assert (run.path / "plots" / "time.pdf").read_bytes().startswith(b"%PDF")
    assert said.splitlines() == [
        "left out: scores: nothing is scored yet",
        "left out: density: no feature fires",
        "left out: status: nothing is labeled yet",
        "left out: failures: nothing failed",
        "left out: cost: no model was called",
    ]


def test_what_cannot_be_done_is_one_line(cli, made, tmp_path, monkeypatch):
    assert "no run at" in refused(cli, str(tmp_path / "none"))
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(
        cli, str(made.path), "--out", str(tmp_path / "file" / "x")
    )
    assert "--format" in cli("plot", str(made.path), "--format", "gif")[2]
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "autointerp.report.figures")
    assert "pip install 'autointerp[plot]'" in refused(cli, str(made.path))
