"""Coders by `hf:` from a hub on loopback and from its cache, and by `saelens:` from a registry."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch
import yaml

from autointerp.coders import coder_identity, load_coder
from autointerp.coders.coder_files import Corrections, Located, locate
from autointerp.errors import AutointerpError
from tests.coders.test_coder import write_saelens

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SAY = """
import json, sys
from autointerp.coders import load_coder
from autointerp.errors import AutointerpError
said = []
for spec in sys.argv[1:]:
    try: c = load_coder(spec); said.append(f"{c.features} {c.d_in} {c.activation}")
    except AutointerpError as e: said.append(f"refused: {e}")
print(json.dumps(said))
"""


def _etag(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


class _Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as downloading a model's files takes."""

    root: Path
    asked: list[str]

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(self.path.split("?")[0])
        self.asked.append(path)
        repository = next(
            (r for r in self._repositories() if path.startswith((f"/api/models/{r}", f"/{r}/"))),
            None,
        )
        if repository is None:
            self._send(404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
        elif path.startswith("/api/models/"):
            folder = self.root / repository
            files = sorted(f for f in folder.rglob("*") if f.is_file())
            names = [str(f.relative_to(folder)) for f in files]
            if "/tree/" in path:
                found = [
                    {"type": "file", "path": n, "size": f.stat().st_size, "oid": _etag(n)}
                    for n, f in zip(names, files, strict=True)
                ]
            else:
                siblings = [{"rfilename": n} for n in names]
                found = {"id": repository, "sha": COMMIT, "siblings": siblings}
            self._send(200, json.dumps(found).encode(), {"Content-Type": "application/json"})
        else:
            inside = path.removeprefix(f"/{repository}/resolve/").split("/", 1)[1]
            file = self.root / repository / inside
            if file.is_file():
                headers = {"ETag": f'"{_etag(inside)}"', "X-Repo-Commit": COMMIT}
                self._send(200, file.read_bytes(), headers)
            else:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"})

    def _repositories(self):
        return sorted(f"{p.parent.name}/{p.name}" for p in self.root.glob("*/*"))

    def _send(self, status, body, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path):
    """A hub with a folder of SAEs and one of single files; yields (address, what was asked)."""
    write_saelens(tmp_path / "hub" / "owner" / "saes" / "layer_1" / "16k", "jumprelu")
    write_saelens(tmp_path / "hub" / "owner" / "saes" / "layer_2" / "16k", "standard")
    single = tmp_path / "hub" / "owner" / "SAE-W1K-L0_3"
    single.mkdir()
    torch.manual_seed(0)
    shapes = {"W_enc": (11, 6), "W_dec": (6, 11), "b_enc": (11,), "b_dec": (6,)}
    torch.save({n: torch.randn(s) for n, s in shapes.items()}, single / "layer3.sae.pt")
    (single / "layer4.sae.pt").write_bytes(b"never asked for")
    handler = type("Hub", (_Hub,), {"root": tmp_path / "hub", "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler.asked
    server.shutdown()
    thread.join()
    server.server_close()


def loaded(specs, home, endpoint, *, offline=False):
    """What a process of its own says of each coder: the hub's library reads its settings once."""
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    found = subprocess.run(
        [sys.executable, "-c", SAY, *specs],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_files_of_the_hub_are_downloaded_once_and_found_without_a_network(hub, tmp_path):
    endpoint, asked = hub
    home = tmp_path / "home"
    folder, single = "hf:owner/saes/layer_1/16k", "hf:owner/SAE-W1K-L0_3/layer3.sae.pt"
    (refused,) = loaded([folder], home, endpoint, offline=True)
    assert refused.startswith("refused:")
    assert not asked
    assert loaded([folder, single], home, endpoint) == ["11 6 jumprelu", "11 6 topk"]
    fetched = [p for p in asked if "/resolve/" in p]
    assert any("layer_1/16k/sae_weights.safetensors" in p for p in fetched)
    assert not any("layer_2" in p or "layer4" in p for p in fetched)
    assert loaded([folder], home, "http://127.0.0.1:9", offline=True) == ["11 6 jumprelu"]


def test_what_the_hub_has_not_is_one_line(hub, tmp_path):
    endpoint, _ = hub
    specs = ["hf:owner/none/x", "hf:owner/saes/layer_9"]
    none, elsewhere = loaded(specs, tmp_path / "home", endpoint)
    for found, said in ((none, "cannot be downloaded"), (elsewhere, "has no SAE at layer_9")):
        assert found.startswith("refused:")
        assert said in found
        assert "\n" not in found


@pytest.mark.parametrize("spec", ["hf:", "hf:owner", "hf:owner//x"])
def test_malformed_names_are_said(spec):
    with pytest.raises(AutointerpError, match="the form is hf:owner/repository/file or folder"):
        load_coder(spec)


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A package with SAELens's name and its list of releases, and the hub's files on this disk."""
    releases = {
        "plain": {
            "repo_id": "owner/saes",
            "saes": [{"id": "layer_1/16k", "path": "layer_1/16k", "l0": 7.5}],
        },
        "scaled": {
            "repo_id": "owner/saes",
            "saes": [{"id": "a", "path": "scaled", "norm_scaling_factor": 0.5, "l0": 3}],
        },
        "mistral": {
            "repo_id": "owner/saes",
            "saes": [{"id": "a", "path": "layer_1/16k"}],
            "config_overrides": {"normalize_activations": "constant_norm_rescale"},
        },
        "gpt2": {
            "repo_id": "owner/saes",
            "saes": [{"id": "a", "path": "layer_1/16k"}],
            "config_overrides": {"model_from_pretrained_kwargs": {"center_writing_weights": True}},
        },
    }
    package = tmp_path / "site" / "sae_lens"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('never imported')")
    (package / "pretrained_saes.yaml").write_text(yaml.safe_dump(releases))
    monkeypatch.syspath_prepend(tmp_path / "site")
    write_saelens(tmp_path / "repo" / "layer_1" / "16k", "standard")
    write_saelens(
        tmp_path / "repo" / "scaled", "standard", normalize_activations="expected_average_only_in"
    )
    monkeypatch.setattr(
        "autointerp.coders.coder_files._from_hub",
        lambda where: tmp_path / "repo" / where.removeprefix("owner/saes/"),
    )
    return tmp_path / "repo"


def test_a_coder_of_the_registry_with_what_it_knows(registry):
    plain = load_coder(registry / "layer_1" / "16k")
    found = load_coder("saelens:plain/layer_1/16k")
    assert torch.equal(found.encoder, plain.encoder)
    assert found.expected_l0 == 7.5
    assert locate("saelens:plain/layer_1/16k") == Located(
        registry / "layer_1" / "16k", Corrections(expected_l0=7.5)
    )
    scaled = load_coder("saelens:scaled/a")
    assert scaled.input_norm == "none"
    assert torch.equal(scaled.encoder, load_coder(registry / "scaled").encoder * 0.5)
    assert load_coder("saelens:mistral/a").input_norm == "unit_rms"
    centered = load_coder("saelens:gpt2/a")
    x = torch.randn(4, 6)
    assert torch.allclose(
        centered.encode(x).value, plain.encode(x - x.mean(1, keepdim=True)).value, atol=1e-5
    )
    assert coder_identity("saelens:gpt2/a") != coder_identity("saelens:plain/layer_1/16k")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("saelens:none/a", "has no release 'none'"),
        ("saelens:plain/a", "plain has no 'a'; it has layer_1/16k"),
        ("saelens:plain", "plain has no ''"),
    ],
)
def test_what_the_registry_has_not_is_said(registry, spec, said):
    with pytest.raises(AutointerpError, match=said):
        load_coder(spec)


def test_a_damaged_registry_and_a_missing_extra_are_said(registry, tmp_path, monkeypatch):
    (tmp_path / "site" / "sae_lens" / "pretrained_saes.yaml").write_text("a: [")
    with pytest.raises(AutointerpError, match="registry cannot be read"):
        load_coder("saelens:plain/a")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AutointerpError, match=r"pip install 'autointerp\[saelens\]'"):
        load_coder("saelens:plain/a")
