"""Models, SAEs, texts and activations that are in memory."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import autointerp as ai
from autointerp import demo, held
from autointerp.activations.formats import find_cache
from autointerp.activations.subject import load_subject
from autointerp.coders import load_coder
from tests.support.planted import WORDS
from tests.support.tokenizers import word_tokenizer

CPU = torch.device("cpu")
SAME = ["feature", "status", "label", "density", "detection_balanced_accuracy", "n_active"]


@pytest.fixture(autouse=True)
def _nothing_is_held():
    yield
    assert not held._THINGS


@pytest.fixture(scope="module")
def tensors(planted):
    """The planted SAE, and activations with their token ids."""
    coder = load_coder(planted.coder)
    cache = find_cache(planted.cache)
    return coder, cache.read(0, cache.contexts), cache.text()


def same(one: ai.Run, other: ai.Run) -> None:
    pd.testing.assert_frame_equal(one.labels()[SAME], other.labels()[SAME])


def from_tensors(coder, **more) -> ai.SparseCoder:
    return ai.SparseCoder.from_tensors(
        w_enc=coder.encoder.T, b_enc=coder.bias, w_dec=coder.encoder, **more
    )


def test_tensors_give_what_files_give(planted, tensors, tmp_path):
    coder, activations, token_ids = tensors
    # The files record documents.
    read = ai.run(sae=planted.coder, cache=planted.cache, out=tmp_path / "files", split="context")
    made = ai.run(
        sae=from_tensors(coder, name="mine"),
        activations=activations.float().numpy(),
        token_ids=token_ids.numpy(),
        tokenizer=word_tokenizer(WORDS),
        out=tmp_path / "memory",
        split="context",
    )
    assert set(made.labels()["sae"]) == {"mine"}
    columns = [name for name in SAME if name != "label"]
    pd.testing.assert_frame_equal(made.labels()[columns], read.labels()[columns])


def test_the_same_things_are_known_again(tensors, tmp_path, capsys):
    coder, activations, token_ids = tensors
    given = {"activations": activations, "tokenizer": word_tokenizer(WORDS), "out": tmp_path / "o"}
    ai.collect(sae=from_tensors(coder), token_ids=token_ids, **given)
    ai.run(sae=from_tensors(coder), token_ids=token_ids.clone(), **given)
    assert "collect: already done" in capsys.readouterr().err
    other = replace(coder, bias=coder.bias - 0.5)
    ai.run(sae=from_tensors(other), token_ids=token_ids, **given)
    assert "collect: already done" not in capsys.readouterr().err


class Plain:
    """An object with `encode` and no more, as people have them."""

    def __init__(self, coder) -> None:
        self.W_enc = coder.encoder.T
        self.W_dec = coder.encoder

    def encode(self, x):
        return torch.relu(x.float() @ self.W_enc)


class Module(torch.nn.Module):
    def __init__(self, coder) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(coder.encoder)
        self.d_in = coder.d_in

    def encode(self, x):
        return torch.relu(x @ self.weight.T)


class Opaque:
    def __init__(self, coder) -> None:
        self.encode = lambda x: torch.relu(x.float() @ coder.encoder.T)


@pytest.mark.parametrize("kind", [Plain, Module, Opaque])
def test_any_object_with_encode_is_an_sae(kind, planted, tensors, tmp_path):
    coder = tensors[0]
    read = ai.run(sae=planted.coder, cache=planted.cache, out=tmp_path / "files")
    made = kind(coder)
    if kind is Opaque:
        with pytest.raises(ai.InputError, match="give d_in"):
            ai.run(sae=made, cache=planted.cache, out=tmp_path / "object")
        made = ai.SparseCoder.from_encoder(made, d_in=coder.d_in, w_dec=coder.encoder)
        assert (
            made.digest()
            != ai.SparseCoder.from_encoder(
                Opaque(replace(coder, encoder=2 * coder.encoder)),
                d_in=coder.d_in,
                w_dec=coder.encoder,
            ).digest()
        )
    run = ai.run(sae=made, cache=planted.cache, out=tmp_path / "object")
    same(run, read)
    with pytest.raises(ai.ConfigurationError, match="random-coder"):
        ai.run(sae=made, cache=planted.cache, out=tmp_path / "r", control="random-coder")


class SavedSae:
    """As an SAE of SAELens saves itself."""

    def save_model(self, path) -> None:
        for file in demo.CODER.iterdir():
            (type(file)(path) / file.name).write_bytes(file.read_bytes())


def test_an_sae_of_saelens_is_read_as_from_its_files():
    read, made = load_coder(demo.CODER), ai.SparseCoder.from_saelens(SavedSae(), name="theirs")
    assert made.name == "theirs"
    assert torch.equal(read.encoder, made.encoder)
    assert torch.equal(read.bias, made.bias)
    assert torch.equal(read.read_decoder().weight, made.read_decoder().weight)
    assert (read.activation, read.k, read.hook) == (made.activation, made.k, made.hook)
    with pytest.raises(ai.InputError, match="not an SAE of SAELens"):
        ai.SparseCoder.from_saelens(object())


def test_tensors_of_other_families():
    w, b = torch.eye(3), torch.zeros(3)
    x = torch.tensor([[1.0, 3.0, 2.0]])
    make = ai.SparseCoder.from_tensors
    top = make(w_enc=w, b_enc=b, activation="topk", k=2).encode(x)
    assert sorted(top.feature.tolist()) == [1, 2]
    jump = make(w_enc=w, b_enc=b, activation="jumprelu", threshold=np.full(3, 2.5)).encode(x)
    assert jump.feature.tolist() == [1]
    before = make(w_enc=w, b_enc=b, b_dec=torch.tensor([0.0, 3, 0]), apply_b_dec_to_input=True)
    assert before.encode(x).feature.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"w_enc": np.zeros((4, 6)), "b_enc": np.zeros(4)}, r"\(4, 6\) and b_enc \(4,\)"),
        ({"w_enc": np.zeros((4, 6)), "b_enc": np.zeros(6), "w_dec": np.zeros((4, 6))}, "w_dec"),
        ({"w_enc": np.zeros((4, 6)), "b_enc": np.full(6, np.nan)}, "not finite"),
        ({"w_enc": np.eye(4), "b_enc": np.zeros(4), "activation": "topk"}, "needs k"),
        ({"w_enc": np.eye(4), "b_enc": np.zeros(4), "activation": "jumprelu"}, "needs threshold"),
    ],
)
def test_tensors_that_do_not_fit_are_said(given, said):
    with pytest.raises(ai.InputError, match=said):
        ai.SparseCoder.from_tensors(**given)


def excerpts(planted, feature, n=30):
    """The feature's words among others, in excerpts of six tokens."""
    words = planted.words[feature] or ("none",)
    for i in range(n):
        tokens = [f" {WORDS[(7 * i + j) % 60 + 20]}" for j in range(6)]
        tokens[i % 6] = f" {words[i % len(words)]}"
        yield tokens, [2.0 + i / n if t.strip() in words else 0.0 for t in tokens]


def test_evidence_that_one_has_is_labeled_and_scored(planted, tmp_path, capsys):
    evidence = {feature: list(excerpts(planted, feature)) for feature in (2, 4, 5)}
    run = ai.run(evidence=evidence, out=tmp_path / "o")
    labels = run.labels().set_index("feature")
    assert labels.index.tolist() == [2, 4, 5]
    for feature, row in labels.iterrows():
        assert row["status"] == "labeled"
        assert planted.words[feature][0] in row["label"]
    assert labels["detection_balanced_accuracy"].min() > 0.9
    rows = [(f, t, a) for f, each in evidence.items() for t, a in each]
    capsys.readouterr()
    frame = pd.DataFrame(rows, columns=["feature", "tokens", "activations"])
    ai.run(evidence=frame, out=tmp_path / "o")
    assert "collect: already done" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        ({}, "no excerpts"),
        ({1: [(["a"], [1.0, 2.0])]}, "1 tokens and 2 activations"),
        ({1: [("ab", [1.0, 2.0])]}, "not a list of texts"),
        ({1: [(["a"], [float("nan")])]}, "not finite"),
        (pd.DataFrame({"feature": [1]}), "no column 'tokens'"),
        ([1, 2], "evidence is a list"),
    ],
)
def test_evidence_that_does_not_fit_is_said(evidence, said, tmp_path):
    with pytest.raises(ai.InputError, match=said):
        ai.run(evidence=evidence, out=tmp_path / "o")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"activations": torch.zeros(4, 8)}, r"\(4, 8\): give floating"),
        ({"token_ids": torch.zeros(4, 8)}, "token_ids are torch.float32"),
        ({"token_ids": None}, "token_ids is a NoneType"),
        ({"mask": torch.zeros(2, 8)}, r"mask is \(2, 8\)"),
        ({"mask": torch.zeros(4, 8)}, "of no token"),
        ({"text": ["a"]}, "drop those"),
        ({"sae": 3}, "sae is a int"),
        ({"processes": 2}, "in memory cannot be shared with other processes"),
    ],
)
def test_activations_that_do_not_fit_are_said(changed, said, planted, tmp_path):
    given = {
        "sae": planted.coder,
        "activations": torch.zeros(4, 8, len(WORDS)),
        "token_ids": torch.zeros(4, 8, dtype=torch.int64),
        "tokenizer": word_tokenizer(WORDS),
        "out": tmp_path / "o",
    }
    with pytest.raises(ai.AutointerpError, match=said):
        ai.run(**given | changed)


def test_padding_is_masked(tensors, planted, tmp_path):
    _, activations, token_ids = tensors
    mask = torch.ones(token_ids.shape, dtype=torch.bool)
    mask[:, 30:] = False
    run = ai.collect(
        sae=planted.coder,
        activations=activations,
        token_ids=token_ids,
        mask=mask,
        tokenizer=word_tokenizer(WORDS),
        out=tmp_path / "o",
    )
    assert run.summary.corpus["masked"]["padding"] == int((~mask).sum())


@pytest.fixture(scope="module")
def subject():
    """The demo's, as transformers gives it; in training mode, which a run must not see."""
    loaded = load_subject(str(demo.SUBJECT), CPU)
    loaded.model.train()
    return loaded


TEXTS = [
    f"def f{i}(self, a):\n    if a is None or a == {i}:\n        return {i}\n" for i in range(300)
]


def on_texts(out, **given) -> ai.Run:
    settings = {"sae": "demo", "tokens": 6000, "features": "random:40", "min_windows": 2}
    return ai.run(**settings | {"out": out, "hook": load_coder(demo.CODER).hook} | given)


def test_a_model_and_texts_in_memory_give_what_files_give(subject, tmp_path, capsys):
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    read = on_texts(tmp_path / "files", subject="demo", text=file)
    model = {"subject": subject.model, "tokenizer": subject.tokenizer}
    made = on_texts(tmp_path / "memory", **model, text=TEXTS)
    assert (made.labels()["status"] == "labeled").any()
    same(made, read)
    assert subject.model.training
    capsys.readouterr()
    on_texts(tmp_path / "memory", **model, text=iter(TEXTS))
    on_texts(tmp_path / "memory", **model, text=(list(TEXTS)))
    assert capsys.readouterr().err.count("collect: already done") == 2


def test_a_data_set_in_memory_is_read_by_its_field(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"code": TEXTS, "n": range(len(TEXTS))})
    strings = on_texts(tmp_path / "strings", subject="demo", text=TEXTS)
    run = on_texts(tmp_path / "rows", subject="demo", text=rows, text_field="code")
    same(run, strings)
    frame = rows.to_pandas()
    same(on_texts(tmp_path / "frame", subject="demo", text=frame, text_field="code"), strings)
    with pytest.raises(ai.InputError, match="columns code, n: name its text with text_field"):
        on_texts(tmp_path / "rows", subject="demo", text=rows)


def test_a_model_is_captured_too(subject, tmp_path):
    model = {"subject": subject.model, "tokenizer": subject.tokenizer, "text": TEXTS}
    given = {"tokens": 2000, "hook": "residual:1", "out": tmp_path / "o"}
    ai.capture(**model, **given)
    assert find_cache(tmp_path / "o" / "cache").origin.subject.startswith("memory:")


def test_what_is_no_subject_is_said(subject, tmp_path):
    with pytest.raises(ai.InputError, match="give tokenizer"):
        on_texts(tmp_path / "o", subject=subject.model, text=TEXTS)
    with pytest.raises(ai.InputError, match="give a model of transformers"):
        on_texts(tmp_path / "o", subject=torch.nn.Linear(2, 2), tokenizer=subject.tokenizer)
    with pytest.raises(ai.InputError, match="give a path or name, strings"):
        on_texts(tmp_path / "o", text=3)


def test_the_command_line_says_what_it_cannot_have(cli, tensors, tmp_path):
    coder, activations, token_ids = tensors
    run = ai.collect(
        sae=from_tensors(coder, name="mine"),
        activations=activations,
        token_ids=token_ids,
        tokenizer=word_tokenizer(WORDS),
        out=tmp_path / "o",
    )
    settings = run.settings
    code, _, err = cli("label", "--coder", settings["coder"], "--out", str(tmp_path / "o"))
    assert code == 2
    assert "was an object in memory" in err


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"features": [1.5]}, "feature 1.5 is not a whole number"),
        ({"features": True}, "feature True is not a whole number"),
        ({"features": []}, "the list is empty"),
        ({"evidence": {"x": [(["a"], [1.0])]}}, "feature 'x' is not a whole number"),
        ({"evidence": {7: ["abc"]}}, "feature 7: an excerpt is its tokens and the activations"),
        ({"evidence": {7: [(["a"], ["b"])]}}, "activations are not a list of numbers"),
        ({"sae": "demo", "coder": "demo"}, "sae and coder are the same setting"),
        ({"labler": "lexical"}, r"did you mean labeler\?"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(tmp_path, wrong, said):
    with pytest.raises(ai.AutointerpError, match=said) as error:
        ai.run(out=tmp_path / "out", **wrong)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_an_activation_that_is_not_known_is_named_with_those_that_are():
    with pytest.raises(ai.InputError, match="'gelu' is not one of relu, jumprelu"):
        ai.SparseCoder.from_tensors(w_enc=[[1.0]], b_enc=[0.0], activation="gelu")
