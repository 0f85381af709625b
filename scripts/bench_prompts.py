"""What a model makes of each template: what comes back, and whether it is of any use.

    python scripts/bench_prompts.py --base-url http://127.0.0.1:8000/v1 --model NAME

asks for labels of some features of the demo (or of `--run`), with every template variant in
`scripts/prompt_variants/label/` beside the current one, and has every judging template judge labels
that are known to be right: rules that find their features' unseen windows. All of it goes through
the jobs and the pool that a run uses. Labels are then judged by the same model, each beside another
feature's; a difference of 0 says that either the labels or the judge tell nothing.

Replies are journaled in `--out` and finished rows kept in `rows.jsonl`: interrupted, by Ctrl-C or
`timeout -s INT 9m`, rerunning the same command resumes. The table is `table.md` there. A key is
taken from the environment variable that `--api-key-env` names.
"""

import argparse
import hashlib
import json
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
from bench_prompts_table import markdown

from autointerp.config.settings import RunConfig
from autointerp.errors import AutointerpError
from autointerp.evidence.store import EvidenceStore
from autointerp.labeling import no_label
from autointerp.labeling.labeler import Draft, unlabelable
from autointerp.labeling.llm import LabelJob, label_jobs
from autointerp.labeling.rule_drafts import rule_draft
from autointerp.llm.numbering import Miscounted
from autointerp.llm.pool import PoolJob, Step
from autointerp.llm.request_runner import Outcome
from autointerp.llm.wire.reply import ChatReply
from autointerp.llm.wire.request import ChatRequest
from autointerp.progress import say, track
from autointerp.prompting.prompts import BUNDLED, SUFFIX, Prompt, read_prompt, template_path
from autointerp.resources.session import Session, open_session
from autointerp.rules import lexical
from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS, forms
from autointerp.scoring.experiments.fade_experiment import text_jobs
from autointerp.scoring.null import null_partners
from autointerp.scoring.scorer import Judged
from autointerp.scoring.scorers import concept_texts
from autointerp.scoring.scorers.concept_texts import Written
from autointerp.stages.collect import collect_stage
from autointerp.stages.label.label_settings import settings_of
from autointerp.stages.score import local_judges
from autointerp.stages.score.endpoint_judge import judge_jobs, judge_settings
from autointerp.stages.score.judged_labels import JudgedLabels, with_label
from autointerp.stages.score.rule_judge import RulesJudge
from autointerp.stages.score.scoring_inputs import planner_of
from autointerp.stages.stage import do
from autointerp.vocabulary import Vocabulary

VARIANTS = Path(__file__).parent / "prompt_variants"
_EVIDENCE = ("windows", "features", "corpus", "vocabulary")
_RIGHT = 0.8  # balanced accuracy of a rule on unseen windows, from which on its label is right
_MAX_LABEL = 80  # characters of such a label: long ones are lists that no model reads well
_DRAWS = 2000


@dataclass(frozen=True)
class Variant:
    """One row: a template, and how it is asked with."""

    task: str
    name: str
    prompt: Prompt
    schema: bool
    per_request: int = 1
    form: str | None = None
    meanings: int = 1  # as --label-meanings

    def label(self) -> str:
        name = "" if self.name == "current" else f": {self.name}"
        without = ", no meanings" if self.task == "label" and self.meanings == 1 else ""
        return f"{self.task}{f' ({self.form})' if self.form else ''}{name}{without}"


def _gives_example(request: ChatRequest, reply: str) -> bool:
    """Whether a reply begins with an example of one that the instructions show."""
    system = str(request.messages[0]["content"])
    shown = ("".join(line.split()) for line in system.splitlines() if line.startswith("{"))
    return any("".join(reply.split()).startswith(example) for example in shown)


@dataclass
class Seen:
    """What the replies to the first requests were, and the tokens of all."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    answers: Counter[str] = field(default_factory=Counter)  # of those that were asked for
    kinds: Counter[str] = field(default_factory=Counter)

    def take(self, job: Any, outcome: Outcome, is_first: bool) -> None:
        self.requests += 1
        self.prompt_tokens += outcome.usage.prompt_tokens
        self.completion_tokens += outcome.usage.completion_tokens
        if is_first and isinstance(job, LabelJob):
            self._take_labels(job, outcome)
        elif isinstance(outcome, ChatReply):
            self.answers["replies"] += 1
            self.answers["copied"] += _gives_example(job.request(), outcome.text)

    def copied(self) -> float | None:
        """The share of judges' replies that are the template's example."""
        replies = self.answers["replies"]
        return self.answers["copied"] / replies if replies else None

    def _take_labels(self, job: LabelJob, outcome: Outcome) -> None:
        self.answers["asked"] += len(job.group)
        if not isinstance(outcome, ChatReply):
            return
        try:
            found, doubts = job.read(outcome.text)
        except Miscounted:
            self.kinds[no_label.MISCOUNTED] += len(job.group)
            return
        labels = Counter(no_label.same(item.label) for item in found.values())
        self.answers["read"] += len(found)
        self.answers["identical"] += sum(n for n in labels.values() if n > 1)
        self.kinds.update(doubts.values())


@dataclass(frozen=True)
class Watched:
    """A job of the product's whose replies are counted."""

    job: Any
    seen: Seen
    is_first: bool = True

    def request(self) -> ChatRequest:
        request: ChatRequest = self.job.request()
        return request

    def reduce(self, outcome: Outcome) -> Step[Any]:
        self.seen.take(self.job, outcome, self.is_first)
        step = self.job.reduce(outcome)
        again = [Watched(job, self.seen, False) for job in step.follow_ups]
        return replace(step, follow_ups=again)


class Stopped(Exception):
    """Interrupted: what is finished is kept."""


class NothingReadableError(AutointerpError):
    """Asking was in vain; `seen` is what the replies so far were."""

    def __init__(self, reason: AutointerpError, seen: Seen) -> None:
        super().__init__(str(reason))
        self.seen = seen


class Bench:
    """The evidence, the features, labels that are right, and the rows so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.per_request = [int(n) for n in options.per_request.split(",")]
        self.meanings = [int(n) for n in options.meanings.split(",")]
        self.out = Path(options.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.rows_file = self.out / "rows.jsonl"
        self.rows: dict[str, dict[str, Any]] = {}
        if self.rows_file.is_file():
            for line in self.rows_file.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                self.rows[row["key"]] = row
        self.run = self._evidence()
        self.store = EvidenceStore(self.run.windows, self.run.features)
        self.vocabulary = Vocabulary.load(self.run.vocabulary)
        self.right = self._right_labels()
        self.features = sorted(self.right)

    def config(self, *, schema: bool, **more: Any) -> RunConfig:
        options = self.options
        windows: dict[str, Any] = {f"{name}_windows": options.windows for name in SCORERS}
        windows["simulation_windows"] = max(2, options.windows // 2)
        windows |= {
            "fade_texts": options.windows,
            "embedding_model": options.embedding_model or "none",
        }
        return RunConfig(
            out=str(self.out),
            tokens=options.tokens,
            features=f"random:{options.of}",
            base_url=options.base_url,
            model=options.model,
            api_key_env=options.api_key_env,
            response_format="json_schema" if schema else "none",
            concurrency=options.concurrency,
            max_concurrency=options.concurrency,
            judge_items=options.judge_items,
            label_top=options.label_top,
            label_quantiles=options.label_quantiles,
            scorers="detection" + (",embedding" if options.embedding_model else ""),
            **more,
            **windows,
        )

    def job(self, *, schema: bool, **more: Any) -> Session:
        return Session(self.config(schema=schema, **more), self.run, None, self.features)

    def _evidence(self) -> Run:
        """The run's evidence, copied: a run's journal is its own. Or the demo's, collected."""
        here = Run(self.out)
        if all(getattr(here, name).is_file() for name in _EVIDENCE):
            return here
        if self.options.run is None:
            do(collect_stage.STAGE, open_session(self.config(schema=True)))
            return here
        theirs = Run(Path(self.options.run))
        for name in _EVIDENCE:
            source = getattr(theirs, name)
            if not source.is_file():
                raise AutointerpError(f"no evidence: {source} is missing; run `autointerp collect`")
            shutil.copyfile(source, getattr(here, name))
        return here

    def _right_labels(self) -> dict[int, Draft]:
        """Features whose rule finds their unseen windows, drawn at random, with its label."""
        labeler = lexical.LexicalLabeler(self.vocabulary)
        drafts: dict[int, Draft] = {}
        for evidence in self.store.read(self.store.features):
            if unlabelable(evidence, 5, lexical.NAME) is None:
                rule = labeler.learn(evidence)
                draft = None if rule is None else rule_draft(evidence.feature, rule)
                if draft is not None and len(draft.label or "") <= _MAX_LABEL:
                    drafts[evidence.feature] = draft
        judged: list[Judged] = []
        session = Session(RunConfig(), self.run, None, sorted(drafts))
        labels = JudgedLabels(drafts, sorted(drafts), {}, self.store.statistics)
        with track("rules", len(drafts), "features") as progress:
            judge = RulesJudge(["detection"])
            judge.judge(planner_of(session), labels, judged.append, progress)
        good = {one.feature for one in judged if _main(one) >= _RIGHT}
        order = sorted(good, key=lambda f: random.Random(f"bench:{f}").random())
        return {f: replace(drafts[f], rule=None) for f in order[: self.options.features]}

    def variants(self) -> list[Variant]:
        """Labels first: they are what the rest rests on."""
        tasks = [name for scorer in SCORERS.values() if scorer.task for name in scorer.templates()]
        wanted = self.options.only.split(",") if self.options.only else None
        variants = self.options.variants.split(",") if self.options.variants else None
        return [
            Variant(task, name, read_prompt(task, path), schema, per_request, form, meanings)
            for task in ("label", *tasks, concept_texts.TASK)
            if wanted is None or task in wanted
            for schema in self._schemas(task)
            for name, path in _files(task, Path(self.options.templates))
            if variants is None or name in variants
            for form in _forms(task)
            if form is None or self.options.forms is None or form in self.options.forms.split(",")
            for meanings in (self.meanings if task == "label" else (1,))
            for per_request in (self.per_request if task == "label" else (1,))
        ]

    def _schemas(self, task: str) -> Sequence[bool]:
        if not _takes_schema(task):
            return (False,)
        return {"both": (True, False), "yes": (True,), "no": (False,)}[self.options.schemas]

    def measure(self) -> None:
        """Every row that is still to come, the table after each."""
        for variant in () if self.options.table else self.variants():
            row = self.rows.get(self._key(variant), {})
            if not row.get("done"):
                self._measure(variant, row.get("seconds", 0.0))
        print(self.table())

    def _key(self, variant: Variant) -> str:
        options = self.options
        parts = (
            *(variant.task, variant.name, variant.prompt.hash, variant.schema),
            *(variant.per_request, variant.form, variant.meanings, options.base_url, options.model),
            *(options.features, options.windows, options.judge_items),
            *(options.label_top, options.label_quantiles),
        )
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def _measure(self, variant: Variant, before: float) -> None:
        began = time.monotonic()
        row: dict[str, Any] = {"key": self._key(variant), "variant": variant.label()}
        row |= {"task": variant.task, "schema": variant.schema, "date": date.today().isoformat()}
        row |= {"per_request": variant.per_request, "done": True}
        try:
            if variant.task == "label":
                row |= self._labels(variant)
            elif variant.task == concept_texts.TASK:
                row |= self._texts(variant)
            else:
                row |= self._judgments(variant)
        except NothingReadableError as error:
            row |= {"error": str(error), "copied": error.seen.copied()}
        except AutointerpError as error:
            row |= {"error": str(error)}
        except Stopped:
            row["done"] = False
        row["seconds"] = before + time.monotonic() - began
        self.rows[row["key"]] = row
        with self.rows_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        (self.out / "table.md").write_text(self.table(), encoding="utf-8")
        if not row["done"]:
            say("stopped; rerun the same command to resume")
            sys.exit(130)

    def _ask(self, job: Session, jobs: Callable[[], Iterable[PoolJob[Any]]], name: str) -> Any:
        """The results and what was seen.

        Raises Stopped, or NothingReadableError where asking is in vain.
        """
        seen = Seen()
        results: list[Any] = []
        with track(name, len(self.features), "features") as progress:
            asked = job.model.ask(
                lambda: (Watched(one, seen) for one in jobs()), results.append, progress
            )
        if isinstance(asked.stopped, AutointerpError):
            raise NothingReadableError(asked.stopped, seen)
        if asked.stopped is not None:
            raise Stopped
        return results, seen

    def _labels(self, variant: Variant) -> dict[str, Any]:
        job = self.job(schema=variant.schema)
        settings = replace(
            settings_of(job.config),
            features_per_request=variant.per_request,
            meanings=variant.meanings,
        )

        def jobs() -> Iterator[LabelJob]:
            return label_jobs(
                self.store.read(self.features), variant.prompt, self.vocabulary, settings
            )

        results, seen = self._ask(job, jobs, variant.label())
        drafts: dict[int, Draft] = {draft.feature: draft for draft in results}
        labeled = [f for f, draft in drafts.items() if draft.label is not None]
        labels = [no_label.same(drafts[f].label or "") for f in labeled]
        asked = seen.answers["asked"]
        (self.out / "labels").mkdir(exist_ok=True)
        said = [
            {"feature": f, "status": d.status, "label": d.label, "asked_again": d.asked_again}
            for f, d in sorted(drafts.items())
        ]
        path = self.out / "labels" / f"{self._key(variant)}.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in said), encoding="utf-8")
        row = {
            "readable": seen.answers["read"] / asked,
            "copied": sum(seen.kinds[kind] for kind in no_label.FROM_EXAMPLE) / asked,
            "identical": seen.answers["identical"] / asked if variant.per_request > 1 else None,
            "kinds": dict(seen.kinds),
            "labeled": len(labeled) / len(self.features),
            "distinct": len(set(labels)) / max(1, len(labels)),
            "flagged": sum(bool(d.flags) for d in drafts.values()) / max(1, len(labels)),
        }
        row |= self._spent(seen)
        judged = self._judge(drafts, labeled) if labeled else {}
        return row | judged

    def _judge(self, drafts: dict[int, Draft], labeled: list[int]) -> dict[str, Any]:
        """What the labels get: by the endpoint's own detection, and by embedding."""
        job = self.job(schema=True)
        labels = self._labels_of(drafts, labeled)
        planner = planner_of(job)
        row: dict[str, Any] = {}
        if self.options.score:
            prompt = read_prompt("detection", template_path("detection", BUNDLED))

            def jobs() -> Iterator[PoolJob[Judged]]:
                return judge_jobs(job.config, planner, labels, {"detection": prompt})

            results, _ = self._ask(job, jobs, "detection of labels")
            row["detection"] = self._difference(results)
        if self.options.embedding_model:
            judge = local_judges.open_judges(job.config, job.device, {})
            judged: list[Judged] = []
            with track("embedding", len(labeled), "features") as progress:
                judge.judge(planner, labels, judged.append, progress)
            row["embedding"] = self._difference(judged)
        return row

    def _labels_of(self, drafts: dict[int, Draft], features: list[int]) -> JudgedLabels:
        statistics = self.store.statistics
        nulls = null_partners(with_label(drafts.values(), statistics), RunConfig().seed)
        return JudgedLabels(drafts, features, nulls, statistics)

    def _judgments(self, variant: Variant) -> dict[str, Any]:
        job = self.job(schema=variant.schema, judge_form=variant.form or forms.LISTS)
        labels = self._labels_of(self.right, self.features)

        def jobs() -> Iterator[PoolJob[Judged]]:
            prompts = {variant.task: variant.prompt}
            made = judge_jobs(job.config, planner_of(job), labels, prompts)
            return (one for one in made if one.todo)

        results, seen = self._ask(job, jobs, variant.label())
        asked = sum(len(one.judgments) for one in results)
        read = [j for one in results for j in one.readable()]
        yes = [float(j.prediction[0] > 0) for j in read if j.item.truth.size == 1]
        return {
            "readable": float(np.nanmean([one.parse_rate() for one in results])) if asked else None,
            "copied": seen.copied(),
            "yes": float(np.mean(yes)) if yes and variant.form else None,
            "score": self._difference(results),
        } | self._spent(seen)

    def _texts(self, variant: Variant) -> dict[str, Any]:
        job = self.job(schema=variant.schema)
        labels = {f: draft.label or "" for f, draft in self.right.items()}
        wanted, judge = job.config.value("fade_texts"), judge_settings(job.config)

        def jobs() -> Iterator[PoolJob[Written]]:
            return text_jobs(labels, wanted, variant.prompt, judge)

        results, seen = self._ask(job, jobs, variant.label())
        texts = [text for written in results for text in written.texts]
        said = Counter(" ".join(text.split()).casefold() for text in texts)
        copied = [text for text in said if text and text in variant.prompt.source.casefold()]
        wanted = sum(written.wanted for written in results)
        return {
            "readable": len(texts) / max(1, wanted),
            "copied": sum(said[text] for text in copied) / max(1, len(texts)),
            "distinct": len(said) / max(1, len(texts)),
        } | self._spent(seen)

    def _spent(self, seen: Seen) -> dict[str, float]:
        n = len(self.features)
        return {
            "requests": seen.requests / n,
            "prompt_tokens": seen.prompt_tokens / n,
            "completion_tokens": seen.completion_tokens / n,
        }

    def _difference(self, judged: Iterable[Judged]) -> dict[str, float | None]:
        """The mean over features of a score less its null, with a bootstrap interval."""
        own: dict[int, float] = {}
        nulls: dict[int, float] = {}
        for one in judged:
            of = own if one.label_of == one.feature else nulls
            of[one.feature] = _main(one)
            chance = SCORERS[one.scorer].chance
            if chance is not None:
                nulls[one.feature] = chance
        pairs = np.array([(own[f], nulls[f]) for f in own if f in nulls]).reshape(-1, 2)
        pairs = pairs[~np.isnan(pairs).any(axis=1)]
        if not len(pairs):
            return {"own": None, "n": 0}
        differences = pairs[:, 0] - pairs[:, 1]
        rng = np.random.default_rng(0)
        means = rng.choice(differences, (_DRAWS, len(differences))).mean(axis=1)
        low, high = np.quantile(means, (0.025, 0.975))
        value = {"own": pairs[:, 0].mean(), "mean": differences.mean(), "low": low, "high": high}
        found: dict[str, float | None] = {name: float(number) for name, number in value.items()}
        return found | {"n": len(pairs)}

    def table(self) -> str:
        """All rows of this model, as Markdown."""
        order = {self._key(variant): n for n, variant in enumerate(self.variants())}
        rows = sorted(
            (r for r in self.rows.values() if r["key"] in order), key=lambda r: order[r["key"]]
        )
        rows = [row for row in rows if row["done"]]
        dates = sorted({row["date"] for row in rows}) or [datetime.now(UTC).date().isoformat()]
        when = dates[0] if len(set(dates)) == 1 else f"{dates[0]} to {dates[-1]}"
        options = self.options
        head = (
            f"{options.title or options.model}, {when}: {len(self.features)} features, labeled "
            f"from {options.label_top} + {options.label_quantiles} windows; {options.windows} "
            f"activating windows a score, at most {options.judge_items} items a request; "
            "temperature 0.\n\n"
        )
        return head + markdown(rows)


def _main(judged: Judged) -> float:
    scorer = SCORERS[judged.scorer]
    return scorer.reduce(judged, 0)[scorer.metric].value


def _files(task: str, folder: Path) -> list[tuple[str, Path]]:
    """The current template, then those of the folder."""
    found = sorted((folder / task).glob(f"*{SUFFIX}"))
    return [("current", template_path(task, BUNDLED)), *((path.stem, path) for path in found)]


def _takes_schema(task: str) -> bool:
    return not task.endswith("_logprobs")


def _forms(task: str) -> Sequence[str | None]:
    """The ways in which a template asks, where there are several."""
    found = list(SCORERS[task].forms) if task in SCORERS else []
    return found or (None,)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--api-key-env", default="OPENAI_API_KEY")
    parser.add_argument("--title", help="what the table calls the model")
    parser.add_argument("--run", help="a run whose evidence is used (default: the demo's)")
    parser.add_argument("--out", default="outputs/bench-prompts")
    parser.add_argument("--templates", default=str(VARIANTS), help="FOLDER/TASK/VARIANT.jinja")
    parser.add_argument("--only", help="tasks, comma-separated: label, detection, …")
    parser.add_argument("--variants", help="comma-separated: current, and names of --templates")
    parser.add_argument("--schemas", choices=("both", "yes", "no"), default="both")
    parser.add_argument("--forms", help="comma-separated: lists, booleans, quotes, probabilities")
    parser.add_argument("--features", type=int, default=50)
    parser.add_argument("--of", type=int, default=500, help="features of the demo to choose from")
    parser.add_argument("--tokens", default="100_000", help="of the demo's text")
    parser.add_argument("--per-request", default="1,4,8", help="features in a labeling request")
    parser.add_argument("--meanings", default="5,1", help="as --label-meanings; 1: not asked for")
    parser.add_argument("--label-top", type=int, default=5, help="as of a run")
    parser.add_argument("--label-quantiles", type=int, default=5, help="as of a run")
    parser.add_argument("--windows", type=int, default=6, help="activating windows of a score")
    parser.add_argument("--judge-items", type=int, default=10)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--table", action="store_true", help="only print what is finished")
    parser.add_argument("--no-score", dest="score", action="store_false", help="no detection")
    parser.add_argument("--embedding-model", help="also judge labels by this encoder")
    options = parser.parse_args()
    try:
        Bench(options).measure()
    except AutointerpError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
