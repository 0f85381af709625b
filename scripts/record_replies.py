"""Record what a real model replies to the requests of a run, for tests/data/replies.

    python scripts/record_replies.py --base-url http://127.0.0.1:8080/v1 --model smollm2.gguf \\
        --name SmolLM2-135M-Instruct --server "llama.cpp b11549" \\
        --out tests/data/replies/smollm2-135m.jsonl

The jobs are the product's own, on the demo's features: labels of one, four and eight features a
request, and every scorer that asks an endpoint, with few and with many windows; each with the JSON
schema in the request and without one; and yes or no in every form. Where an endpoint gives log
probabilities, the replies that need them are recorded with the likeliest tokens. A reply of which
something is missing has the product ask again, and that reply is recorded too. Replies are kept as
they came, whether or not they can be read.

`--features` says how much is asked: 8 make about 170 replies.
"""

import argparse
import itertools
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autointerp.config.settings import RunConfig
from autointerp.errors import AutointerpError
from autointerp.evidence.window import FeatureEvidence
from autointerp.labeling.excerpts import shown_windows
from autointerp.labeling.labeler import Draft, unlabelable
from autointerp.labeling.llm import LabelJob, label_jobs
from autointerp.llm.numbering import numbers
from autointerp.llm.pool import Step
from autointerp.llm.request_runner import Outcome
from autointerp.llm.wire.logprobs import PARAMETERS, PROMPT_LOGPROBS, Position
from autointerp.llm.wire.reply import ChatReply
from autointerp.llm.wire.request import ChatRequest
from autointerp.pipeline import run_stages
from autointerp.progress import say, track
from autointerp.prompting.prompts import BUNDLED, load_prompt
from autointerp.resources.session import Session, open_session
from autointerp.rules.lexical import LexicalLabeler
from autointerp.scoring import SCORERS, forms
from autointerp.scoring.experiments.fade_experiment import text_jobs
from autointerp.scoring.judge import JudgeJob
from autointerp.scoring.scorer import Task
from autointerp.scoring.scorers.concept_texts import TASK, TextJob
from autointerp.stages.collect import collect_stage
from autointerp.stages.label.label_settings import TASK as LABEL
from autointerp.stages.label.label_settings import settings_of
from autointerp.stages.score.endpoint_judge import judge_jobs, judge_settings
from autointerp.stages.score.judge_templates import load_prompts
from autointerp.stages.score.judged_labels import JudgedLabels
from autointerp.stages.score.scoring_inputs import planner_of

_TOKENS = 30_000
_DRAWN = 60  # features; some fire too little
_GROUPS = {1: 1, 4: 3, 8: 6}  # features a labeling request → so many times fewer requests
# So many windows of a kind are judged: few, which is all that some models can keep apart, or many.
_WINDOWS = (3, 10)
_FORMS = ("json_schema", "none")
_ALTERNATIVES = 5  # tokens kept of those that might have stood in a place
_AGAIN = 1  # times that something is asked again


@dataclass
class Log:
    """Rows of the recording, and failures by what was said."""

    name: str
    server: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Recorded:
    """A job whose replies are kept; of what it asks again, the first request is sent."""

    job: LabelJob | JudgeJob | TextJob
    form: str
    log: Log
    asked_again: int = 0

    def request(self) -> ChatRequest:
        return self.job.request()

    def reduce(self, outcome: Outcome) -> Step[str]:
        request = self.request()
        if not isinstance(outcome, ChatReply):
            self.log.failures[outcome.message] += 1
            return Step(results=[outcome.kind])
        if request.logprobs is not None and outcome.ignores(request.logprobs):
            self.log.failures[f"the endpoint gives no {request.logprobs}"] += 1
            return Step(results=["ignored"])
        self.log.rows.append(self._row(request, outcome))
        follow_ups = self.job.reduce(outcome).follow_ups if self.asked_again < _AGAIN else ()
        again = [
            replace(self, job=job, asked_again=self.asked_again + 1)
            for job in follow_ups
            if isinstance(job, LabelJob | JudgeJob | TextJob) and getattr(job, "room", 1) == 1
        ]
        # Of a job and all that it asks again, one result: the bar counts jobs.
        return Step(follow_ups=again[:1]) if again else Step(results=["recorded"])

    def _row(self, request: ChatRequest, reply: ChatReply) -> dict[str, Any]:
        row: dict[str, Any] = {
            "model": self.log.name,
            "server": self.log.server,
            "about": list(request.about),
        }
        row |= asked(self.job)
        row |= {
            "schema": self.form != "none" and request.schema is not None,
            "template": self.job.prompt.hash,
            "max_tokens": request.max_tokens,
            "finish_reason": reply.finish_reason,
            "reply": reply.text,
        }
        if request.logprobs is not None:
            row["positions"] = [_position(p) for p in reply.positions(request.logprobs)]
        if request.logprobs == PROMPT_LOGPROBS:
            row["sent"] = request.messages[-1]["content"]
        return row


def asked(job: LabelJob | JudgeJob | TextJob) -> dict[str, Any]:
    """What a reader is told of the request: the task, and the numbers that were asked for."""
    if isinstance(job, LabelJob):
        return {
            "task": LABEL,
            "asked": numbers(len(job.group), job.scattered),
            "scattered": job.scattered,
            "windows": [len(shown_windows(e, job.settings.shown)) for e in job.group],
            "meanings": job.settings.meanings,
        }
    if isinstance(job, TextJob):
        return {"task": TASK, "asked": numbers(job.wanted - len(job.texts))}
    items = [job.plan.items[i] for i in job.todo[: job.chunk or job.settings.items]]
    row: dict[str, Any] = {
        "task": job.scorer.template(job.task.mode),
        "asked": numbers(len(items), job.scattered),
        "scattered": job.scattered,
        "label": job.label,
        "lengths": [len(item.truth) for item in items],
    }
    if isinstance(job.task, Task) and job.task.form is not None:
        row["form"] = job.task.form
    if items[0].choices is not None:
        own = items[0].choices.with_own(job.label)
        row["choices"] = {"labels": own.labels(), "place": own.place}
    return row


def _position(position: Position) -> list[Any]:
    likeliest = sorted(position.alternatives(), key=lambda one: -one[1])[:_ALTERNATIVES]
    return [position.text, [[text, round(logprob, 3)] for text, logprob in likeliest]]


def settings(arguments: argparse.Namespace, out: Path, **more: Any) -> RunConfig:
    """The demo in short windows, which even a slow model reads in a few seconds."""
    return RunConfig(
        out=str(out),
        coder="demo",
        tokens=_TOKENS,
        features=f"random:{_DRAWN}",
        window_length=16,
        window_before=11,
        prompts=str(BUNDLED),
        label_top=2,
        label_quantiles=2,
        model=arguments.model,
        base_url=arguments.base_url,
        api_key_env=arguments.api_key_env,
        concurrency=arguments.concurrency,
        max_concurrency=arguments.concurrency,
        timeout=600.0,
        **more,
    )


def labels_asked(job: Session, evidence: Sequence[FeatureEvidence], n: int) -> Iterator[LabelJob]:
    prompt = load_prompt(LABEL, BUNDLED)
    turns = itertools.cycle(evidence)
    for size, fewer in _GROUPS.items():
        of_size = replace(settings_of(job.config), features_per_request=size)
        group = itertools.islice(turns, size * -(-n // fewer))
        yield from label_jobs(group, prompt, job.vocabulary, of_size)


def judgments_asked(
    job: Session, drafts: dict[int, Draft], features: list[int]
) -> Iterator[JudgeJob | TextJob]:
    config = job.config
    prompts = load_prompts(config)
    labels = JudgedLabels(drafts, features, {}, job.store.statistics)
    yield from judge_jobs(config, planner_of(job), labels, prompts)
    if TASK in prompts:
        texts = {feature: str(drafts[feature].label) for feature in features}
        yield from text_jobs(
            texts, config.value("fade_texts"), prompts[TASK], judge_settings(config)
        )


def jobs(
    arguments: argparse.Namespace, out: Path, form: str
) -> Iterator[tuple[Session, Iterable[LabelJob | JudgeJob | TextJob]]]:
    """What is asked in one form, each part with the settings by which it is asked."""
    base = open_session(settings(arguments, out, response_format=form))
    evidence = [
        e
        for e in base.store.read(base.features)
        if unlabelable(e, base.config.min_windows, "") is None
    ]
    yield base, labels_asked(base, evidence, arguments.features)
    rules = LexicalLabeler(base.vocabulary)
    drafts = {
        e.feature: Draft(e.feature, "labeled", "", label=rule.phrase())
        for e in evidence
        if (rule := rules.learn(e)) is not None
    }
    half = arguments.features // 2
    chat = [name for name, scorer in SCORERS.items() if scorer.task is not None]
    for turn, windows in enumerate(_WINDOWS):
        features = sorted(drafts)[turn * half : (turn + 1) * half]
        of_each = {f"{name}_windows": windows for name in chat}
        of_each |= {"intruder_windows": -(-windows // 2), "fade_texts": windows}
        more = of_each | {"response_format": form, "simulation_mode": "json"}
        asking = open_session(settings(arguments, out, scorers=",".join(chat), **more))
        yield asking, judgments_asked(asking, drafts, features)
    several = [name for name in chat if SCORERS[name].forms]
    few = sorted(drafts)[: max(1, half // 2)]
    for judge_form in forms.FORMS[1:]:
        more = dict.fromkeys((f"{name}_windows" for name in several), _WINDOWS[0])
        more |= {"judge_form": judge_form, "response_format": form, "scorers": ",".join(several)}
        asking = open_session(settings(arguments, out, **more))
        yield asking, judgments_asked(asking, drafts, few)
    # The form of a reply that is read from probabilities is not asked for.
    for mode in PARAMETERS if form == _FORMS[0] else ():
        more = {"simulation_mode": mode, "simulation_windows": 2, "scorers": "simulation"}
        asking = open_session(settings(arguments, out, **more))
        yield asking, judgments_asked(asking, drafts, few)


def record(arguments: argparse.Namespace, out: Path) -> None:
    log = Log(arguments.name or arguments.model, arguments.server)
    began = time.monotonic()
    first = open_session(settings(arguments, out))
    run_stages(first, (collect_stage.NAME,))
    stopped: BaseException | None = None
    for form in _FORMS:
        for job, asking in jobs(arguments, out, form):
            if stopped is None:
                stopped = _ask(job, [Recorded(one, form, log) for one in asking])
    if stopped is not None and not isinstance(stopped, KeyboardInterrupt):
        raise stopped
    if not log.rows:
        raise AutointerpError(f"nothing was recorded: {dict(log.failures)}")
    rows = sorted(log.rows, key=lambda row: json.dumps([row["task"], row["schema"], row["about"]]))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    arguments.out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    say(f"{len(rows)} replies in {arguments.out}, {time.monotonic() - began:,.0f} s")
    for (task, schema), n in sorted(Counter((r["task"], r["schema"]) for r in rows).items()):
        say(f"  {n:4} {task}{' with a schema' if schema else ''}")
    for message, n in log.failures.items():
        say(f"  {n:4} without a reply: {message}")
    if stopped is not None:
        say("stopped: this is not all of it")
        raise stopped


def _ask(job: Session, asking: list[Recorded]) -> BaseException | None:
    """What ended it early, if anything did."""
    with track(f"replies ({asking[0].form})", len(asking), "requests") as progress:
        done = job.model.ask(lambda: asking, lambda _: progress.advance(), progress)
    return done.stopped


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base-url", required=True, help="An OpenAI-compatible endpoint.")
    parser.add_argument("--model", required=True, help="The model, as the endpoint names it.")
    parser.add_argument("--name", help="What the recording calls it (default: the same).")
    parser.add_argument("--server", required=True, help="What serves it, and which version.")
    parser.add_argument("--out", required=True, type=Path, help="The file to write.")
    parser.add_argument("--features", type=int, default=8, help="8 make about 170 replies.")
    parser.add_argument("--concurrency", type=int, default=4, help="Requests in flight.")
    parser.add_argument("--api-key-env", default="OPENAI_API_KEY", help="Where the key is.")
    parser.add_argument(
        "--run",
        type=Path,
        help="A folder for the journal: what was stopped goes on there (default: it is not kept).",
    )
    arguments = parser.parse_args()
    try:
        if arguments.run is not None:
            record(arguments, arguments.run)
        else:
            with tempfile.TemporaryDirectory() as temporary:
                record(arguments, Path(temporary) / "run")
    except AutointerpError as error:
        parser.exit(2, f"{error}\n")
    except KeyboardInterrupt:
        parser.exit(130)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
