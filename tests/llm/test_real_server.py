"""The client, the pool and the command line against a server that others wrote.

`transformers serve` answers with the demo's tiny subject model, which was never taught to chat.
"""

import asyncio
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tokenizers import Tokenizer

import autointerp
from autointerp import demo
from autointerp.errors import AutointerpError, EndpointError, EndpointRejectedError
from autointerp.llm.journal.journal_file import export, info
from autointerp.llm.preflight import preflight
from autointerp.llm.wire.dialect import dialect_for
from autointerp.llm.wire.reply import CallFailure, ChatReply
from autointerp.llm.wire.request import ChatRequest
from tests.support.echo import TRANSPORTS, Echo, run
from tests.support.relay import relayed

MODEL = "tiny"  # as the server is started with, which is the one name that it takes
NO_THOUGHTS = "<think>\n\n</think>\n\n"
# Qwen3's own, as far as we use it: the server reads its replies by `<|im_start|>assistant`.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)
READY = re.compile(r"Uvicorn running on (http://127\.0\.0\.1:\d+)")
PATIENCE_S = 120
BROKEN = "the server answers nobody, or only with errors, after the requests that broke it"


@dataclass(frozen=True)
class Server:
    url: str
    folder: Path  # the model's
    hub: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served")) as served:
        yield served


@pytest.fixture(scope="module")
def breakable(tmp_path_factory):
    """A server of its own: now and then one that a request has broken stays broken."""
    with serving(tmp_path_factory.mktemp("broken")) as served:
        yield served


def is_broken(server: Server) -> bool:
    """Whether it answers a plain request no more, or with an error of its own."""
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
    try:
        answer = httpx.post(f"{server.url}/chat/completions", json=asked, timeout=10)
    except httpx.TransportError:
        return True
    return answer.status_code >= 500


@contextmanager
def serving(root: Path) -> Iterator[Server]:
    folder, hub = root / MODEL, root / "hf" / "hub"
    shutil.copytree(demo.SUBJECT, folder)
    hub.mkdir(parents=True)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    settings = json.loads((folder / "generation_config.json").read_text())
    settings["use_cache"] = True  # else every token takes as long as the whole prompt
    (folder / "generation_config.json").write_text(json.dumps(settings))
    env = os.environ | {
        "HF_HOME": str(root / "hf"),
        "HF_HUB_CACHE": str(hub),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",  # more of them get in the way of tests beside this one
    }
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", MODEL]
    command += ["--device", "cpu", "--dtype", "float32", "--default-seed", "0"]
    command += ["--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(
        command, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    log, found = [], queue.SimpleQueue()

    def read() -> None:
        for line in process.stdout:
            log.append(line)
            if ready := READY.search(line):
                found.put(ready[1])
        found.put(None)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        url = found.get(timeout=PATIENCE_S)
        assert url is not None, "".join(log)
        yield Server(f"{url}/v1", folder, hub)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()
        process.stdout.close()


@pytest.fixture
def relay(server):
    port = int(server.url.rpartition(":")[2].partition("/")[0])
    with relayed(port) as relay:
        yield relay


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "journal.sqlite"


@dataclass(frozen=True)
class Ask(Echo):
    """Says what came of it: the whole outcome."""

    model: str = MODEL
    most: int = 10

    def request(self):
        schema = super().request().schema
        words = ({"role": "user", "content": self.word},)
        return ChatRequest(self.model, words, self.most, temperature=0.0, schema=schema)

    def reduce(self, outcome):
        step = super().reduce(outcome)
        return type(step)(results=[(self.word, outcome)])


@dataclass(frozen=True)
class Unsaid(Ask):
    """A request without messages: over it the server fails and drops the connection, unsaid."""

    def request(self):
        return ChatRequest(self.model, (), self.most, temperature=float(self.word))


def asks(n, **more):
    return [Ask(f"Say the word {i}", **more) for i in range(n)]


def refusal(url, model):
    """The status and the words, which change with its version, of what the server declines."""
    body = {"model": model, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    reply = httpx.post(f"{url}/chat/completions", json=body, timeout=60)
    assert reply.status_code >= 400
    said = reply.json().get("error") or reply.json()
    words = said if isinstance(said, str) else said.get("message") or said.get("detail")
    return reply.status_code, " ".join(words.split())


def check(url, model=MODEL):
    asyncio.run(preflight(url, "k", model, timeout_s=20))


def test_preflight_asks_where_no_model_is_listed(server):
    check(server.url)
    away = server.hub.rename(server.hub.with_name("away"))
    try:
        check(server.url)  # GET /models fails with status 500
    finally:
        away.rename(server.hub)


def test_preflight_says_the_servers_words_in_one_line(server):
    for url, model in ((server.url, "other"), (server.url + "/nothing", MODEL)):
        status, words = refusal(url, model)
        with pytest.raises(AutointerpError) as caught:
            check(url, model)
        said = str(caught.value)
        assert said.startswith(f"endpoint {url} does not serve '{model}': status {status}: {words}")
        assert "\n" not in said


def test_a_model_the_server_does_not_have_stops_the_run(server, journal):
    jobs = asks(20, model="other")
    _, words = refusal(server.url, "other")
    run(server.url, jobs, journal, concurrency=4, error=(EndpointRejectedError, re.escape(words)))
    assert info(journal).replies == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_pool_counts_and_keeps_what_the_server_sends(server, relay, journal, transport):
    how = {"dialect": dialect_for(relay.url), "concurrency": 4, "transport": transport}
    jobs = asks(40)
    ran = run(relay.url, jobs, journal, **how)
    exchanges = relay.exchanges()
    taken = [e for e in exchanges if b" 200 " in e[1]]
    assert len(taken) == 40 == ran.totals.requests == len(ran.results)
    assert ran.totals.retries == ran.totals.failures == 0

    tokenizer = Tokenizer.from_file(str(server.folder / "tokenizer.json"))
    expected = {}
    for sent, head, raw in taken:
        assert sent["stream"] is False
        assert b"content-type: application/json" in head
        word = sent["messages"][0]["content"]
        prompt = f"<|im_start|>user\n{word}<|im_end|>\n<|im_start|>assistant\n"
        if "chat_template_kwargs" in sent:  # some versions refuse it
            assert sent["chat_template_kwargs"] == {"enable_thinking": False}
            prompt += NO_THOUGHTS
        count = len(tokenizer.encode(prompt, add_special_tokens=False).ids)
        text = json.loads(raw)["choices"][0]["message"]["content"]
        expected[word] = (count, text)
    assert set(expected) == {job.word for job in jobs}
    for word, reply in ran.results:
        assert (reply.usage.prompt_tokens, reply.text) == expected[word]
        assert reply.model.startswith(MODEL)
        assert 1 <= reply.usage.completion_tokens <= 10
        at_bound = reply.usage.completion_tokens == 10
        assert reply.finish_reason == ("length" if at_bound else "stop")
    assert ran.totals.prompt_tokens == sum(count for count, _ in expected.values())
    assert len({text for _, text in expected.values()}) > 1

    kept = list(export(journal))
    assert sorted(row["reply"].encode() for row in kept) == sorted(raw for _, _, raw in taken)
    assert sum(row["prompt_tokens"] for row in kept) == ran.totals.prompt_tokens
    assert info(journal).unconfirmed == 0

    again = run(relay.url, jobs, journal, **how)
    assert again.totals.from_journal == 40
    assert again.totals.requests == 0
    assert not relay.kept
    texts = [{word: reply.text for word, reply in r.results} for r in (ran, again)]
    assert texts[0] == texts[1]


def test_a_parameter_that_is_refused_is_given_up_and_not_sent_again(relay, journal):
    dialect = dialect_for("https://openrouter.ai/api/v1", extra={"seed": 1})
    assert "reasoning" in dialect.optional
    first = run(relay.url, asks(8), journal, dialect=dialect, concurrency=4)
    assert first.events == [f"{relay.url} does not support reasoning: no longer sending it"]
    assert all(isinstance(reply, ChatReply) for _, reply in first.results)
    exchanges = relay.exchanges()
    refused = [sent for sent, head, _ in exchanges if b" 422 " in head]
    assert 1 <= len(refused) <= 4
    assert all("reasoning" in sent for sent in refused)
    assert len(exchanges) == 8 + len(refused)

    more = run(relay.url, asks(10), journal, dialect=dialect, concurrency=4)
    assert (more.totals.from_journal, more.totals.requests, more.events) == (8, 2, [])
    assert [" 200 " in head.decode() for _, head, _ in relay.exchanges()] == [True, True]


def test_a_parameter_that_the_user_insists_on_stops_the_run(server, journal):
    dialect = dialect_for(server.url, extra={"top_k": 3})
    words = r"Unexpected fields in the request: .*'top_k'"
    run(server.url, asks(8), journal, dialect=dialect, error=(EndpointRejectedError, words))


def test_replies_end_at_their_bound_or_by_themselves(server, journal):
    jobs = [*asks(2, most=1), *asks(2, most=7), *asks(2, most=40)]
    ran = run(server.url, jobs, journal, dialect=dialect_for(server.url))
    ends = sorted((r.usage.completion_tokens, r.finish_reason) for _, r in ran.results)
    assert ends == [(n, "length") for n in (1, 1, 7, 7, 40, 40)]
    # Token 0 ends a reply: made certain, it is all that comes.
    ending = dialect_for(server.url, extra={"logit_bias": {"0": 100.0}})
    ran = run(server.url, asks(3), journal, dialect=ending)
    assert [(r.text, r.finish_reason) for _, r in ran.results] == [("", "stop")] * 3


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_requests_that_break_the_server_hurt_no_others(breakable, journal, transport):
    jobs = asks(40)
    broken = [Unsaid(f"0.{i}") for i in range(4)]
    for i, job in enumerate(broken):
        jobs.insert(10 * i + 5, job)
    try:
        ran = run(
            breakable.url,
            jobs,
            journal,
            dialect=dialect_for(breakable.url),
            concurrency=4,
            transport=transport,
            max_attempts=8,
            timeout_s=5.0,
            longest_s=30.0,
            first_pause_s=0.01,
        )
    except EndpointError:
        if is_broken(breakable):
            pytest.skip(BROKEN)
        raise
    outcomes = dict(ran.results)
    assert len(ran.results) == 44 == len(outcomes)
    failures = {word: o for word, o in outcomes.items() if isinstance(o, CallFailure)}
    if len(failures) > len(broken) + 2 and is_broken(breakable):
        pytest.skip(BROKEN)
    # The server drops what it does beside a request that breaks it. Without backoff one may be
    # tried each time beside the same one, and as often in vain.
    assert set(failures) >= {job.word for job in broken}
    others = len(failures) - len(broken)
    assert others <= 2
    assert {failure.kind for failure in failures.values()} <= {"server_error", "connection"}
    assert "status 500: Internal Server Error" in ran.troubles
    assert any(trouble.startswith("connection failed: ") for trouble in ran.troubles)
    assert not any(trouble.startswith("no connection") for trouble in ran.troubles)
    kept = info(journal)
    # What the server may have begun is in doubt, each time.
    assert (kept.replies, kept.unconfirmed) == (40 - others, ran.totals.retries + 4 + others)


def test_the_command_line_gives_every_feature_a_row_with_its_reason(server, planted, tmp_path):
    command = shutil.which("autointerp", path=str(Path(sys.executable).parent))
    out = tmp_path / "out"
    done = subprocess.run(
        [
            *([command] if command else [sys.executable, "-m", "autointerp"]),
            "run",
            *planted.flags(out),
            *("--features", "0-4", "--min-windows", "1"),
            *("--model", MODEL, "--base-url", server.url, "--max-attempts", "2"),
            # Short prompts and replies, which the server makes one after another.
            *("--features-per-request", "1", "--label-top", "1", "--label-quantiles", "1"),
            *("--extra-body", '{"max_completion_tokens": 5}'),
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1, done.stderr  # over a tenth failed
    assert "5 failed" in done.stdout
    labels = autointerp.load_labels(out)
    assert labels["feature"].tolist() == list(range(5))
    assert set(labels["status"]) == {"failed"}
    reasons = {"the reply was cut off before this label", "no valid label in the reply"}
    assert set(labels["error"]) <= reasons
    assert labels["label"].isna().all()
    kept = info(out / "journal.sqlite")
    assert (kept.replies, kept.unreadable >= 10) == (0, True)  # each was asked for twice at least
    assert (labels["prompt_tokens"] > 0).all()
    assert labels["prompt_tokens"].sum() == kept.prompt_tokens
    assert labels["completion_tokens"].sum() == kept.completion_tokens
