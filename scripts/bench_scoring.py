"""What it takes to know a label's score as well as Delphi's defaults do: tokens and requests.

    autointerp collect --features random:400 --score-windows 60 --out RUN
    pip download --no-deps eai-delphi && unzip eai_delphi*.whl 'delphi/scorers/classifier/prompts/*'
    python scripts/bench_scoring.py RUN delphi/scorers/classifier/prompts/detection_prompt.py

The same judge, of rates that are drawn for every feature, answers both: on ours the requests that
`autointerp score` sends, on theirs Delphi's own prompt, five windows each, 50 activating and 50
silent ones drawn at random. Judges differ in how often they find a feature, and in how often a
window of each stratum deceives them. Intervals are computed by the same functions for both sides.
"""

import argparse
import importlib.util
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autointerp.evidence.corpus import Corpus
from autointerp.evidence.store import EvidenceStore
from autointerp.evidence.window import Window
from autointerp.llm.wire.reply import ChatReply, Usage
from autointerp.metrics.estimates import Counts, Estimate, balanced_accuracy
from autointerp.metrics.population import population
from autointerp.metrics.sequential import anytime_balanced_accuracy
from autointerp.prompting.prompts import BUNDLED, load_prompt
from autointerp.runs.directory import Run
from autointerp.scoring.judge import JudgeJob, JudgeSettings
from autointerp.scoring.scorer import FIRES, Judged, Material, activating
from autointerp.scoring.scorers import detection
from autointerp.scoring.strata import OTHER, SAME_TOKEN, SIMILAR, draw_uniform, strata_of
from autointerp.vocabulary import Vocabulary

_LABEL = "mentions of cities and other places, mostly in the news about sports"
_CHARACTERS_A_TOKEN = 3.5
_DELPHI_WINDOWS, _DELPHI_SHOWN = 50, 5
Rates = dict[str, float]


@dataclass
class Side:
    """Sums over features; a width is that of a 95 % interval."""

    prompt: int = 0
    reply: int = 0
    requests: int = 0
    judged: int = 0
    counts: list[Counts] = field(default_factory=list)
    intervals: list[Estimate] = field(default_factory=list)

    def line(self, name: str) -> str:
        n = len(self.counts)
        f1 = [e["f1"] for e in population(self.counts, 0)]
        widths = [np.mean([e.ci_high - e.ci_low for e in es]) for es in (self.intervals, f1)]
        prompt, reply = (c / n / _CHARACTERS_A_TOKEN for c in (self.prompt, self.reply))
        return (
            f"{name:<34}{self.judged / n:>8.1f}{self.requests / n:>10.1f}{prompt:>10,.0f}"
            f"{reply:>8,.0f}{widths[0]:>12.3f}{widths[1]:>12.3f}"
        )


def rates_of(feature: int) -> Rates:
    rng = np.random.default_rng([7, feature])
    return {
        FIRES: float(rng.beta(8, 2)),
        SIMILAR: float(rng.beta(1, 4)),
        SAME_TOKEN: float(rng.beta(1, 4)),
        OTHER: float(rng.beta(0.3, 15)),
    }


def says_yes(rates: Rates, feature: int, window: Window, stratum: str) -> bool:
    key = f"{feature}:{window.kind}:{window.rank}"
    return random.Random(key).random() < rates[stratum]


def characters(messages: Sequence[dict[str, str]]) -> int:
    return sum(len(m["content"]) for m in messages)


def ours(
    material: Material, windows: int, items: int, vocabulary: Vocabulary, precision: float | None
) -> Iterator[tuple[int, int, Judged]]:
    """Characters sent and received of each request, and what was judged with the last one."""
    plan = detection.plan(material, windows)
    rates, feature = rates_of(plan.feature), plan.feature

    def narrow(judged: Judged) -> bool:
        found = anytime_balanced_accuracy(detection.counts(judged))
        return (found.ci_high - found.ci_low) / 2 <= (precision or 0)

    job: JudgeJob | None = JudgeJob(
        scorer=detection.SCORER,
        plan=plan,
        label_of=feature,
        label=_LABEL,
        prompt=load_prompt(detection.NAME, BUNDLED),
        vocabulary=vocabulary,
        settings=JudgeSettings("m", 0.0, items),
        todo=tuple(range(len(plan.items))),
        enough=narrow if precision else None,
    )
    while job is not None:
        asked = [plan.items[i] for i in job.todo[:items]]
        yes = [says_yes(rates, feature, i.window, i.stratum) for i in asked]
        sides: dict[str, list[int]] = {"match": [], "no_match": []}
        for number, said in enumerate(yes, 1):
            sides["match" if said else "no_match"].append(number)
        reply = json.dumps(sides)
        sent = characters(job.messages())
        step = job.reduce(ChatReply(reply, "stop", False, Usage(0, 0), cost_usd=0.0))
        yield sent, len(reply), step.results[0] if step.results else Judged(plan, "", feature, ())
        job = step.follow_ups[0] if step.follow_ups else None  # type: ignore[assignment]


def delphis(material: Material, prompt: Callable[..., list[dict[str, str]]], side: Side) -> None:
    feature, rates = material.evidence.feature, rates_of(material.evidence.feature)
    stratum_of = {int(i): s.name for s in material.strata for i in s.windows}
    shown = [(w, FIRES) for w in activating(material.evidence, _DELPHI_WINDOWS)]
    drawn = draw_uniform(material.strata, _DELPHI_WINDOWS, feature, 1)
    shown += [(material.corpus.silent_window(i), stratum_of[i]) for i in drawn]
    counts = Counts(material.evidence.window_density, {"random": 1.0})
    for begin in range(0, len(shown), _DELPHI_SHOWN):
        part = shown[begin : begin + _DELPHI_SHOWN]
        examples = "\n".join(f"Example {i}: {w.text}" for i, (w, _) in enumerate(part))
        side.prompt += characters(prompt(examples, _LABEL))
        side.reply += len("[1,0,0,0,1]")
        side.requests += 1
        for window, stratum in part:
            said = says_yes(rates, feature, window, stratum)
            counts.add(FIRES if stratum == FIRES else "random", said)
    side.judged += len(shown)
    side.counts.append(counts)
    side.intervals.append(balanced_accuracy(counts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path)
    parser.add_argument("delphi", type=Path, help="Delphi's detection_prompt.py")
    options = parser.parse_args()
    found: Any = importlib.util.spec_from_file_location("detection_prompt", options.delphi)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    run = Run(options.run)
    store, corpus = EvidenceStore(run.windows, run.features), Corpus.read(run.corpus)
    vocabulary = Vocabulary.load(run.vocabulary)
    materials = [
        Material(e, corpus, strata_of(corpus, e), 0)
        for e in store.read(store.features)
        if len(activating(e, _DELPHI_WINDOWS)) == _DELPHI_WINDOWS and e.window_density < 1
    ]
    print(f"{len(materials)} features with {_DELPHI_WINDOWS} activating windows to score")
    names = ("judged", "requests", "prompt", "reply", "BA width", "F1 width")
    widths = (8, 10, 10, 8, 12, 12)
    print(" " * 34 + "".join(f"{n:>{w}}" for n, w in zip(names, widths, strict=True)))
    theirs = Side()
    for material in materials:
        delphis(material, module.prompt, theirs)
    print(theirs.line("Delphi, defaults"))
    settings = [(n, 50, None) for n in (10, 16, 20, 30, 40, 50)]
    for windows, items, precision in [*settings, (50, 25, 0.15), (50, 25, 0.12), (50, 25, 0.1)]:
        side = Side()
        for material in materials:
            for step in ours(material, windows, items, vocabulary, precision):
                sent, received, judged = step
                side.prompt += sent
                side.reply += received
                side.requests += 1
            counts = detection.counts(judged)
            side.counts.append(counts)
            side.judged += len(judged.judgments)
            estimate = anytime_balanced_accuracy if precision else balanced_accuracy
            side.intervals.append(estimate(counts))
        name = f"ours, {windows} + {round(1.5 * windows)} windows"
        print(side.line(name + (f", precision {precision}" if precision else "")))


if __name__ == "__main__":
    main()
