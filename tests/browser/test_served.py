"""A served run in a browser: corrected, labeled anew, and one with many features."""

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from autointerp import load_labels
from autointerp.runs.directory import Run
from autointerp.tables.edits import read_edits
from tests.browser.conftest import FEW, watched
from tests.conftest import run_command
from tests.serve.conftest import TOKEN, entrance, serving
from tests.support import scripted
from tests.support.fake_server import FakeServer
from tests.support.planted import LENGTH

MANY = 131_072


@pytest.fixture(scope="module")
def labeled(planted, tmp_path_factory) -> Iterator[tuple[Run, str]]:
    """A run whose labels a model gave, served while the model can still be asked."""
    out = tmp_path_factory.mktemp("labeled") / "run"
    with FakeServer(scripted.answer) as model:
        flags = ["--model", "test-model", "--base-url", model.url, "--features", "0-5"]
        with ThreadPoolExecutor(1) as thread:
            ran = thread.submit(run_command, "run", *flags, *FEW, *planted.flags(out))
        code, _, err = ran.result()
        assert code == 0, err
        own = {"model": "test-model", "base_url": model.url, "cache": str(planted.cache)}
        with serving(Run(out), **own) as client:
            yield Run(out), entrance(client)


def open_feature(page: Page, address: str, feature: int) -> None:
    page.goto(f"{address}#/feature/{feature}")
    expect(page.get_by_text(re.compile(f"^feature {feature}( of|$)"))).to_be_visible()


def test_a_label_is_corrected_voted_on_and_commented(page, labeled):
    run, address = labeled
    before = run.labels.read_bytes()
    own = load_labels(run.path).set_index("feature").loc[1, "label"]
    open_feature(page, address, 1)
    page.get_by_text("Correct or comment").click()
    page.get_by_role("button", name="Save label").click()
    expect(page.get_by_text("Enter your name first.")).to_be_visible()
    page.get_by_label("Your name").fill("Ada")
    page.keyboard.press("Tab")
    page.get_by_label("A better label").fill("<b>mine</b>")
    page.get_by_role("button", name="Save label").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("<b>mine</b>")
    expect(page.get_by_text(f"Of the run's own label: {own}").first).to_be_visible()
    page.get_by_role("button", name="No, the label is wrong").click()
    expect(page.locator(".edits li")).to_have_count(2)
    page.get_by_label("A note").fill("two\nlines")
    page.get_by_role("button", name="Save note").click()
    expect(page.locator(".edits li")).to_have_count(3)
    kept = [(e.kind, e.author, e.label, e.vote, e.text) for e in read_edits(run, 1)]
    assert kept == [
        ("label", "Ada", "<b>mine</b>", None, None),
        ("vote", "Ada", None, -1, None),
        ("note", "Ada", None, None, "two\nlines"),
    ]
    assert run.labels.read_bytes() == before
    page.get_by_role("link", name="Features").click()
    expect(page.get_by_role("link", name="<b>mine</b>")).to_be_visible()


def test_the_model_is_asked_for_a_new_label_and_what_it_was_asked_is_shown(page, labeled):
    run, address = labeled
    open_feature(page, address, 2)
    page.get_by_text("Correct or comment").click()
    page.get_by_role("button", name="Ask the model for a new label").click()
    expect(page.locator(".edits li")).to_have_count(1)
    (made,) = read_edits(run, 2)
    assert (made.kind, made.author) == ("model_label", "test-model")
    page.get_by_text("Prompts and raw replies").click()
    asked = page.locator(".exchange")
    expect(asked.first).to_contain_text("label:2")
    asked.first.locator("summary").first.click()
    expect(asked.first.locator("pre").nth(1)).to_contain_text("Feature 1 ")
    expect(asked.first.locator("pre").nth(2)).to_contain_text(made.label)


def test_a_window_opens_into_its_whole_context(page, labeled, planted):
    open_feature(page, labeled[1], 0)
    window = page.locator(".window").first
    window.get_by_role("button").click()
    expect(window.locator(".context").first).to_be_visible()
    words = window.locator(".text").inner_text().replace("⏎", " ").split()
    assert len(words) == LENGTH


def test_what_is_written_stays_until_it_is_saved(page, labeled):
    _, address = labeled
    open_feature(page, address, 3)
    page.get_by_text("Correct or comment").click()
    page.get_by_label("Your name").fill("Ada")
    page.get_by_label("A note").fill("half a thou")
    page.get_by_role("button", name="No, the label is wrong").click()
    expect(page.locator(".edits li")).to_have_count(1)
    expect(page.get_by_role("button", name="No, the label is wrong")).to_be_focused()
    expect(page.get_by_label("A note")).to_have_value("half a thou")
    # A label that was asked for comes while another feature is looked at.
    held = []
    page.route("**/api/features/3/label", lambda route: held.append(route))
    page.get_by_role("button", name="Ask the model for a new label").click()
    expect(page.get_by_text("Asking the model")).to_be_visible()
    page.keyboard.press("j")
    expect(page.get_by_text(re.compile("^feature 4( of|$)"))).to_be_visible()
    page.get_by_label("A note").click()
    page.keyboard.type("of the ")
    with page.expect_response("**/api/features/3/label"):
        held[0].fulfill(status=201, json={})
    expect(page.locator("#said")).to_have_text("saved")
    page.keyboard.type("fourth")
    expect(page.get_by_label("A note")).to_have_value("of the fourth")
    page.get_by_role("button", name="Save note").click()
    expect(page.locator(".edits li")).to_have_count(1)
    expect(page.get_by_label("A note")).to_have_value("")


def test_correcting_does_not_leave_the_list_that_is_gone_through(page, labeled):
    run, address = labeled
    table = load_labels(run.path).sort_values(["density", "feature"], ascending=[False, True])
    first, second = table["feature"].tolist()[:2]
    page.goto(f"{address}#/features?sort=density&descending=true")
    page.locator(f"[data-feature='{first}'] a").first.click()
    page.get_by_text("Correct or comment").click()
    page.get_by_label("Your name").fill("Ada")
    page.get_by_label("A better label").fill("corrected")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("corrected")
    page.get_by_role("button", name="next").click()
    expect(page.get_by_text(re.compile(f"^feature {second}( of|$)"))).to_be_visible()
    page.go_back()
    page.go_back()
    expect(page.get_by_role("link", name="corrected")).to_be_visible()


def test_a_search_by_meaning_is_answered_once_it_is_ready(page, labeled):
    _, address = labeled
    waiting = "the labels are being embedded for search by meaning: 5% done"
    replies = [{"status": 202, "json": {"detail": waiting, "progress": 0.05}}]
    found = {"total": 6, "matched": 1, "offset": 0, "rows": [{"feature": 4, "label": "near"}]}

    def answered(route):
        route.fulfill(**(replies.pop() if replies else {"json": found}))

    page.route("**/api/features?*meaning=*", answered)
    page.goto(f"{address}#/features?search=dogs&by=meaning")
    expect(page.get_by_role("alert")).to_have_text(waiting)
    expect(page.locator("#count")).to_have_text("1 of 6")
    expect(page.locator("#search-by")).to_have_value("meaning")


def test_a_page_that_was_open_before_the_labels_shows_them(page, finished, tmp_path):
    run = Run(tmp_path / "run")
    shutil.copytree(finished.path, run.path)
    labels = run.labels.read_bytes()
    run.labels.unlink()
    with serving(run) as client:
        page.goto(f"{entrance(client)}#/")
        page.locator("h1").wait_for()
        run.labels.write_bytes(labels)
        page.get_by_role("link", name="Features").click()
        expect(page.get_by_role("columnheader", name="label")).to_be_visible()


def test_the_token_goes_from_the_address_into_a_cookie(browser, finished):
    context = browser.new_context()
    page = context.new_page()
    with serving(finished) as client:
        address = str(client.base_url)
        page.goto(f"{address}/")
        expect(page.get_by_text("the token is missing")).to_be_visible()
        page.goto(f"{entrance(client)}#/feature/3")
        expect(page.get_by_text(re.compile("^feature 3( of|$)"))).to_be_visible()
        assert page.url == f"{address}/#/feature/3"
        (cookie,) = context.cookies()
        assert (cookie["value"], cookie["httpOnly"], cookie["sameSite"]) == (TOKEN, True, "Strict")
        page.reload()
        expect(page.get_by_text(re.compile("^feature 3( of|$)"))).to_be_visible()
    context.close()


def test_without_a_model_the_page_says_how_one_is_named(page, labeled):
    run, _ = labeled
    with serving(run) as client:
        open_feature(page, entrance(client), 2)
        page.get_by_text("Correct or comment").click()
        said = page.get_by_text("autointerp serve --model NAME")
        expect(said).to_contain_text("This run's record names test-model at http://127.0.0.1:")
        expect(page.get_by_role("button", name="Ask the model")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_anyone_can_read_what_is_folded_too(browser, labeled, scheme):
    """By axe's rules, with everything open: what was asked and said, and the API's page."""
    size = {"width": 390, "height": 900}
    for page in watched(browser, color_scheme=scheme, viewport=size, bypass_csp=True):
        open_feature(page, labeled[1], 2)
        unfold = "document.querySelectorAll('main details').forEach((one) => (one.open = true))"
        page.evaluate(unfold)
        page.locator(".exchange").first.wait_for()
        page.evaluate(unfold)
        found = Axe().run(page)
        assert not found.violations_count, found.generate_report()
        page.goto(labeled[1].replace("/?", "/api?"))
        found = Axe().run(page)
        assert not found.violations_count, found.generate_report()


def test_a_feature_that_is_not_there_is_said(browser, labeled):
    page = browser.new_page()  # one that does not mind a 404 on its console
    page.goto(f"{labeled[1]}#/feature/99")
    expect(page.get_by_role("alert")).to_contain_text("feature 99 was not collected")
    page.close()


@pytest.fixture(scope="module")
def many(labeled, tmp_path_factory) -> Iterator[str]:
    """As many features as a large coder has, every label another."""
    folder = tmp_path_factory.mktemp("many")
    table = pq.read_table(labeled[0].labels)
    feature = pa.array(range(MANY), pa.int32())
    rows = table.take(pc.bit_wise_and(feature, pa.scalar(1, pa.int32())))
    label = pc.binary_join_element_wise("about", feature.cast(pa.string()), " ")
    density = pc.divide(feature.cast(pa.float32()), pa.scalar(MANY, pa.float32()))
    for name, values in (("feature", feature), ("label", label), ("density", density)):
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), values)
    pq.write_table(rows, folder / "labels.parquet")
    (folder / "run.json").write_bytes(labeled[0].manifest.read_bytes())
    with serving(Run(folder)) as client:
        yield entrance(client)


def test_many_features_are_scrolled_sorted_and_searched_without_a_stall(page, many):
    page.goto(f"{many}#/features")
    expect(page.locator("#count")).to_have_text(f"{MANY:,}")
    assert page.locator(".rows [role=row]").count() < 100  # what is seen, not all there is
    # The longest time in which the page did nothing else.
    page.evaluate(
        "window.stalls = []; new PerformanceObserver((list) => window.stalls.push("
        "...list.getEntries().map((e) => e.duration))).observe({ type: 'longtask' })"
    )
    for share in (0.5, 1.0):
        page.evaluate(
            f"(s => s.scrollTop = s.scrollHeight * {share})(document.querySelector('.scroller'))"
        )
        place = MANY - 1 if share == 1 else MANY // 2
        expect(page.locator(f"[data-feature='{place}']")).to_be_visible()
    page.get_by_role("button", name="density", exact=True).click()
    expect(page.locator("[data-feature='131071']")).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("about 77777")
    expect(page.locator("#count")).to_have_text(f"1 of {MANY:,}")
    assert max(page.evaluate("window.stalls"), default=0) < 1000
