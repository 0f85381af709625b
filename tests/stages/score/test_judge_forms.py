"""A run whose judge is asked in another form than lists, and judges that do not judge."""

import json
import math
import shutil

import pandas as pd
import pytest

import autointerp
from autointerp.prompting.prompts import BUNDLED
from tests.conftest import run_command
from tests.support import scripted
from tests.support.batch_server import BatchServer
from tests.support.fake_server import FakeServer, Reply

KEY = "k"


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture(scope="module")
def server():
    with FakeServer(scripted.answer) as server:
        yield server


def flags_of(server, planted, out):
    flags = ["--model", "test-model", "--base-url", server.url, "--features-per-request", "6"]
    flags += ["--features", "0-5", "--detection-windows", "8", "--fuzzing-windows", "6"]
    return [*flags, *planted.flags(out), "--scorers", "detection,fuzzing"]


@pytest.fixture(scope="module")
def labeled(planted, server, tmp_path_factory):
    out = tmp_path_factory.mktemp("labeled") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OPENAI_API_KEY", KEY)
        for stage in ("collect", "label"):
            code, _, said = run_command(stage, *flags_of(server, planted, out))
            assert code == 0, said
    return out


@pytest.fixture
def score(labeled, planted, server, tmp_path):
    """Score a copy of the labeled run with a judge: its tables, what was printed and said."""

    def scored(judge, *more):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        shutil.copytree(labeled, out)
        server.respond = judge
        try:
            code, printed, said = run_command("score", *flags_of(server, planted, out), *more)
        finally:
            server.respond = scripted.answer
        assert code == 0, said
        return out, unwrapped(printed), said

    return scored


def unwrapped(printed):
    """A table's cells, each on one line."""
    return " ".join(printed.replace("│", " ").split())


def test_quotes_before_booleans_judge_as_lists_do(score):
    found = {}
    for form in ("lists", "quotes"):
        out, _, _ = score(scripted.answer, "--judge-form", form)
        scores = autointerp.load_scores(out)
        assert not scores["uniform"].any()
        modes = set(scores["mode"].dropna())
        assert modes == (set() if form == "lists" else {"quotes"})
        assert scores["prompt_hash"].notna().all()
        found[form] = scores.drop(columns=["mode"])
    pd.testing.assert_frame_equal(found["lists"], found["quotes"])


def test_a_judge_that_says_yes_to_everything_is_told_from_one_that_judges(score):
    out, printed, _ = score(all_yes)
    flags = autointerp.load_labels(out)["flags"].explode()
    assert set(flags.dropna()) == {"detection_uniform"}
    assert "100% got yes for every excerpt" in printed
    assert "no better than chance: mean balanced accuracy 0.500" in printed
    assert printed.count("so these scores mean nothing") == 1  # fuzzing was judged


def all_yes(request):
    said = json.loads(scripted.answer(request))
    if "no_match" in said:
        said = {"match": said["match"] + said["no_match"], "no_match": []}
    return json.dumps(said)


def test_in_batches_one_answer_for_everything_is_flagged_and_not_asked_again(
    cli, labeled, planted, tmp_path
):
    out = tmp_path / "out"
    shutil.copytree(labeled, out)
    with BatchServer(all_yes, polls=0) as server:
        code, _, said = cli("score", *flags_of(server, planted, out), "--batch")
    assert code == 0, said
    assert len(server.batches) == 1
    assert not server.online
    flags = autointerp.load_labels(out)["flags"].explode()
    assert set(flags.dropna()) == {"detection_uniform"}


def timid(request):
    """No to everything, though yes is likelier where it would be right."""
    if "top_logprobs" not in request:
        return scripted.answer(request)
    tokens = []
    for number, fits in json.loads(scripted.answer(request)).items():
        yes = 0.4 if fits else 0.1
        top = [
            {"token": word, "logprob": math.log(p)}
            for word, p in ((" false", 1 - yes), (" true", yes))
        ]
        tokens += [{"token": f', "{number}":', "logprob": 0.0}, top[0] | {"top_logprobs": top}]
    tokens[0]["token"] = "{" + tokens[0]["token"].removeprefix(", ")
    tokens.append({"token": "}", "logprob": 0.0})
    text = "".join(token["token"] for token in tokens)
    return Reply(text, choice={"logprobs": {"content": tokens}})


def test_a_timid_judges_probabilities_rank_what_it_says_no_to(score):
    out, printed, _ = score(timid, "--judge-form", "probabilities")
    scores = autointerp.load_scores(out)
    assert set(scores["mode"].dropna()) == {"probabilities"}
    by_metric = scores.groupby(["scorer", "metric"])["value"].mean()
    assert by_metric["detection", "balanced_accuracy"] == 0.5
    assert by_metric["detection", "auroc"] > 0.9
    assert by_metric["fuzzing", "auroc"] > 0.9
    assert "its probabilities do rank excerpts: mean AUROC" in printed
    predictions = pd.read_parquet(out / "predictions.parquet")
    assert sorted(predictions["probability"].astype(float).round(2).unique()) == [0.1, 0.4]


def test_where_there_are_no_probabilities_booleans_take_their_place_and_it_is_said(score):
    out, printed, said = score(scripted.answer, "--judge-form", "probabilities")
    assert "does not support top_logprobs" in said
    assert "used booleans instead" in printed
    assert set(autointerp.load_scores(out)["mode"].dropna()) == {"booleans"}


def test_a_template_that_only_knows_lists_stops_the_run_before_it_sends_anything(
    planted, server, tmp_path
):
    source = (BUNDLED / "fuzzing.jinja").read_text()
    begin, end = source.index('{% if form == "lists"'), source.index("{%- endif %}")
    own = source[:begin] + '{"right": [1], "wrong": [2]}' + source[end + len("{%- endif %}") :]
    (tmp_path / "fuzzing.jinja").write_text(own)
    sent = len(server.bodies)
    flags = [*flags_of(server, planted, tmp_path / "out"), "--prompts", str(tmp_path)]
    code, _, said = run_command("run", *flags, "--judge-form", "booleans")
    assert code == 2
    assert "fuzzing.jinja only supports lists" in said
    assert "Traceback" not in said
    assert len(server.bodies) == sent
