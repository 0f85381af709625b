"""A report, opened from disk and used as a person would."""

import re
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from autointerp import load_labels
from autointerp.report.feature import FeaturePages
from autointerp.report.html_report import write_report
from autointerp.runs.directory import Run
from tests.browser.conftest import FEW, watched
from tests.conftest import run_command
from tests.support.hostile import HOSTILE
from tests.support.planted import WORDS, plant


@pytest.fixture(scope="module")
def report(finished, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(finished, "all", path)
    return path.as_uri()


def rows(page: Page):
    return page.locator(".rows [role=row]")


def test_the_overview_says_what_the_run_came_to(page, report, finished):
    page.goto(report)
    counts = load_labels(finished.path)["status"].value_counts()
    for status, n in counts[counts > 0].items():
        row = page.get_by_role("row", name=re.compile(f"^{status.replace('_', ' ')} {n} "))
        expect(row).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^detection balanced accuracy"))).to_be_visible()
    page.get_by_role("link", name="labeled", exact=True).click()
    expect(page.locator("#count")).to_have_text(f"{counts['labeled']} of 14")


def test_the_table_is_searched_sorted_and_filtered(page, report, finished):
    labels = load_labels(finished.path)
    page.goto(f"{report}#/features")
    expect(rows(page)).to_have_count(14)
    page.keyboard.press("/")
    page.keyboard.type(str(labels["label"].dropna().iloc[2]).split()[-1])
    expect(rows(page)).not_to_have_count(14)
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.press("Backspace")
    expect(rows(page)).to_have_count(14)

    page.get_by_role("button", name="density", exact=True).click()
    header = page.get_by_role("columnheader").filter(has=page.locator("#sort-density"))
    expect(header).to_have_attribute("aria-sort", "descending")
    order = labels.sort_values(["density", "feature"], ascending=[False, True])["feature"]
    expect(rows(page)).to_have_count(14)  # drawn anew, over more than one frame
    shown = page.evaluate(
        "[...document.querySelectorAll('.rows [role=row]')]"
        ".sort((a, b) => a.ariaRowIndex - b.ariaRowIndex).map((r) => Number(r.dataset.feature))"
    )
    assert shown == order.tolist()

    median = float(labels["density"].median())
    page.get_by_label("Filter density").fill(f"> {median}")
    page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(int((labels["density"] > median).sum()))
    page.get_by_label("Filter label").fill("-")
    page.keyboard.press("Enter")
    missing = labels["label"].isna() & (labels["density"] > median)
    expect(rows(page)).to_have_count(int(missing.sum()))
    page.get_by_role("link", name="clear filters").click()
    page.get_by_label("Filter density").fill("many")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Filter density")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Filter density").fill("> .")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Filter density")).to_have_attribute("aria-invalid", "true")
    page.goto(f"{report}#/features?columns=feature,polysemantic")
    page.get_by_label("Filter polysemantic").fill("yes")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Filter polysemantic")).to_have_attribute("aria-invalid", "true")


def test_a_feature_is_opened_and_its_windows_read(page, report, finished):
    page.goto(f"{report}#/features")
    page.get_by_role("link", name="3", exact=True).click()
    seen = FeaturePages(finished).page(3)
    expect(page.get_by_role("heading", level=1)).to_have_text(seen.row["label"])
    for score in seen.scores:
        cell = page.get_by_role("row", name=re.compile(f"^{score.metric.replace('_', ' ')} "))
        expect(cell.first).to_contain_text(f"{score.value:.2f}")

    strongest = max(w.activations[w.peak] for w in seen.windows.values())
    peak = page.locator(".t.peak").first
    assert float(peak.get_attribute("data-value")) == pytest.approx(strongest)
    peak.hover()
    expect(page.locator("#tip")).to_contain_text(peak.get_attribute("data-token"))
    expect(page.locator("#tip")).to_contain_text(f"{strongest:.3g}")
    # Spaces are shown where they tell something: in tokens on which the feature fires.
    assert page.locator(".t.on .space").count() > 0
    assert page.locator(".t:not(.on) .space").count() == 0

    text = page.locator(".window .text").first
    before = text.locator(".t").count()
    page.locator(".window .more").first.click()
    expect(text.locator(".t")).not_to_have_count(before)
    judged = [j for j in seen.judged if j.scorer == "detection" and j.label_of == 3]
    for outcome, of in (
        ("missed", [j for j in judged if not j.right and j.truth]),
        ("alarm", [j for j in judged if not j.right and not j.truth]),
        ("found", [j for j in judged if j.right and j.truth]),
        ("silent", [j for j in judged if j.right and not j.truth]),
    ):
        assert page.locator(f"details[open] .verdict.{outcome}").count() == len(of)


def test_predictions_of_activations_stand_under_the_tokens(page, report, finished):
    page.goto(f"{report}#/feature/3")
    simulated = page.locator("details").filter(has_text=re.compile("^simulation"))
    simulated.locator("summary").click()
    judged = [j for j in FeaturePages(finished).page(3).judged if j.label_of == 3]
    most = max(max(j.token_prediction) for j in judged if j.scorer == "simulation")
    bar = simulated.locator(f".t.guess[data-predicted='{most:g}']").first
    drawn = bar.evaluate("t => [getComputedStyle(t).backgroundImage, t.style.cssText]")
    assert drawn[0].startswith("linear-gradient")
    assert "--part: 100%" in drawn[1]
    assert simulated.locator(".t.guess").count() > 100


def test_j_and_k_follow_the_list_that_was_looked_at(page, report, finished):
    page.goto(f"{report}#/features?sort=density&descending=true")
    labels = load_labels(finished.path)
    order = labels.sort_values(["density", "feature"], ascending=[False, True])["feature"].tolist()
    page.locator(f"[data-feature='{order[0]}'] a").first.click()
    for key, place in (("j", 1), ("j", 2), ("k", 1)):
        page.keyboard.press(key)
        expect(page.get_by_text(re.compile(f"^feature {order[place]}( of|$)"))).to_be_visible()
    # Without a list they go by number; in a box they are letters.
    page.goto(f"{report}#/feature/5")
    page.reload()
    expect(page.get_by_text(re.compile("^feature 5"))).to_be_visible()
    page.keyboard.press("j")
    expect(page.get_by_text(re.compile("^feature 6"))).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("jk")
    expect(page.locator("#search")).to_have_value("jk")


def test_enter_opens_a_feature_by_its_number_and_stays_there(page, report):
    page.goto(report)
    page.locator("h1").wait_for()
    page.keyboard.press("/")
    page.keyboard.type("12")
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile("^feature 12( of|$)"))).to_be_visible()
    page.wait_for_timeout(200)  # as long as typing is waited for, and more
    assert page.url.endswith("#/feature/12")


def test_the_link_past_the_header_stays_on_the_page(page, report):
    page.goto(f"{report}#/feature/3")
    expect(page.get_by_text(re.compile("^feature 3( of|$)"))).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    assert page.url.endswith("#/feature/3")


def test_the_keyboard_stays_where_it_was_when_the_table_changes(page, report):
    page.goto(f"{report}#/features")
    page.get_by_label("Filter density").fill("> 0")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="clear filters")).to_be_visible()
    expect(page.get_by_label("Filter density")).to_be_focused()
    page.get_by_role("button", name="density", exact=True).click()
    expect(
        page.get_by_role("columnheader").filter(has=page.locator("#sort-density"))
    ).to_have_attribute("aria-sort", "descending")
    expect(page.locator("#sort-density")).to_be_focused()
    page.get_by_text("Columns", exact=True).click()
    for name in ("reason", "n active"):  # one after the other: the list stays open
        page.get_by_role("checkbox", name=name, exact=True).check()
        expect(page.get_by_role("columnheader", name=name)).to_be_visible()
        expect(page.get_by_role("checkbox", name=name, exact=True)).to_be_focused()


def test_a_feature_that_is_not_in_the_report(page, report):
    page.goto(f"{report}#/feature/99")
    expect(page.get_by_role("alert")).to_have_text("feature 99 is not in this report")


@pytest.fixture(scope="module")
def small_report(planted, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("small")
    code, _, err = run_command("run", *planted.flags(folder / "run"), *FEW)
    assert code == 0, err
    write_report(Run(folder / "run"), "all", folder / "report.html")
    return (folder / "report.html").as_uri()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_anyone_can_read_it(browser, small_report, scheme, width):
    """By axe's rules (contrast, names, structure), and without scrolling sideways."""
    size = {"width": width, "height": 900}
    for page in watched(browser, color_scheme=scheme, viewport=size, bypass_csp=True):
        for view in ("#/", "#/features", "#/feature/0"):
            page.goto(small_report + view)
            page.locator("h1").wait_for()
            found = Axe().run(page)
            assert not found.violations_count, found.generate_report()
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_colors_can_be_chosen(page, report):
    page.goto(report)
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(ground)
    for _ in range(2):  # from the system's to light, to dark
        page.get_by_role("button", name="Colors").click()
    assert page.evaluate(ground) != light
    page.reload()
    assert page.evaluate(ground) != light


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Run:
    """A run in which every token and every label is one of the hostile texts."""
    folder = tmp_path_factory.mktemp("hostile")
    texts = [*HOSTILE.values(), "x" * 2000]
    corpus = plant(folder, contexts=120, features=6, texts=(texts * len(WORDS))[: len(WORDS)])
    code, _, err = run_command("run", *corpus.flags(folder / "run"), *FEW)
    assert code == 0, err
    run = Run(folder / "run")
    table = pq.read_table(run.labels)
    for name in ("label", "reason", "error"):
        column = pa.array([" ".join(texts[i :: len(table)]) for i in range(len(table))])
        table = table.set_column(table.schema.get_field_index(name), name, column)
    pq.write_table(table, run.labels)
    return run


def readable(text: str) -> str:
    """What is not seen, acts on the text around it or is piled up, as dots."""
    shown, piled = "", 0
    for kind, character in ((unicodedata.category(c), c) for c in text):
        piled = piled + 1 if kind.startswith("M") else 0
        if piled <= 6:
            shown += "·" if kind.startswith(("C", "Zl", "Zp")) else character
        elif piled == 7:
            shown += "·"
    return shown


def test_hostile_text_is_shown_as_text(page, hostile, tmp_path):
    write_report(hostile, "all", tmp_path / "report.html")
    address = (tmp_path / "report.html").as_uri()
    labels = pq.read_table(hostile.labels)["label"].to_pylist()
    for view in ("", "features", "feature/0", "feature/5"):
        page.goto(f"{address}#/{view}")
        page.locator("h1").wait_for()
        assert page.locator("main :is(script, img, iframe, object, style, link)").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        if view.startswith("feature/"):
            shown = page.get_by_role("heading", level=1).text_content()
            assert shown == readable(labels[int(view.removeprefix("feature/"))])
            assert page.locator(".t").count() > 0
