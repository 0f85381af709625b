import json
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from autointerp.activations.activation_batch import SPECIAL
from autointerp.activations.cache import SparseCache
from autointerp.activations.formats import find_cache, open_cache
from autointerp.coders import SparseCoder
from autointerp.errors import AutointerpError
from autointerp.vocabulary import Vocabulary
from tests.support.caches import write_cache

CPU = torch.device("cpu")
CONTEXTS, LENGTH, D, FEATURES = 9, 6, 5, 40
VOCABULARY = Vocabulary(tuple(f" w{i}".encode() for i in range(20)), frozenset({3}))


def coder(features=FEATURES, k=4, d_in=D):
    generator = torch.Generator().manual_seed(3)
    return SparseCoder(
        "random",
        torch.randn(features, d_in, generator=generator),
        torch.randn(features, generator=generator),
        "topk",
        k=k,
    )


def samples(seed=0):
    generator = torch.Generator().manual_seed(seed)
    token_ids = torch.randint(0, 20, (CONTEXTS, LENGTH), generator=generator)
    return token_ids.int(), torch.randn(CONTEXTS, LENGTH, D, generator=generator)


@pytest.fixture
def dense(tmp_path):
    write_cache(tmp_path / "dense", *samples(), VOCABULARY)
    return tmp_path / "dense"


def test_what_is_written_is_read_for_any_batch_size(tmp_path, monkeypatch):
    monkeypatch.setattr("autointerp.activations.writer.SHARD_BYTES", 2 * LENGTH * D * 4)
    token_ids, activations = samples()
    manifest = write_cache(tmp_path / "c", token_ids, activations, VOCABULARY, batch_contexts=1)
    assert [s.contexts for s in manifest.shards] == [2, 2, 2, 2, 1]
    modes = {f.stat().st_mode for f in (tmp_path / "c").iterdir()}
    assert modes == {(tmp_path / "c" / "manifest.json").stat().st_mode}
    cache = open_cache(tmp_path / "c", None, None)
    assert cache.get_vocabulary().token_text(3) == " w3"
    for size in (1, 2, 3, 5, 100):
        batches = list(cache.batches(size, CPU))
        assert [b.first_context for b in batches] == list(range(0, CONTEXTS, size))
        assert torch.equal(torch.cat([b.activations for b in batches]), activations)
        assert torch.equal(torch.cat([b.token_ids for b in batches]), token_ids)
        assert torch.equal(torch.cat([(b.mask & SPECIAL) != 0 for b in batches]), token_ids == 3)


@given(shard=st.integers(1, 400), batch=st.integers(1, 5), size=st.integers(1, 10))
@settings(max_examples=40, deadline=None)
def test_a_sparse_cache_holds_the_firings_of_the_dense_one(tmp_path_factory, shard, batch, size):
    token_ids, activations = samples(shard)
    path = tmp_path_factory.mktemp("s") / "sparse"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autointerp.activations.writer.SHARD_BYTES", shard)
        write_cache(
            path, token_ids, activations, VOCABULARY, batch_contexts=batch, encoded_by=coder()
        )
    cache = find_cache(path)
    assert isinstance(cache, SparseCache)
    assert cache.features == FEATURES
    for found in cache.batches(size, CPU):
        part = slice(found.first_context, found.first_context + len(found.token_ids))
        expected = coder().encode(activations[part].flatten(0, 1))
        order = (expected.token * FEATURES + expected.feature).argsort()
        again = (found.firings.token * FEATURES + found.firings.feature).argsort()
        assert bool((found.firings.token.diff() >= 0).all())
        for name in ("token", "feature"):
            assert torch.equal(getattr(found.firings, name)[again], getattr(expected, name)[order])
        # A product's last bits depend on how many rows are multiplied at once.
        torch.testing.assert_close(found.firings.value[again], expected.value[order])


@pytest.mark.parametrize(("features", "kind"), [(65_536, torch.uint16), (65_537, torch.int32)])
def test_features_take_two_bytes_where_they_can(tmp_path, features, kind):
    token_ids, activations = samples()
    wide = coder(features, k=3)
    # The last feature fires on everything.
    wide.bias[-1] = 1000
    write_cache(tmp_path / "s", token_ids, activations, VOCABULARY, encoded_by=wide)
    stored = load_file(tmp_path / "s" / "acts-00000.safetensors")
    assert stored["features"].dtype == kind
    (batch,) = find_cache(tmp_path / "s").batches(100, CPU)
    assert int(batch.firings.feature.max()) == features - 1


def test_a_sparse_cache_is_over_15_times_smaller_at_k_50_and_width_4096(tmp_path):
    contexts, length, width = 16, 64, 4096
    token_ids = torch.zeros(contexts, length, dtype=torch.int32)
    activations = torch.randn(contexts, length, width).bfloat16()
    wide = coder(8192, k=50, d_in=width)
    write_cache(tmp_path / "s", token_ids, activations, VOCABULARY, encoded_by=wide)
    write_cache(tmp_path / "d", token_ids, activations, VOCABULARY)
    sizes = {
        name: sum(f.stat().st_size for f in (tmp_path / name).glob("*.safetensors"))
        for name in "sd"
    }
    assert sizes["d"] > contexts * length * width * 2
    assert sizes["d"] / sizes["s"] > 15


def spoil_manifest(cache, **changes):
    file = cache / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (shutil.rmtree, "no such file or folder"),
        (lambda c: (c / "manifest.json").unlink(), "it matches none of the formats"),
        (lambda c: (c / "manifest.json").write_text("{"), "is not a manifest of version 2"),
        (lambda c: spoil_manifest(c, format_version=1), "format_version"),
        (lambda c: spoil_manifest(c, contexts=0), "is empty"),
        (lambda c: spoil_manifest(c, contexts=2), "as the manifest says"),
        (lambda c: (c / "acts-00000.safetensors").unlink(), "is missing or truncated"),
        (lambda c: (c / "acts-00000.safetensors").write_bytes(b"x"), "is missing or truncated"),
        (lambda c: (c / "tokens.safetensors").write_bytes(b"x" * 40), "cannot be read"),
        (lambda c: (c / "vocabulary.parquet").write_bytes(b"x" * 40), "cannot be read"),
        (lambda c: (c / "vocabulary.parquet").unlink(), "tokenizer of planted cannot be loaded"),
    ],
)
def test_damaged_caches_are_said(dense, spoil, said):
    open_cache(dense, None, None)
    spoil(dense)
    with pytest.raises(AutointerpError, match=said):
        open_cache(dense, None, None)


def flip_last_byte(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


def test_checksums_are_verified_on_first_read_and_once(dense, monkeypatch):
    flip_last_byte(dense / "acts-00000.safetensors")
    cache = find_cache(dense)
    with pytest.raises(AutointerpError, match="checksum differs"):
        next(cache.batches(1, CPU))
    flip_last_byte(dense / "acts-00000.safetensors")
    list(find_cache(dense).batches(2, CPU))
    hashed = []
    monkeypatch.setattr(
        "autointerp.activations.formats.native.file_sha256", lambda p: hashed.append(p) or ""
    )
    list(find_cache(dense).batches(2, CPU))
    assert [p.name for p in hashed] == ["manifest.json"]


def test_a_shard_that_is_no_tensor_file_is_said(dense):
    file = dense / "acts-00000.safetensors"
    size = file.stat().st_size
    save_file({"other": torch.zeros((size - 80) // 4)}, file)
    import hashlib

    manifest = json.loads((dense / "manifest.json").read_text())
    manifest["shards"][0] |= {
        "bytes": file.stat().st_size,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    (dense / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(AutointerpError, match="cannot be read"):
        next(find_cache(dense).batches(1, CPU))


def test_the_only_cache_in_a_folder_is_meant_and_several_are_named(dense, tmp_path):
    assert find_cache(tmp_path).path == dense
    shutil.copytree(dense, tmp_path / "b" / "other")
    with pytest.raises(
        AutointerpError, match="holds 2 activation caches; choose one: b/other, dense"
    ):
        find_cache(tmp_path)


@pytest.mark.parametrize("silent", [slice(0, 4), slice(5, 9), slice(0, 9)])
def test_a_sparse_cache_may_be_silent_anywhere(tmp_path, silent):
    token_ids, activations = samples()
    quiet = SparseCoder("relu", coder().encoder, torch.zeros(FEATURES), "relu")
    activations[silent] = 0
    write_cache(tmp_path / "s", token_ids, activations, VOCABULARY, encoded_by=quiet)
    found = sum(len(b.firings.token) for b in find_cache(tmp_path / "s").batches(2, CPU))
    assert found == len(quiet.encode(activations.flatten(0, 1)).token)
