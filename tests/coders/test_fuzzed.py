"""Files from anybody: they load, or are said in one line; no code runs, no memory is taken."""

import io
import json
import pickle
import resource
import shutil
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from autointerp import registry
from autointerp.coders import coder_identity, load_coder
from autointerp.coders.coder import SparseCoder
from autointerp.coders.coder_format import CODER_FORMATS
from autointerp.errors import AutointerpError
from autointerp.storage.tensor_files import read_settings
from tests.coders.test_coder import write_saelens
from tests.support.layouts import LAYOUTS

often = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["topk", "relu", "jumprelu", "batchtopk", "none", "layer_norm", "1e999"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)
DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.int64, torch.int8, torch.bool),
    *(torch.complex64, torch.uint8),
]


def saelens(root):
    folder = root / "saelens"
    write_saelens(folder, "topk", k=3, hook_name="blocks.1.hook_resid_post", metadata={})
    return type("Made", (), {"path": folder})


MAKERS = [*LAYOUTS, saelens]


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Each layout in a folder of its own: (folder, what to load within it)."""
    made = []
    for number, maker in enumerate(MAKERS):
        root = tmp_path_factory.mktemp(f"layout{number}")
        made.append((root, maker(root).path.relative_to(root)))
    return made


@pytest.fixture
def copied(originals, tmp_path):
    """A fresh copy of one of them: (what to load, files by suffix)."""

    def copy(number):
        root, inside = originals[number]
        target = tmp_path / "copy"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(root, target)
        return target / inside, sorted(f for f in target.rglob("*") if f.is_file())

    return copy


def loads_or_says(path):
    """A coder with its decoder, or what a user is told. Anything else is raised."""
    said = None
    try:
        coder = load_coder(path)
        assert isinstance(coder, SparseCoder)
        assert coder.encoder.shape == (coder.features, coder.d_in)
        assert bool(torch.isfinite(coder.encoder).all())
        if coder.read_decoder is not None:
            coder.read_decoder()
        coder_identity(path)
    except AutointerpError as error:
        said = str(error)
    assert said is None or (said and "\n" not in said)
    return said


def is_settings(file):
    return file.suffix in (".json", ".yaml")


def keys_of(found):
    if isinstance(found, dict):
        return {*found.keys(), *(k for value in found.values() for k in keys_of(value))}
    return set()


def changed(found, key, value):
    """The settings with every entry of that name changed, however deep, or a new one."""
    if not isinstance(found, dict):
        return found
    return {key: value} | {
        k: value if k == key else changed(v, key, value) for k, v in found.items()
    }


@often
@given(data=st.data())
def test_settings_of_any_value(copied, data):
    path, files = copied(data.draw(st.integers(0, len(MAKERS) - 1)))
    configs = [file for file in files if is_settings(file)]
    if not configs:
        return
    file = data.draw(st.sampled_from(configs))
    found = read_settings(file)
    for key in data.draw(st.lists(st.sampled_from(sorted(keys_of(found))), max_size=2)):
        found = changed(found, key, data.draw(VALUES))
    file.write_text(json.dumps(found) if file.suffix == ".json" else yaml.safe_dump(found))
    loads_or_says(path)


@often
@given(data=st.data())
def test_bytes_of_any_value(copied, data):
    path, files = copied(data.draw(st.integers(0, len(MAKERS) - 1)))
    file = data.draw(st.sampled_from(files))
    found = bytearray(file.read_bytes())
    if data.draw(st.booleans()):
        file.write_bytes(data.draw(st.binary(max_size=64)))
    else:
        # Headers are at the beginning, or in zipped files at the end.
        most = min(len(found), 2000)
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(-most, most - 1))
            found[place] = data.draw(st.integers(0, 255))
        file.write_bytes(found[: data.draw(st.sampled_from([len(found), len(found) // 2]))])
    loads_or_says(path)


@st.composite
def tensors(draw):
    shape = draw(st.lists(st.integers(0, 40), max_size=3))
    made = torch.randn(shape).to(draw(st.sampled_from(DTYPES)))
    return made.T.contiguous() if made.ndim == 2 and draw(st.booleans()) else made


PICKLED = tensors() | st.sampled_from(
    [
        torch.zeros(1).expand(1 << 40),
        torch.zeros(1, 1).expand(40, 1 << 35),
        torch.empty(40, device="meta"),
        torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.long), torch.ones(1), (1 << 40,)),
        torch.nn.Parameter(torch.ones(40)),
        *(None, "TopK", 3, [1.0], {"k": torch.ones(2)}),
    ]
)


@often
@given(data=st.data())
def test_tensors_of_any_kind(copied, data):
    path, files = copied(data.draw(st.integers(0, len(MAKERS) - 1)))
    weights = [file for file in files if file.suffix in (".safetensors", ".pt", ".pth", ".npz")]
    file = data.draw(st.sampled_from(weights))
    if file.suffix == ".safetensors":
        stored = load_file(file)
        stored[data.draw(st.sampled_from(sorted(stored)))] = data.draw(tensors())
        save_file(stored, file)
    elif file.suffix == ".npz":
        stored = dict(np.load(file))
        kinds = [np.zeros((0, 3)), np.float32(1), np.array(["a"]), np.ones(3, dtype="c8")]
        stored[data.draw(st.sampled_from(sorted(stored)))] = data.draw(st.sampled_from(kinds))
        np.savez(file, **stored)
    else:
        stored = torch.load(file, weights_only=True)
        stored[data.draw(st.sampled_from(sorted(stored)))] = data.draw(PICKLED)
        torch.save(stored, file)
    loads_or_says(path)


def test_what_a_format_stumbles_over_is_said(tmp_path, monkeypatch):
    """Formats of other packages are not held to what ours are."""

    def load(path, k=None):
        return {}["missing"]

    other = replace(CODER_FORMATS["saelens"], name="other", load=load)
    monkeypatch.setitem(registry._load("autointerp.coders")[0], "other", other)
    with pytest.raises(AutointerpError, match=r"do not follow this format \(KeyError: 'missing'\)"):
        load_coder(tmp_path, "other")


def test_float8_weights_are_read_as_what_they_are_worth(tmp_path):
    expected = write_saelens(tmp_path / "sae", "standard")
    file = tmp_path / "sae" / "sae_weights.safetensors"
    narrow = {n: t.to(torch.float8_e4m3fn) for n, t in load_file(file).items()}
    save_file(narrow, file)
    coder = load_coder(tmp_path / "sae")
    assert torch.equal(coder.encoder, narrow["W_enc"].float().T)
    np.testing.assert_allclose(coder.encoder.T, expected["W_enc"], rtol=0.07, atol=2**-9)
    narrow["b_enc"].view(torch.uint8)[0] = 0x7F  # its NaN
    save_file(narrow, file)
    with pytest.raises(AutointerpError, match="not finite"):
        load_coder(tmp_path / "sae")


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def npy_header(shape):
    header = io.BytesIO()
    described = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue()


def oversized_npz(folder):
    folder = folder / "average_l0_3"
    folder.mkdir()
    with zipfile.ZipFile(folder / "params.npz", "w") as archive:
        for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold"):
            archive.writestr(f"{name}.npy", npy_header((1 << 34,)) + bytes(64))
    return folder


def oversized_safetensors(folder):
    write_saelens(folder / "sae", "standard")
    header = {"W_enc": {"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 1 << 42]}}
    text = json.dumps(header).encode()
    (folder / "sae" / "sae_weights.safetensors").write_bytes(
        len(text).to_bytes(8, "little") + text + bytes(64)
    )
    return folder / "sae"


def repeated_pickle(folder):
    file = folder / "layer3.sae.pt"
    stored = {name: torch.zeros(1).expand(1 << 36) for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    torch.save(stored, file)
    return file


def settings_that_grow(folder):
    write_saelens(folder / "sae", "standard")
    names = [f"a{i}" for i in range(40)]
    lines = ["a0: &a0 [x, x]"]
    lines += [f"{b}: &{b} [*{a}, *{a}]" for a, b in pairwise(names)]
    (folder / "sae" / "config.yaml").write_text("\n".join([*lines, "type: *a39"]))
    return folder / "sae"


def settings_of_many_levels(folder):
    write_saelens(folder / "sae", "standard")
    (folder / "sae" / "cfg.json").write_text('{"k": ' + "[" * 100_000 + "]" * 100_000 + "}")
    return folder / "sae"


@pytest.mark.parametrize(
    "make",
    [
        oversized_npz,
        oversized_safetensors,
        repeated_pickle,
        settings_that_grow,
        settings_of_many_levels,
    ],
)
def test_numbers_in_a_file_take_no_memory(tmp_path, make):
    path = make(tmp_path)
    before = peak_bytes()
    assert loads_or_says(path) is not None
    assert peak_bytes() - before < 1 << 28


class _RunsCode:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("written", ["zipped", "plain"])
@pytest.mark.parametrize("name", ["layer3.sae.pt", "ae.pt", "7.pt", "sae.pth"])
def test_no_code_in_a_pickle_is_run(tmp_path, name, written):
    mark, file = tmp_path / "ran", tmp_path / name
    if written == "zipped":
        torch.save({"W_enc": torch.ones(2), "k": _RunsCode(mark)}, file)
    else:
        file.write_bytes(pickle.dumps(_RunsCode(mark)))
    assert loads_or_says(file) is not None
    assert not mark.exists()


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:pathlib.Path.touch [ran]",
        "type: !!python/name:os.system",
        "type: !!python/object/new:os.system ['touch ran']",
    ],
)
def test_no_code_in_settings_is_run(tmp_path, text, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_saelens(tmp_path / "sae", "standard")
    (tmp_path / "sae" / "config.yaml").write_text(text)
    assert "cannot be read" in loads_or_says(tmp_path / "sae")
    assert not Path("ran").exists()
