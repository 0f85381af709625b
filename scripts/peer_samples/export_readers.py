"""Read exports with the peers' own readers, and write down the fields those readers know.

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install --no-deps neuronpedia==1.2.1 sae-dashboard==0.8.0 \\
        eai-delphi==0.1.3 neuron-explainer==0.0.1
    /tmp/peers/bin/pip install ...    # what importing them asks for; their own pins exclude another
    for f in neuronpedia neuronpedia-upload saedashboard openai delphi; do
        autointerp export $f --run RUN --features 0-9 --out EXPORTS/$f --source-id 6-set; done
    OPENAI_API_KEY=unused /tmp/peers/bin/python scripts/peer_samples/export_readers.py EXPORTS OUT

OUT is tests/data/exports. Nothing is sent anywhere: the Neuronpedia client's transport is replaced.
A reader that reads something else than was written stops the script. `fields.json`: the names of
the fields of each record and which of them have to be there; `made_by.json`: the peers' versions.
"""

import argparse
import asyncio
import dataclasses
import gzip
import importlib.util
import json
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

# ruff: noqa: E402
# Delphi's client for models of one's own asks for vLLM, which nothing here does.
sys.modules["delphi.clients.offline"] = SimpleNamespace(Offline=None)  # type: ignore[assignment]

from delphi.explainers.explainer import explanation_loader
from delphi.log.result_analysis import get_agg_metrics, load_data
from delphi.scorers.classifier.sample import ClassifierOutput
from neuron_explainer.activations import activations
from neuron_explainer.explanations import explanations
from neuron_explainer.fast_dataclasses import loads
from neuronpedia.np_activation import Activation
from neuronpedia.np_explanation import Explanation
from neuronpedia.np_feature import Feature, Logit
from neuronpedia.requests.feature_request import FeatureRequest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("exports", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    fields = {
        "neuronpedia": neuronpedia(given.exports / "neuronpedia"),
        "neuronpedia-upload": upload(given.exports / "neuronpedia-upload"),
        "saedashboard": saedashboard(given.exports / "saedashboard"),
        "openai": openai(given.exports / "openai"),
        "delphi": delphi(given.exports / "delphi"),
    }
    (given.out / "fields.json").write_text(json.dumps(fields, indent=1) + "\n")
    names = ("neuronpedia", "sae-dashboard", "eai-delphi", "neuron-explainer")
    versions = {name: metadata.version(name) for name in names}
    (given.out / "made_by.json").write_text(json.dumps(versions) + "\n")


def rows(folder: Path) -> list[dict[str, Any]]:
    packed = (f.read_bytes() for f in sorted(folder.glob("batch-*.jsonl.gz")))
    return [json.loads(line) for p in packed for line in gzip.decompress(p).splitlines()]


class Reads(dict[str, Any]):
    """A row that remembers which keys were asked for, and which of them had to be there."""

    def __init__(self, row: dict[str, Any]) -> None:
        super().__init__(row)
        self.needed: set[str] = set()
        self.looked: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.needed.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.looked.add(key)
        return super().get(key, default)


def neuronpedia(folder: Path) -> dict[str, Any]:
    """The client reads each feature as if its database had taken the rows in."""
    source = next(p for p in (folder / "v1").glob("*/*") if p.parent.name != "config")
    kinds = {kind: rows(source / kind) for kind in ("features", "activations", "explanations")}
    seen: dict[str, Reads] = {}
    for row in kinds["features"]:
        mine = {
            kind: [Reads(r) for r in kinds[kind] if r["index"] == row["index"]]
            for kind in ("activations", "explanations")
        }
        # The client asks for a key that the tables do not have.
        for mine_row in (r for of_kind in mine.values() for r in of_kind):
            mine_row["source"] = row["layer"]
        # And it refuses the -1 by which the database marks the strongest windows.
        for activation in mine["activations"]:
            if dict.__getitem__(activation, "binContains") == -1:
                activation["binContains"] = None
        answer = Reads(row | mine)
        with mock.patch.object(FeatureRequest, "send_request", return_value=answer):
            read = FeatureRequest(api_key="unused").get(
                row["modelId"], row["layer"], int(row["index"])
            )
        assert read.density == row["frac_nonzero"]
        assert [a.tokens for a in read.activations] == [a["tokens"] for a in mine["activations"]]
        assert [e.text for e in read.explanations] == [
            e["description"] for e in mine["explanations"]
        ]
        seen |= {"features": answer} | {kind: found[0] for kind, found in mine.items() if found}
    joined = {"activations", "explanations", "source"}  # of other tables
    return {
        kind: {"needed": sorted(row.needed - joined), "looked": sorted(row.looked)}
        for kind, row in seen.items()
    }


def upload(folder: Path) -> dict[str, Any]:
    """The client builds the same bodies of the same contents."""
    for file in sorted(folder.glob("batch-*.json")):
        body = json.loads(file.read_text())
        at = (body["modelId"], body["source"])
        features = [feature_of(at, f) for f in body["features"]]
        with mock.patch.object(FeatureRequest, "send_request", side_effect=lambda **k: k) as sent:
            FeatureRequest(api_key="unused").upload_batch(*at, features)
        theirs = sent.call_args.kwargs["json"]
        for feature in theirs["features"]:
            for activation in feature["activations"]:
                for name in ("quantileMin", "quantileMax", "quantileFraction"):
                    if activation[name] is None:
                        del activation[name]
        assert theirs == body, file
    feature = body["features"][0]
    return {"body": sorted(body), "feature": sorted(feature), "activation": sorted(activation)}


def feature_of(at: tuple[str, str], row: dict[str, Any]) -> Feature:
    index = row["index"]
    return Feature(
        *at,
        index,
        density=row["density"],
        top_logits=[Logit(**pair) for pair in row["topLogits"]],
        bottom_logits=[Logit(**pair) for pair in row["bottomLogits"]],
        explanations=[
            Explanation(*at, index, e["text"], e["methodName"], e["modelName"])
            for e in row["explanations"]
        ],
        activations=[Activation(*at, index, **a) for a in row["activations"]],
    )


def module_of(package: str, file: str) -> ModuleType:
    """One file of a package, without all that importing the package asks for."""
    spec = importlib.util.spec_from_file_location(
        Path(file).stem, metadata.distribution(package).locate_file(file)
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def saedashboard(folder: Path) -> dict[str, Any]:
    """Its batch takes the file as it is, and gives it back the same."""
    reader = module_of("sae-dashboard", "sae_dashboard/neuronpedia/neuronpedia_dashboard.py")
    for file in folder.glob("batch-*.json"):
        whole = json.loads(file.read_text())
        assert reader.NeuronpediaDashboardBatch(**whole).to_dict() == whole, file
    return {
        "batch": sorted(reader.NeuronpediaDashboardBatch().to_dict()),
        "feature": sorted(reader.NeuronpediaDashboardFeature().to_dict()),
        "activation": sorted(reader.NeuronpediaDashboardActivation().to_dict()),
    }


def openai(folder: Path) -> dict[str, Any]:
    for file in (folder / "collated-activations").glob("*/*.json"):
        record = loads(file.read_bytes(), backwards_compatible=False)
        assert type(record) is activations.NeuronRecord
        assert record.neuron_id.neuron_index == int(file.stem)
        assert all(type(r) is activations.ActivationRecord for r in record.random_sample)
    for layer in (folder / "explanations").iterdir():
        where = str(folder / "explanations")
        for index in explanations.get_sorted_neuron_indices_from_explanations(where, layer.name):
            read = explanations.load_neuron_explanations(where, layer.name, index)
            assert type(read) is explanations.NeuronSimulationResults
            (scored,) = read.scored_explanations
            sequences = scored.scored_simulation.scored_sequence_simulations
            assert all(type(s) is explanations.ScoredSequenceSimulation for s in sequences)
    kinds = (
        activations.ActivationRecord,
        activations.NeuronId,
        activations.NeuronRecord,
        explanations.SequenceSimulation,
        explanations.ScoredSequenceSimulation,
        explanations.ScoredSimulation,
        explanations.ScoredExplanation,
        explanations.NeuronSimulationResults,
    )
    return {kind.__name__: sorted(f.name for f in dataclasses.fields(kind)) for kind in kinds}


def delphi(folder: Path) -> dict[str, Any]:
    files = sorted((folder / "explanations").iterdir())
    for file in files:
        record = SimpleNamespace(latent=file.stem)
        read = asyncio.run(explanation_loader(record, str(folder / "explanations")))
        assert read.explanation == json.loads(file.read_text())
    hookpoint = files[0].stem.rpartition("_latent")[0]
    frame, _ = load_data(folder / "scores", [hookpoint])
    metrics = get_agg_metrics(frame, None)
    written = [json.loads(f.read_text()) for f in (folder / "scores").glob("*/*.txt")]
    assert int(metrics["total_examples"].sum()) == sum(
        row["prediction"] is not None for rows_ in written for row in rows_
    )
    print(metrics[["score_type", "total_examples", "accuracy"]])
    return {"ClassifierOutput": sorted(f.name for f in dataclasses.fields(ClassifierOutput))}


if __name__ == "__main__":
    main()
