"""In which form a judge can say yes or no: what came of each, over the labels of a run.

    autointerp run --features random:20 --out RUN
    python scripts/bench_forms.py RUN --model NAME --base-url URL

Any labels will do, rules too: they are judged as words. Every label is judged on the same excerpts
in every form, and another feature's label beside it. Replies are kept in the run's journal: Ctrl-C
prints what has come, and rerunning the same command resumes. Booleans are the same requests as
probabilities, but for the log probabilities, and get the same answers.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from autointerp.config.settings import RunConfig
from autointerp.metrics.estimates import Estimate, mean_interval
from autointerp.progress import track
from autointerp.resources.session import Session
from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS, forms, replies
from autointerp.scoring.judge import JudgeJob
from autointerp.scoring.scorer import Judged
from autointerp.scoring.scorers.ranking import AUROC
from autointerp.stages.score.endpoint_judge import judge_jobs
from autointerp.stages.score.judge_templates import load_prompts
from autointerp.stages.score.judged_labels import judged_labels
from autointerp.stages.score.scoring_inputs import planner_of
from autointerp.tables.write import read_drafts

_HEADER = (
    f"{'scorer':<10} {'form':<14} {'replies':>7} {'read':>5} {'all yes':>7} {'all no':>6} "
    f"{'labels':>6}  {'accuracy':<22} {'other label':>11}  {'difference':<24} {'AUROC':<22} "
    f"{'prompt':>6} {'reply':>5}"
)


@dataclass
class Row:
    """What came of one form: by feature, of its own label and of another's."""

    own: dict[int, Judged] = field(default_factory=dict)
    null: dict[int, Judged] = field(default_factory=dict)

    def line(self, scorer: str, form: str) -> str:
        every = [*self.own.values(), *self.null.values()]
        counts: Counter[str] = Counter()
        for judged in self.own.values():
            counts.update(judged.replies.counts)
        received = sum(j.replies.counts.get(replies.RECEIVED, 0) for j in every)
        read = np.mean([j.parse_rate() for j in every])
        telling = max(counts[replies.TELLING], 1)
        metric = SCORERS[scorer].metric
        own, null = (_values(side, metric) for side in (self.own, self.null))
        both = sorted(own.keys() & null.keys())
        difference = _over([own[f] - null[f] for f in both])
        ranked = _over(_values(self.own, AUROC).values())
        excerpts = sum(len(j.judgments) for j in every)
        prompt, reply = (
            sum(getattr(j, f"{what}_tokens") for j in every) / max(excerpts, 1)
            for what in ("prompt", "completion")
        )
        return (
            f"{scorer:<10} {form:<14} {received:>7} {read:>5.0%} "
            f"{counts[replies.ALL_YES] / telling:>7.0%} {counts[replies.ALL_NO] / telling:>6.0%} "
            f"{len(own):>6}  {_shown(_over(own.values())):<22} "
            f"{_over(null.values()).value:>11.3f}  "
            f"{_shown(difference, '+'):<24} {_shown(ranked):<22} {prompt:>6.0f} {reply:>5.1f}"
        )


def _values(side: Mapping[int, Judged], metric: str) -> dict[int, float]:
    found = {f: SCORERS[one.scorer].reduce(one, 0).get(metric) for f, one in side.items()}
    return {f: e.value for f, e in found.items() if e is not None and not np.isnan(e.value)}


def _over(values: Iterable[float]) -> Estimate:
    return mean_interval(np.array(list(values), dtype=np.float64))


def _shown(found: Estimate, sign: str = "") -> str:
    if not found.n:
        return "–"
    return f"{found.value:{sign}.3f} ({found.ci_low:{sign}.3f}, {found.ci_high:{sign}.3f})"


def jobs_in(form: str, run: Run, config: RunConfig) -> list[JudgeJob]:
    """Of all labels and their nulls, label by label."""
    config = config.model_copy(update={"judge_form": form})
    session = Session(config, run, None, [])
    # Rules would judge themselves.
    drafts = {d.feature: replace(d, rule=None) for d in read_drafts(run.drafts)}
    statistics = session.store.statistics
    shares = config.score_share, config.share_with_null()
    labels = judged_labels(drafts, statistics, *shares, config.seed)
    jobs = judge_jobs(config, planner_of(session), labels, load_prompts(config))
    return [one for one in jobs if one.todo]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--base-url", required=True)
    usual = ",".join((forms.LISTS, forms.PROBABILITIES, forms.QUOTES))
    parser.add_argument("--forms", default=usual)
    parser.add_argument("--scorers", default="detection,fuzzing")
    parser.add_argument("--items", type=int, default=10, help="excerpts a label, and a request")
    parser.add_argument("--features", type=int, default=20)
    parser.add_argument("--concurrency", type=int, default=2)
    given = parser.parse_args()
    run = Run(given.run)
    windows = {
        "detection_windows": max(2, round(given.items / 2.5)),
        "fuzzing_windows": max(2, given.items // 3),
    }
    config = RunConfig(
        **windows,
        out=str(given.run),
        model=given.model,
        base_url=given.base_url,
        scorers=given.scorers,
        judge_items=given.items,
        null_share=1.0,
        concurrency=given.concurrency,
        max_concurrency=given.concurrency,
    )
    every = [jobs_in(form, run, config) for form in given.forms.split(",")]
    chosen = list(dict.fromkeys(one.plan.feature for one in every[0]))[: given.features]
    jobs = [j for same in zip(*every, strict=True) for j in same if j.plan.feature in chosen]
    rows: dict[tuple[str, str], Row] = defaultdict(Row)
    with track("judging", len(jobs), "labels") as progress:

        def take(judged: Judged) -> None:
            row = rows[judged.scorer, judged.mode or forms.LISTS]
            own = judged.label_of == judged.feature
            (row.own if own else row.null)[judged.feature] = judged
            progress.advance()

        asked = Session(config, run, None, []).model.ask(lambda: jobs, take, progress)
    print(_HEADER)
    for (scorer, form), row in sorted(rows.items()):
        print(row.line(scorer, form))
    if asked.stopped is not None:
        print(f"stopped: {asked.stopped}")


if __name__ == "__main__":
    main()
