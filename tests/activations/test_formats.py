"""Caches that other tools wrote: the peers' own samples, and layouts made by hand where they left
none. scripts/peer_samples/ has written tests/data/."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from autointerp.activations.activation_batch import NOT_FINITE, OUTLIER, SPECIAL, VALID
from autointerp.activations.cache import DenseCache, SparseCache
from autointerp.activations.formats import find_cache, open_cache
from autointerp.errors import AutointerpError

CPU = torch.device("cpu")
DATA = Path(__file__).parent.parent / "data"
SAELENS, DELPHI = DATA / "saelens", DATA / "delphi"
HALF_MAX = 65504.0


def activations_of(cache, size):
    return torch.cat([b.activations for b in cache.batches(size, CPU)])


@pytest.mark.parametrize("size", [1, 5, 8, 100])
def test_what_saelens_cached(size):
    expected = load_file(SAELENS / "cache-expected.safetensors")
    cache = open_cache(SAELENS / "cache", None, str(SAELENS / "subject"))
    assert isinstance(cache, DenseCache)
    assert (cache.format, cache.shape, cache.d_in) == ("saelens", (24, 16), 8)
    assert cache.origin.hook == "model.layers.1"
    assert torch.equal(cache.text(), expected["token_ids"])
    assert torch.equal(activations_of(cache, size), expected["activations"])
    bos = cache.get_vocabulary().token_texts.index("<bos>")
    special = torch.cat([(b.mask & SPECIAL) != 0 for b in cache.batches(size, CPU)])
    assert torch.equal(special & (cache.text() == bos), cache.text() == bos)


def test_what_saelens_cached_is_what_its_subject_computes():
    from autointerp.activations.hooks import activations_at, resolve_hook
    from autointerp.activations.subject import load_subject

    cache = open_cache(SAELENS / "cache", None, str(SAELENS / "subject"))
    model = load_subject(str(SAELENS / "subject"), CPU).model
    hook = resolve_hook(model, cache.origin.hook)
    (found,) = activations_at(model, [hook], cache.text(), torch.ones_like(cache.text()))
    torch.testing.assert_close(found, activations_of(cache, 100), rtol=1e-4, atol=1e-4)


def saelens_rows(folder, columns):
    """A data set on disk as the library writes it."""
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict(columns).save_to_disk(folder)
    return folder


def test_saelens_caches_in_half_precision_and_without_tokens(tmp_path):
    datasets = pytest.importorskip("datasets")
    values = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float16)
    features = datasets.Features({"h": datasets.Array2D((4, 3), "float16")})
    datasets.Dataset.from_dict({"h": values}, features).save_to_disk(tmp_path / "c")
    cache = find_cache(tmp_path / "c")
    assert cache.dtype == torch.float16
    with pytest.raises(AutointerpError, match="has no token ids: pass --token-ids FILE"):
        open_cache(tmp_path / "c", None, str(SAELENS / "subject"))
    np.save(tmp_path / "ids.npy", np.arange(20).reshape(5, 4))
    cache = open_cache(tmp_path / "c", tmp_path / "ids.npy", str(SAELENS / "subject"))
    assert torch.equal(cache.text(), torch.arange(20).view(5, 4).int())
    assert np.array_equal(activations_of(cache, 2).numpy(), values)
    save_file({"ids": torch.arange(20)}, tmp_path / "ids.safetensors")
    again = open_cache(tmp_path / "c", tmp_path / "ids.safetensors", str(SAELENS / "subject"))
    assert torch.equal(again.text(), cache.text())
    assert again.identity != cache.identity


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"h": [[[1.0, 2.0]]], "g": [1]}, "one column besides token_ids, but this one has h, g"),
        ({"h": [[[1.0], [2.0]], [[1.0]]]}, "rows of column h differ in length"),
        ({"h": [[["a"]]]}, "holds string, not numbers"),
        ({"h": [[1.0]]}, r"does not hold activations \[context, width\]"),
    ],
)
def test_other_data_sets_are_no_caches(tmp_path, columns, said):
    with pytest.raises(AutointerpError, match=said):
        find_cache(saelens_rows(tmp_path / "c", columns))


@pytest.mark.parametrize("named", ["/etc/hostname", "../c/data-00001-of-00003.arrow"])
def test_arrow_files_outside_the_folder_are_not_opened(tmp_path, named):
    shutil.copytree(SAELENS / "cache", tmp_path / "c")
    state = json.loads((tmp_path / "c" / "state.json").read_text())
    state["_data_files"][1]["filename"] = named
    (tmp_path / "c" / "state.json").write_text(json.dumps(state))
    with pytest.raises(AutointerpError, match="is not a file in that folder"):
        find_cache(tmp_path / "c")


def test_damaged_arrow_files_are_said(tmp_path):
    shutil.copytree(SAELENS / "cache", tmp_path / "c")
    file = tmp_path / "c" / "data-00001-of-00003.arrow"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AutointerpError, match=r"data-00001-of-00003\.arrow cannot be read"):
        activations_of(open_cache(tmp_path / "c", None, str(SAELENS / "subject")), 100)
    file.unlink()
    with pytest.raises(AutointerpError, match=r"data-00001-of-00003\.arrow is missing"):
        find_cache(tmp_path / "c")


def dense_firings(cache, size):
    found = torch.zeros(cache.contexts * cache.context_length, cache.features)
    for batch in cache.batches(size, CPU):
        firings = batch.firings
        assert bool((firings.token.diff() >= 0).all())
        assert bool((firings.value > 0).all())
        found[batch.first_context * cache.context_length + firings.token, firings.feature] = (
            firings.value
        )
    return found


@pytest.mark.parametrize("size", [1, 3, 20])
def test_what_delphi_cached(size):
    expected = load_file(DELPHI / "expected.safetensors")
    cache = open_cache(DELPHI / "latents", None, str(DELPHI / "subject"))
    assert isinstance(cache, SparseCache)
    assert (cache.format, cache.shape, cache.features) == ("delphi", (20, 16), 60)
    assert (cache.origin.hook, cache.origin.subject) == ("layers.1", "subject")
    assert torch.equal(cache.text(), expected["tokens"].int())
    latents = expected["latents"].flatten(0, 1)
    kept = torch.where(latents > 1e-5, latents.half().float().clamp(max=HALF_MAX), 0)
    assert torch.equal(dense_firings(cache, size), kept)
    overflowed = int((latents.half() == float("inf")).sum())
    assert overflowed > 0
    assert cache.repaired["infinite"] == overflowed


def test_delphi_contexts_may_be_read_again_and_out_of_order():
    cache = open_cache(DELPHI / "latents", None, str(DELPHI / "subject"))
    whole = cache.read(0, 20)
    for begin, end in ((10, 12), (3, 10), (0, 1), (19, 20), (0, 20)):
        part = cache.read(begin, end)
        inside = (whole.token >= begin * 16) & (whole.token < end * 16)
        assert torch.equal(part.token + begin * 16, whole.token[inside])
        assert torch.equal(part.value, whole.value[inside])


def test_damaged_delphi_caches_are_said(tmp_path):
    folder = tmp_path / "layers.1"
    shutil.copytree(DELPHI / "latents" / "layers.1", folder)
    (folder / "20_39.safetensors").rename(folder / "aside")
    with pytest.raises(AutointerpError, match="the file of features 20 to 39 is missing"):
        find_cache(folder)
    (folder / "20_39.safetensors").write_bytes((folder / "aside").read_bytes()[:-50])
    with pytest.raises(AutointerpError, match=r"20_39.safetensors cannot be read"):
        dense_firings(open_cache(folder, None, str(DELPHI / "subject")), 5)
    for name in ("0_19", "20_39", "40_59"):
        source = folder / ("aside" if name == "20_39" else f"{name}.safetensors")
        kept = {k: v for k, v in load_file(source).items() if k != "tokens"}
        save_file(kept, folder / f"{name}.safetensors")
    with pytest.raises(AutointerpError, match="has no token ids"):
        find_cache(folder)


def write_chunks(folder, tokens, mask, activations, sizes=(2, 1)):
    folder.mkdir()
    begin = 0
    for number, n in enumerate(sizes):
        rows = slice(begin, begin + n)
        chunk = {
            "activation": activations[rows].clone(),
            "tokens": tokens[rows].clone(),
            "mask": mask[rows].clone(),
            "attention_mask": mask[rows].clone(),
        }
        save_file(chunk, folder / f"chunk-{number:08d}.safetensors")
        (folder / f"chunk-{number:08d}.meta.json").write_text("[{}]")
        begin += n
    return folder


def test_openmoss_chunks_tell_padding_from_special_tokens(tmp_path):
    # 0 is both padding and end of text; 7 begins a text. The mask leaves out either by its id.
    tokens = torch.tensor([[7, 1, 2, 0, 3, 0], [0, 0, 7, 1, 2, 3], [1, 2, 3, 4, 0, 0]])
    kept = (tokens != 0) & (tokens != 7)
    activations = torch.randn(3, 6, 4).bfloat16()
    path = write_chunks(tmp_path / "blocks.3.hook_resid_post", tokens, kept.int(), activations)
    cache = open_cache(path, None, str(SAELENS / "subject"))
    assert (cache.format, cache.dtype) == ("openmoss", torch.bfloat16)
    assert cache.origin.hook == "blocks.3.hook_resid_post"
    for size in (1, 2, 9):
        assert torch.equal(activations_of(cache, size), activations)
    mask = find_cache(path).mask
    valid, special = (mask & VALID) != 0, (mask & SPECIAL) != 0
    assert valid.int().tolist() == [[1, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]]
    assert special.int().tolist() == [[1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0], [0] * 6]
    (batch,) = cache.batches(9, CPU)
    eligible = batch.eligible().int().tolist()
    # The subject's tokenizer calls 0, 1 and 2 special; the first token of a text never counts.
    assert eligible == [[0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1], [0, 0, 1, 1, 0, 0]]


def test_openmoss_chunks_of_other_widths_and_without_masks(tmp_path):
    tokens = torch.ones(3, 6, dtype=torch.int64)
    folder = write_chunks(tmp_path / "h", tokens, tokens, torch.randn(3, 6, 4))
    assert find_cache(folder).has_padding_mask
    second = folder / "chunk-00000001.safetensors"
    chunk = load_file(second)
    save_file({n: t for n, t in chunk.items() if "mask" not in n}, second)
    assert not find_cache(folder).has_padding_mask
    save_file(chunk | {"activation": torch.randn(1, 6, 5)}, second)
    with pytest.raises(AutointerpError, match="activations have width 5, those of other files 4"):
        find_cache(folder)


def test_openmoss_chunks_of_pickled_tensors_and_shards(tmp_path):
    folder = tmp_path / "h"
    folder.mkdir()
    for shard in (0, 1):
        for chunk in (0, 1):
            number = 2 * chunk + shard
            torch.save(
                {
                    "activation": torch.full((1, 3, 2), float(number)),
                    "tokens": torch.full((1, 3), number),
                },
                folder / f"shard-{shard}-chunk-{chunk:08d}.pt",
            )
    cache = open_cache(folder, None, str(SAELENS / "subject"))
    assert cache.text()[:, 0].tolist() == [0, 1, 2, 3]
    assert activations_of(cache, 3)[:, 0, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ({"activation": torch.zeros(6, 4)}, "chunks of single tokens cannot be used"),
        ({"activation": torch.zeros(2, 5, 4)}, "tokens has shape"),
        ({"other": torch.zeros(1)}, None),
    ],
)
def test_openmoss_chunks_of_other_shapes_are_said(tmp_path, spoil, said):
    tokens = torch.ones(3, 6, dtype=torch.int64)
    folder = write_chunks(tmp_path / "h", tokens, tokens, torch.randn(3, 6, 4))
    file = folder / "chunk-00000000.safetensors"
    save_file(load_file(file) | spoil, file)
    if said is None:
        assert find_cache(folder).contexts == 3
        return
    with pytest.raises(AutointerpError, match=said):
        find_cache(folder)


def test_npy_pairs(tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float16)
    np.save(tmp_path / "resid_L12.npy", values)
    np.save(tmp_path / "token_ids.npy", np.arange(20).reshape(5, 4))
    np.save(tmp_path / "attention_mask.npy", np.arange(20).reshape(5, 4) % 4 < 3)
    (tmp_path / "layer_specs.json").write_text("{}")
    for path in (tmp_path, tmp_path / "resid_L12.npy"):
        cache = open_cache(path, None, str(SAELENS / "subject"))
        assert cache.format == "npy"
        assert np.array_equal(activations_of(cache, 2).numpy(), values)
        assert (cache.mask[:, 3] == 0).all()
        assert cache.has_padding_mask
    with pytest.raises(AutointerpError, match="does not record which tokenizer made it"):
        open_cache(tmp_path, None, None)


def test_values_that_are_not_finite_are_masked_and_counted(tmp_path):
    values = np.ones((2, 4, 3), dtype=np.float16)
    values[0, 2, 1], values[1, 1, 0] = np.inf, np.nan
    np.save(tmp_path / "acts.npy", values)
    np.save(tmp_path / "token_ids.npy", np.full((2, 4), 5))
    cache = open_cache(tmp_path, None, str(SAELENS / "subject"))
    (batch,) = cache.batches(9, CPU)
    assert ((batch.mask & NOT_FINITE) != 0).int().tolist() == [[0, 0, 1, 0], [0, 1, 0, 0]]
    assert not ((batch.mask & OUTLIER) != 0).any()
    # Whatever masks are taken off, what cannot be computed with does not count.
    assert not batch.eligible(())[0, 2]
    assert batch.masked_counts(()) == {"padding": 0, "not_finite": 2}
    assert cache.norms.median == pytest.approx(3**0.5)


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("acts.npy", np.ones((2, 4)), "not float16 or float32 activations"),
        ("acts.npy", np.ones((2, 4, 3), dtype=np.int8), "holds int8"),
        ("token_ids.npy", np.ones((2, 5), dtype=int), r"has shape \(2, 5\), not \(2, 4\)"),
        ("token_ids.npy", np.ones((2, 4)), "holds float64, not token ids"),
        ("acts.npy", np.array({"a": 1}, dtype=object), "cannot be read"),
        ("acts.npy", None, "cannot be read"),
    ],
)
def test_other_arrays_are_said(tmp_path, name, array, said):
    np.save(tmp_path / "acts.npy", np.ones((2, 4, 3), dtype=np.float32))
    np.save(tmp_path / "token_ids.npy", np.ones((2, 4), dtype=np.int64))
    if array is None:
        (tmp_path / name).write_bytes(b"\x93NUMPY")
    else:
        np.save(tmp_path / name, array, allow_pickle=True)
    with pytest.raises(AutointerpError, match=said):
        find_cache(tmp_path)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda f: None, "no such file"),
        (lambda f: np.save(f, np.ones((2, 5), int)), r"holds \(2, 5\) ids; the cache has 2 × 4"),
        (lambda f: np.save(f, np.ones((4, 2), int)), r"holds \(4, 2\) ids; the cache has 2 × 4"),
        (lambda f: np.save(f, np.ones((2, 4))), "holds float64, not token ids"),
        (lambda f: np.save(f, -np.ones((2, 4), int)), "holds negative ids"),
        (lambda f: f.write_bytes(b"no"), "cannot be read"),
    ],
)
def test_token_files_that_do_not_fit(tmp_path, write, said):
    folder = tmp_path / "c"
    folder.mkdir()
    np.save(folder / "acts.npy", np.ones((2, 4, 3), dtype=np.float32))
    file = tmp_path / "ids.npy"
    write(file)
    with pytest.raises(AutointerpError, match=said):
        open_cache(folder, file, str(SAELENS / "subject"))


@pytest.mark.parametrize("ids", [np.arange(8), np.arange(8, dtype=np.uint16).reshape(2, 4)])
def test_token_files_may_be_flat_and_of_any_integers(tmp_path, ids):
    np.save(tmp_path / "acts.npy", np.ones((2, 4, 3), dtype=np.float32))
    (tmp_path / "ids").mkdir()
    np.save(tmp_path / "ids" / "ids.npy", ids)
    cache = open_cache(tmp_path, tmp_path / "ids" / "ids.npy", str(SAELENS / "subject"))
    assert cache.token_ids.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_token_ids_are_not_given_twice(tmp_path):
    np.save(tmp_path / "ids.npy", np.ones((24, 16)))
    with pytest.raises(AutointerpError, match="already has token ids"):
        open_cache(SAELENS / "cache", tmp_path / "ids.npy", str(SAELENS / "subject"))


def test_a_folder_of_something_else_is_said(tmp_path):
    (tmp_path / "dataset_info.json").write_text(json.dumps({}))
    with pytest.raises(
        AutointerpError, match="it matches none of the formats native, saelens, delphi"
    ):
        find_cache(tmp_path)


def test_delphi_values_that_are_no_numbers_are_left_out(tmp_path):
    where = torch.tensor([[0, 0, 0], [0, 1, 1], [0, 2, 0], [1, 0, 1]], dtype=torch.uint16)
    values = torch.tensor([float("inf"), float("nan"), float("-inf"), 2.0]).half()
    stored = {"locations": where, "activations": values, "tokens": torch.zeros(2, 4).long()}
    save_file(stored, tmp_path / "0_1.safetensors")
    cache = open_cache(tmp_path, None, str(DELPHI / "subject"))
    found = dense_firings(cache, 2)
    assert found[found > 0].tolist() == [65504.0, 2.0]
    assert cache.repaired == {"infinite": 1, "no numbers": 2}
    assert cache.remarks()[1] == "2 values in the cache were no numbers"


def test_delphi_splits_may_be_silent_at_the_end_or_throughout(tmp_path):
    tokens = torch.zeros(3, 4, dtype=torch.int64)
    some = torch.tensor([[0, 1, 0], [1, 2, 1]], dtype=torch.uint16)
    for name, where in (("0_1", some), ("2_3", some[:0])):
        stored = {"locations": where, "activations": torch.ones(len(where)).half()}
        save_file(stored | {"tokens": tokens}, tmp_path / f"{name}.safetensors")
    cache = open_cache(tmp_path, None, str(DELPHI / "subject"))
    for size in (1, 3):
        assert int((dense_firings(cache, size) > 0).sum()) == 2
