"""scripts/train_sae.py: the SAE that it trains finds directions that were planted."""

import importlib.util
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.nn.functional as F

from autointerp.coders import load_coder
from autointerp.vocabulary import Vocabulary
from tests.support.caches import write_cache

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_sae.py"
DIRECTIONS, WIDTH, ACTIVE = 48, 64, 3
QUICK = ["--steps", "5", "--batch", "64"]


def load_script():
    spec = importlib.util.spec_from_file_location("train_sae", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_sae"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def run_script(script, *flags):
    with mock.patch.object(sys, "argv", ["train_sae.py", *flags]):
        script.main()


@pytest.fixture(scope="module")
def script():
    return load_script()


@pytest.fixture(scope="module")
def planted():
    """(activations [tokens, width], directions [directions, width]) of a scale of its own."""
    g = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(DIRECTIONS, WIDTH, generator=g), dim=1)
    chosen = torch.rand(20_000, DIRECTIONS, generator=g).topk(ACTIVE, dim=1).indices
    strength = 1 + torch.rand(20_000, ACTIVE, generator=g)
    codes = torch.zeros(20_000, DIRECTIONS).scatter(1, chosen, strength)
    return 40 * (codes @ directions + torch.ones(WIDTH)), directions


@pytest.fixture(scope="module")
def trained(script, planted):
    return script.train(
        planted[0], features=72, k=ACTIVE, steps=400, batch=128, rate=1e-2, dead_after=3000
    )


def test_planted_directions_are_found(trained, planted):
    cosines = F.normalize(trained.decoder, dim=1) @ planted[1].T
    found = cosines.max(dim=0).values > 0.9
    assert found.float().mean() > 0.9


def test_the_product_reads_it_without_flags(script, trained, planted, tmp_path):
    x, _ = planted
    script.save(trained, tmp_path, "residual:3", "some-model")
    coder = load_coder(tmp_path)
    assert (coder.hook, coder.k, coder.features) == ("blocks.3.hook_resid_post", ACTIVE, 72)
    firings = coder.encode(x[:500])
    rebuilt = coder.read_decoder().reconstruct(firings, 500)
    torch.testing.assert_close(rebuilt, trained.reconstruct(x[:500])[0], rtol=1e-4, atol=1e-2)
    norms = coder.read_decoder().weight.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(72))
    missed = (x[:500] - rebuilt).square().sum() / (x[:500] - x[:500].mean(0)).square().sum()
    assert float(missed) < 0.02
    assert script.quality(trained, x[:500])["fvu"] == pytest.approx(float(missed), rel=1e-3)


def test_from_a_cache_to_a_folder(script, planted, tmp_path, capsys):
    x = planted[0][:2000].view(50, 40, WIDTH)
    x[:, 0] *= 1000  # first tokens, which are masked
    vocabulary = Vocabulary((b"a", b"b"), frozenset())
    write_cache(tmp_path / "cache", torch.zeros(50, 40), x, vocabulary, hook="layers.1.mlp")

    folders = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "sae")]
    run_script(script, *folders, "--features", "8", "--k", "2", *QUICK)
    said = capsys.readouterr().out
    assert said.startswith("1,852 activations of width 64, 98 held out")
    assert load_coder(tmp_path / "sae").hook == "layers.1.mlp"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--cache", "nowhere"], "no activation cache at nowhere"),
        (["--cache", "nowhere", "--k", "9", "--features", "8"], "--k 9 must be from 1 to"),
        (["--cache", "nowhere", "--steps", "0"], "--steps must be at least 1"),
    ],
)
def test_errors_are_one_line(script, flags, said, capsys):
    with pytest.raises(SystemExit) as exit:
        run_script(script, "--out", "sae", *flags)
    assert exit.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
