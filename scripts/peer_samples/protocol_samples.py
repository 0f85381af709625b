"""Write what other tools' own code chooses, shows and scores, given one set of windows and a judge.

    python scripts/peer_samples/protocol_samples.py tests/data/protocols

It needs Delphi (eai-delphi), SAEBench (sae-bench), OpenAI's neuron-explainer, Neuronpedia's
apps/autointerp and the fork of Delphi that it uses (hijohnnylin/sae-auto-interp), installed or as
checkouts in PYTHONPATH, and OPENAI_API_KEY=unused, for which neuron-explainer asks on import.
Nothing is sent anywhere: the judge is `says`, which looks for words. made_by.json, beside what is
written, has the commits that were run.

`evidence.json`: windows of one made-up feature; `delphi.json`, `saebench.json`, `bills.json` and
`neuronpedia.json`: which of them each tool takes, what it shows of them, and its scores.
"""

import argparse
import asyncio
import json
import random
import re
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from delphi.clients.client import Response
from delphi.latents import ActivatingExample, Latent, LatentRecord, NonActivatingExample
from delphi.latents.samplers import split_quantiles
from delphi.log.result_analysis import compute_classification_metrics, compute_confusion
from delphi.scorers.classifier.detection import DetectionScorer
from delphi.scorers.classifier.fuzz import FuzzingScorer
from neuron_explainer.activations.activations import (
    ActivationRecord,
    ActivationRecordSliceParams,
    NeuronId,
    NeuronRecord,
)
from neuron_explainer.explanations.explanations import ActivationScale, SequenceSimulation
from neuron_explainer.explanations.scoring import simulate_and_score
from neuron_explainer.explanations.simulator import NeuronSimulator
from neuronpedia_autointerp.utils import per_feature_scores_fuzz_detection
from sae_auto_interp.features import Example, Feature, FeatureRecord
from sae_auto_interp.scorers.classifier.detection import DetectionScorer as ForkDetection
from sae_auto_interp.scorers.classifier.fuzz import FuzzingScorer as ForkFuzzing
from sae_bench.evals.autointerp import main as saebench_main
from sae_bench.evals.autointerp.eval_config import AutoInterpEvalConfig

LENGTH, WORDS, ACTIVATING, SILENT = 32, 40, 50, 50
LABEL = "w7 or w8"
NAMED = (" w7", " w8")  # what the label is about
SEEDS = 400  # draws of SAEBench's windows
BUFFER = 10  # tokens on either side of the peak in SAEBench's windows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    found = evidence(np.random.default_rng(0))
    write(out / "evidence.json", found)
    write(out / "delphi.json", delphi(found))
    write(out / "saebench.json", saebench(found))
    write(out / "bills.json", bills(found))
    write(out / "neuronpedia.json", neuronpedia(found))


def says(text: str) -> bool:
    """The judge: whether what is marked, or a whole text without marks, has one of its words."""
    runs = re.findall("<<(.*?)>>", text)
    return any(f"{word} " in f"{part} " for part in runs or [text] for word in NAMED)


def evidence(rng: np.random.Generator) -> dict[str, Any]:
    """Windows as numbers of words, " w3" being 3: activating ones with activations, silent ones."""
    activating = []
    for i in range(ACTIVATING):
        ids = rng.integers(0, WORDS, LENGTH)
        values = np.zeros(LENGTH)
        places = rng.choice(LENGTH, rng.integers(1, 5), replace=False)
        values[places] = rng.uniform(0.5, 10, len(places))
        if i % 4:
            ids[places] = rng.integers(7, 9, len(places))
        activating.append({"ids": ids.tolist(), "activations": values.round(5).tolist()})
    silent = [{"ids": rng.integers(0, WORDS, LENGTH).tolist()} for _ in range(SILENT)]
    return {"label": LABEL, "activating": activating, "silent": silent}


def words(window: dict[str, Any]) -> list[str]:
    return [f" w{i}" for i in window["ids"]]


def by_strength(found: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(found["activating"], key=lambda w: -max(w["activations"]))


class Judge:
    """Answers the examples of a prompt, as both tools ask for it, and keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    async def generate(self, prompt: list[dict[str, str]], **_: Any) -> Response:
        texts = re.findall(r"^Example \d+: ?(.*)$", prompt[-1]["content"], re.MULTILINE)
        self.shown += texts
        return Response(text=str([int(says(" " + text.lstrip())) for text in texts]))


def delphi(found: dict[str, Any]) -> dict[str, Any]:
    """Which of so many windows are chosen; the texts of both scorers; metrics and replies."""
    choices = []
    for n in (200, 143, 57, 50, 43, 12, 9):
        chosen = split_quantiles([SimpleNamespace(place=i) for i in range(n)], 10, 50)
        choices.append({"windows": n, "chosen": [each.place for each in chosen]})
    scored = {}
    for name, kind in (("detection", DetectionScorer), ("fuzzing", FuzzingScorer)):
        record = LatentRecord(Latent("made", 0))
        record.test = [
            ActivatingExample(
                torch.tensor(w["ids"]), torch.tensor(w["activations"]), None, words(w)
            )
            for w in by_strength(found)
        ]
        record.not_active = [
            NonActivatingExample(torch.tensor(w["ids"]), torch.zeros(LENGTH), words(w))
            for w in found["silent"]
        ]
        record.explanation = LABEL
        judge = Judge()
        result = asyncio.run(kind(judge, n_examples_shown=5)(record))
        metrics = compute_classification_metrics(
            compute_confusion(pd.DataFrame([asdict(one) for one in result.score]))
        )
        names = ("accuracy", "f1_score", "precision", "recall")
        scored[name] = {
            "texts": sorted(judge.shown),
            "metrics": {n: float(metrics[n]) for n in names},
        }
    reader = DetectionScorer(None, n_examples_shown=5)
    replies = (
        *("[1, 0, 0, 1, 1]", "[1,0,0,1,1]", "The answer is [0, 0, 0, 0, 1].", "[1, 0, 0, 1]"),
        *("[1, 0, 0, 1, 1, 1]", "1, 0, 0, 1, 1", "[]", "", "[1, 0, 0, 1, 1] [0, 0, 0, 0, 0]"),
        *("[true, false, false, true, true]", "```\n[0, 1, 0, 1, 0]\n```", "[1, 0, x, 1, 1]"),
    )
    read = []
    for reply in replies:
        try:
            said = [bool(one) for one in reader._parse(reply)[0]]
        except Exception:
            said = None
        read.append({"reply": reply, "read": said})
    return {"choices": choices, "scored": scored, "replies": read}


def saebench(found: dict[str, Any]) -> dict[str, Any]:
    """How often each activating window is judged, over many seeds; one seed's windows and score.

    Each window is a context of its own, its peak in the middle, so that none overlap. Random
    windows come from contexts in which nothing fires.
    """
    windows = by_strength(found)
    size = 2 * BUFFER + 1
    tokens = torch.zeros((2 * ACTIVATING, size), dtype=torch.int64)
    acts = torch.zeros((2 * ACTIVATING, size, 1))
    for row, window in enumerate(windows):
        tokens[row] = torch.tensor(window["ids"][:size])
        tokens[row, BUFFER] = 7
        acts[row, BUFFER, 0] = max(window["activations"])
    for row, window in enumerate(found["silent"][:ACTIVATING], ACTIVATING):
        tokens[row] = torch.tensor(window["ids"][:size])
    scorer = saebench_main.AutoInterp.__new__(saebench_main.AutoInterp)
    scorer.cfg = AutoInterpEvalConfig(model_name="made", llm_batch_size=1, llm_dtype="float32")
    scorer.latents = [0]
    scorer.tokenized_dataset = tokens
    scorer.model = SimpleNamespace(to_str_tokens=lambda ids: [f" w{i}" for i in ids.tolist()])
    scorer.sae = SimpleNamespace(cfg=SimpleNamespace(hook_layer=0, hook_name=""))
    saebench_main.activation_collection.collect_sae_activations = lambda *_, **__: acts
    row_of = {round(float(acts[row].max()), 5): row for row in range(ACTIVATING)}
    assert len(row_of) == ACTIVATING
    judged: Counter[int] = Counter()
    sizes = set()
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        random.seed(seed)
        examples = list(scorer.gather_data()[1][0])
        fires = [row_of[round(max(e.acts), 5)] for e in examples if e.is_active]
        judged.update(fires)
        sizes.add((len(examples), sum(row < 12 for row in fires), sum(row >= 12 for row in fires)))
    ((n, n_top, n_weighted),) = sizes
    texts = [example.to_str() for example in examples]
    numbers = [i for i, text in enumerate(texts, 1) if says(text)]
    reply = ", ".join(map(str, numbers)) or "None"
    read = scorer.parse_predictions(reply)
    return {
        "windows": n,
        "top": n_top,
        "weighted": n_weighted,
        "strengths": [max(w["activations"]) for w in windows],
        "judged": [judged[row] / SEEDS for row in range(ACTIVATING)],
        "texts": texts,
        "active": [example.is_active for example in examples],
        "reply": reply,
        "score": scorer.score_predictions(read, examples),
    }


class Simulator(NeuronSimulator):
    """Predicts 8 on the words of the label, 1 on the word after them, and nothing elsewhere."""

    async def simulate(self, tokens: list[str]) -> SequenceSimulation:
        hits = [token in NAMED for token in tokens]
        values = [
            8.0 if h else float(before) for h, before in zip(hits, [False, *hits], strict=False)
        ]
        return SequenceSimulation(
            tokens=list(tokens),
            expected_activations=values,
            activation_scale=ActivationScale.SIMULATED_NORMALIZED_ACTIVATIONS,
            distribution_values=[],
            distribution_probabilities=[],
        )


def bills(found: dict[str, Any]) -> dict[str, Any]:
    """The places of the records it scores among the strongest, and scores of some records."""
    windows = by_strength(found)

    def record(window: dict[str, Any]) -> ActivationRecord:
        return ActivationRecord(words(window), window.get("activations", [0.0] * LENGTH))

    neuron = NeuronRecord(
        NeuronId(0, 0),
        random_sample=[record(w) for w in found["silent"][:15]],
        most_positive_activation_records=[record(w) for w in windows[:20]],
    )
    chosen = neuron.valid_activation_records(ActivationRecordSliceParams(5))
    places = [
        neuron.most_positive_activation_records.index(one) for one in chosen if any(one.activations)
    ]
    # Random records are whatever the corpus has: here some in which the feature fires.
    kinds = {"top": [record(w) for w in windows[:5]]}
    kinds["random"] = [record(w) for w in (*found["silent"][:4], windows[30])]
    kinds["top and random"] = [*kinds["top"], *kinds["random"]]
    scores = {}
    for kind, records in kinds.items():
        scored = asyncio.run(simulate_and_score(Simulator(), records))
        scores[kind] = float(scored.ev_correlation_score)
    return {"places": places, "scores": scores}


def neuronpedia(found: dict[str, Any]) -> dict[str, Any]:
    """The texts of both scorers, and the scores, of the top windows and silent ones it takes.

    Which these are is in its web app (app/api/explanation/score/route.tsx), in TypeScript: the 20
    strongest that are not silent, and up to 5 silent ones.
    """
    scored = {}
    for name, kind in (("recall", ForkDetection), ("fuzz", ForkFuzzing)):
        record = FeatureRecord(Feature("made", 0))
        record.test = [
            [Example(words(w), torch.tensor(w["activations"])) for w in by_strength(found)[:20]]
        ]
        record.extra_examples = record.random_examples = [
            Example(words(w), torch.zeros(LENGTH)) for w in found["silent"][:5]
        ]
        record.explanation = LABEL
        judge = Judge()
        scorer = kind(judge, tokenizer=None, batch_size=5, verbose=False, log_prob=False)
        random.seed(0)
        result = asyncio.run(scorer(record))
        scored[name] = {
            "texts": sorted(judge.shown),
            "score": per_feature_scores_fuzz_detection(result.score),
        }
    return scored


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value) + "\n")


if __name__ == "__main__":
    main()
