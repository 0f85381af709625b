"""Windows, labels and servers' words that try to be more than data change nothing else."""

import json
import re
from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import autointerp
from autointerp.evidence.corpus import Corpus
from autointerp.evidence.window_text import marked, marks_for
from autointerp.labeling.excerpts import Shown
from autointerp.labeling.llm import LabelSettings, label_jobs, read_labels
from autointerp.llm.wire.structured import items
from autointerp.progress import track
from autointerp.prompting.prompts import load_prompt
from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS
from autointerp.scoring.judge import JudgeJob, JudgeSettings
from autointerp.scoring.null import Labeled
from autointerp.scoring.scorer import Material
from autointerp.scoring.scorers.choices import KnownLabels
from autointerp.scoring.strata import strata_of
from autointerp.stages.show_prompts import TEMPLATES
from autointerp.vocabulary import Vocabulary
from tests.support import scripted
from tests.support.fake_server import FakeServer, status
from tests.support.hostile import EVERYTHING, HOSTILE
from tests.support.planted import WORDS, plant
from tests.support.samples import evidence, window

TEXTS = list(HOSTILE.values())
ASKED = [name for name, scorer in SCORERS.items() if scorer.task]
VOCABULARY = Vocabulary((*(t.encode() for t in TEXTS), b"plain"), frozenset())
PLAIN = len(TEXTS)
SETTINGS = LabelSettings("m", 0.0, 4, Shown(100, 0))
# What rich writes itself where it takes its output for a terminal.
COLORS = re.compile(r"\x1b\[[0-9;]*m")


def windows(tokens):
    """Three tokens each, the middle one, two of them or none active."""
    return [
        window(
            [PLAIN, token, PLAIN],
            [(0, 3, 0), (0, 3, 3), (0, 0, 3)][i % 3],
            context=i,
            rank=i,
            text=VOCABULARY.text([PLAIN, token, PLAIN]),
        )
        for i, token in enumerate(tokens)
    ]


def judged(name, tokens, folder, label="a label"):
    """What a judge is sent: windows in which the feature fires, and as many from the corpus."""
    shown = [
        replace(w, split="score", kind="sample", rank=i) for i, w in enumerate(windows(tokens))
    ]
    corpus = Corpus(
        pa.table(
            {
                "context": pa.array(range(1000, 1000 + len(shown)), pa.int64()),
                "start": pa.array([0] * len(shown), pa.int32()),
                "token_ids": pa.array([w.token_ids for w in shown], pa.list_(pa.int32())),
                "text": [w.text for w in shown],
                "features": pa.array([[]] * len(shown), pa.list_(pa.int32())),
            }
        )
    )
    known = evidence(0, shown)
    scorer = SCORERS[name]
    others = KnownLabels(Labeled(feature, "another label", 10) for feature in (1, 2, 3))
    material = Material(known, corpus, strata_of(corpus, known), 0, labels=others)
    plan = scorer.plan(material, scorer.settings(windows=2 * len(shown)))
    job = JudgeJob(
        scorer=scorer,
        plan=plan,
        label_of=0,
        label=label,
        prompt=load_prompt(name, folder),
        vocabulary=VOCABULARY,
        settings=JudgeSettings("m", 0.0, len(plan.items)),
        todo=tuple(range(len(plan.items))),
    )
    return job.messages()


def labeled(tokens, folder):
    group = [evidence(0, windows(tokens)), evidence(1, windows(tokens))]
    job = next(label_jobs(iter(group), load_prompt("label", folder), VOCABULARY, SETTINGS))
    return job.messages()


def skeleton(messages):
    """Of each line what it begins with: its number, or its first words."""
    lines = messages[1]["content"].split("\n")
    return [re.match(r"\d+[. ]|Feature \d+|\w*", line)[0] for line in lines]


@pytest.mark.parametrize("task", ["label", *ASKED])
def test_a_prompt_has_the_same_lines_whatever_its_windows_hold(task, tmp_path):
    def render(tokens):
        return labeled(tokens, tmp_path) if task == "label" else judged(task, tokens, tmp_path)

    hostile, plain = render(range(PLAIN)), render([PLAIN] * PLAIN)
    assert skeleton(hostile) == skeleton(plain)
    assert hostile[0] == plain[0]
    text = hostile[1]["content"]
    assert text.replace("\n", "").isprintable()
    assert text.splitlines() == text.split("\n")
    assert not re.search(r"<\|\w+\|>|</?s>|\[/?INST\]|<｜|<\w+_of_turn>", text)
    assert "{{ 7*7 }}" in text.replace('\\"', '"')  # Jinja in a window is not run


@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.parametrize("task", ASKED)
def test_a_label_adds_no_line_to_a_judges_prompt(task, name, tmp_path):
    hostile = judged(task, [PLAIN], tmp_path, EVERYTHING[name])[1]["content"].splitlines()
    plain = judged(task, [PLAIN], tmp_path, "a label")[1]["content"].splitlines()
    assert len(hostile) == len(plain)
    changed = [line for line, other in zip(plain, hostile, strict=True) if line != other]
    # Where none is shown there is none to change.
    assert len(changed) == SCORERS[task].needs_label
    assert all(line.endswith("a label") for line in changed)


@pytest.mark.parametrize("name", HOSTILE)
def test_marks_are_told_from_the_text_they_stand_in(name):
    token = TEXTS.index(HOSTILE[name])
    shown = windows([token] * 3)
    opening, closing = marks_for(shown, VOCABULARY)
    for one in shown:
        line = marked(one, VOCABULARY, (opening, closing))
        active = one.activations > 0
        assert line.count(opening) == line.count(closing) == 1
        # Reading from either side finds the same marked run.
        start, end = line.index(opening) + len(opening), line.rindex(closing)
        assert re.findall(re.escape(opening) + "(.*?)" + re.escape(closing), line) == [
            line[start:end]
        ]
        assert line[start:end].endswith("plain") == bool(active[2])
        assert line.replace(opening, "").replace(closing, "").startswith("plain")


@pytest.mark.parametrize("run", ["s", "/s", "SYS", "think", "start_of_turn", "|im_end|"])
def test_marks_make_no_control_mark_of_what_they_mark(run):
    vocabulary = Vocabulary((b"a ", run.encode()), frozenset())
    shown = window([0, 1, 0], [0, 1, 0], text=f"a {run}a ")
    line = marked(shown, vocabulary, marks_for([shown], vocabulary))
    assert f"<{run}>" not in line
    assert run in line


def test_a_reply_that_echoes_a_window_is_read_without_it():
    echoed = HOSTILE["answers"]
    mine = [{"w": 1, "match": False}, {"w": 2, "match": False}]
    answer = json.dumps({"answers": mine})
    for text in (
        f"{answer}\nWindow 2 said: {echoed}",
        f"```json\n{answer}\n```\nNote that window 2, {echoed}, is an attempt to steer me.",
        f"<think>Window 1 is {echoed}. No.</think>{answer}",
        f"Window 1 is {echoed}. So my answer is {answer}",
        json.dumps({"note": echoed, "answers": mine}),
        json.dumps({"answers": mine, "note": echoed}),
        json.dumps({"answers": [m | {"why": echoed} for m in mine]}),
    ):
        found = items(text, "answers")
        assert [(i["w"], i["match"]) for i in found] == [(1, False), (2, False)]


@pytest.mark.parametrize("name", EVERYTHING)
def test_labels_are_cleaned_and_bounded(name):
    said = {"n": 1, "label": EVERYTHING[name], "reason": EVERYTHING[name], "confidence": 0.5}
    for item in read_labels(json.dumps({"labels": [said]}), 1).values():
        assert item.label
        assert len(item.label) <= 300
        assert len(item.reason) <= 1000
        assert (item.label + item.reason).isprintable()
        assert item.label == " ".join(item.label.split())


def hostile_answer(request):
    """Labels from the corpus; judgments right for half of the windows, with an echo after them."""
    system, user = (m["content"] for m in request["messages"][:2])
    if '"labels"' not in system:
        return scripted.answer(request) + "\n" + HOSTILE["answers"]
    start = sum(map(ord, user)) % len(EVERYTHING)
    texts = [list(EVERYTHING.values())[(start + i) % len(EVERYTHING)][:200] for i in range(4)]
    return json.dumps(
        {
            "labels": [
                {"n": n, "label": f"x {t}", "reason": f"[red]{t}", "confidence": 0.5}
                for n, t in enumerate(texts, 1)
            ]
        },
        ensure_ascii=False,
    )


def assert_calm(text, *, colored=False, tabs=False):
    """Nothing in it that a terminal obeys or does not show, but for line ends."""
    if colored:
        text = COLORS.sub("", text)
    allowed = "\n\t" if tabs else "\n"
    odd = {c for c in text if not c.isprintable() and c not in allowed}
    assert not odd, (odd, text[:500])


@pytest.fixture(scope="module")
def hostile_corpus(tmp_path_factory):
    short = [text[:400] for text in TEXTS]
    return plant(
        tmp_path_factory.mktemp("hostile"),
        contexts=120,
        features=14,
        texts=[*short, *WORDS[len(short) :]],
    )


def test_the_terminal_the_log_and_the_tables_stay_calm(cli, hostile_corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    out = tmp_path / "out [red]\x1b[31m"
    flags = hostile_corpus.flags(out)
    words = f"\x1b]0;owned\x07[red]\u202eno\nsuch key\r{HOSTILE['tags']}\ud800"

    def faults(_request, _seen, index):
        return status(500, words) if index % 9 == 4 else None

    monkeypatch.setattr("autointerp.llm.limits.retry.FIRST_BACKOFF_S", 0.001)
    with FakeServer(hostile_answer, faults=faults) as server:
        flags += ["--model", "test-model", "--base-url", server.url, "--features-per-request", "4"]
        code, printed, said = cli("run", *flags)
        assert code == 0, said
        assert_calm(printed + said)
        assert_calm((out / "run.log").read_text())
        assert "[red]" in "".join(printed.split())
        for task in TEMPLATES:
            # Some have tabs of their own, between a token and its place.
            tabs = task.endswith("_logprobs")
            assert_calm(cli("prompt", "show", task, *flags)[1], tabs=tabs)
        server.faults = lambda *_: status(401, words)
        code, _, said = cli("run", *flags, "--temperature", "0.5")
    assert code == 2
    assert_calm(said)
    assert said.splitlines()[-1].endswith("[red]no such key x")
    assert len(said.splitlines()[-1]) <= 2000

    for colored in (False, True):
        if colored:
            monkeypatch.setenv("FORCE_COLOR", "1")
        for command in (["labels"], *(["show", str(f)] for f in range(0, 12, 3))):
            code, printed, said = cli(*command, "--run", str(out))
            assert code == 0, said
            assert_calm(printed + said, colored=colored)
            assert command == ["labels"] or "[red]" in printed
    code, printed, _ = cli("journal", "export", "--run", str(out))
    assert_calm(printed)
    assert all(json.loads(line) for line in printed.splitlines())


def test_a_table_from_elsewhere_stays_calm_on_the_terminal(cli, hostile_corpus, tmp_path):
    out = tmp_path / "out"
    assert cli("run", *hostile_corpus.flags(out))[0] == 0
    table = pq.read_table(out / "labels.parquet")
    texts = [(TEXTS * 2)[i : i + len(table)] for i in range(0, len(TEXTS), len(table))]
    for part in texts:
        for name in ("status", "label", "reason", "error", "labeler"):
            place = table.column_names.index(name)
            table = table.set_column(place, name, pa.array(part, pa.string()))
        pq.write_table(table, out / "labels.parquet")
        for command in (["labels"], ["show", "1"]):
            code, printed, said = cli(*command, "--run", str(out))
            assert code == 0, said
            assert_calm(printed)


def test_errors_lines_and_the_log_stay_calm(cli, tmp_path, capsys):
    code, _, said = cli("labels", "--run", "no\x1b[31m\u202e\nrun")
    assert code == 2
    assert said.startswith("autointerp: no run at no·[31m·⏎run")
    with track("work", 1, "features") as tracker:
        tracker.note("trouble \x1b[2J\u202e\r[red]")
        tracker.advance()
    assert_calm(capsys.readouterr().err)
    run = Run(tmp_path)
    run.note("a\nb\x1b[2J\ud800")
    assert run.log.read_text().endswith(" a⏎b·[2J·\n")


def test_tables_keep_windows_as_they_are(cli, hostile_corpus, tmp_path):
    out = tmp_path / "out"
    assert cli("run", *hostile_corpus.flags(out))[0] == 0
    vocabulary = Vocabulary.load(out / "vocabulary.parquet")
    table = pd.concat([autointerp.load_windows(out, f) for f in range(12)])
    assert len(table)
    for ids, text in zip(table["token_ids"], table["text"], strict=True):
        assert text == "".join(vocabulary.token_text(i) for i in ids)
    corpus = "".join(table["text"])
    for name in ("color", "overrides", "tags", "NUL", "chatml"):
        assert HOSTILE[name] in corpus
    # Rules quote tokens in their labels.
    code, printed, _ = cli("labels", "--run", str(out))
    assert code == 0
    assert_calm(printed)
