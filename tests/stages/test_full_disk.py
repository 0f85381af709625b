"""Disks that are full, and disks that are read-only: real ones, small and in memory."""

import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

import autointerp
from autointerp.errors import AutointerpError
from autointerp.storage.files import writing
from tests.support import scripted
from tests.support.fake_server import FakeServer


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this test may not mount a disk: {done.stderr.strip()}")


@contextmanager
def small_disk(folder: Path, kilobytes: int):
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")


@pytest.fixture(scope="module")
def calm(planted, tmp_path_factory):
    """The table of a run on a disk with room, and how large the run is."""
    out = tmp_path_factory.mktemp("calm") / "out"
    with FakeServer(scripted.answer) as server:
        assert _command("run", *_flags(server, planted, out))[0] == 0
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    return _labels(out), size // 1024


def _flags(server, planted, out):
    return [
        *("--model", "test-model", "--base-url", server.url, "--features-per-request", "2"),
        *("--simulation-mode", "json", *planted.flags(out)),
    ]


def _command(*arguments: str):
    from tests.conftest import run_command

    return run_command(*arguments)


def _labels(out):
    """Without what depends on the server's address."""
    return autointerp.load_labels(out).drop(columns="request")


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9])
def test_a_disk_that_fills_up_is_said_and_with_room_the_run_goes_on(
    cli, planted, calm, tmp_path, share
):
    table, size = calm
    with (
        small_disk(tmp_path / "disk", max(8, int(share * size))) as disk,
        FakeServer(scripted.answer) as server,
    ):
        flags = _flags(server, planted, disk / "out")
        code, _, said = cli("run", *flags)
        assert code == 2, said
        assert "the disk is full" in said.splitlines()[-1]
        assert "Traceback" not in said
        _mount("-o", "remount,size=64m", str(disk))
        code, _, said = cli("run", *flags)
        assert code == 0, said
        pd.testing.assert_frame_equal(_labels(disk / "out"), table)
        # What could not be written down was asked for again, once.
        assert max(server.served.values()) <= 2


def test_looking_at_a_run_on_a_read_only_disk(cli, planted, tmp_path):
    pytest.importorskip("duckdb", reason="serving a run needs the extra serve")
    with small_disk(tmp_path / "disk", 64_000) as disk:
        out = disk / "out"
        with FakeServer(scripted.answer) as server:
            flags = _flags(server, planted, out)
            assert cli("run", *flags)[0] == 0
            _mount("-o", "remount,ro", str(disk))
            code, _, said = cli("run", *flags)
        assert code == 2
        assert (
            said.splitlines()[-1] == f"autointerp: {out} cannot be written: Read-only file system"
        )
        for command in (
            ("labels", "--run", out),
            ("show", "3", "--run", out),
            ("scores", "--run", out),
            ("compare", out, out),
            ("journal", "info", "--run", out),
            ("journal", "export", "--run", out),
            ("report", out, "--features", "0-3", "--out", tmp_path / "report.html"),
            ("export", "jsonl", "--run", out, "--out", tmp_path / "labels.jsonl"),
        ):
            code, printed, said = cli(*map(str, command))
            assert code == 0, (command, said)
            assert printed
        for command in (
            ("report", out, "--features", "0-3"),
            ("export", "jsonl", "--run", out),
            ("plot", out),
            ("journal", "prune", "--days", "0", "--run", out),
            ("repair", out),
            ("collect", *flags, "--seed", "4"),
        ):
            code, _, said = cli(*map(str, command))
            assert code == 2, (command, said)
            assert "cannot be written" in said.splitlines()[-1]
            assert "Read-only file system" in said.splitlines()[-1]
        assert not list(out.glob(".*.tmp"))


def test_a_new_run_on_a_read_only_disk(cli, planted, tmp_path):
    with small_disk(tmp_path / "disk", 64) as disk:
        _mount("-o", "remount,ro", str(disk))
        code, _, said = cli("run", *planted.flags(disk / "out"))
        assert code == 2
        assert "cannot be written: Read-only file system" in said.splitlines()[-1]


def test_whatever_library_fills_a_disk_it_is_called_full(tmp_path):
    import numpy as np
    import torch
    from safetensors.torch import save_file

    numbers = torch.rand(1_000_000)
    with small_disk(tmp_path / "disk", 1000) as disk:
        for write in (
            lambda path: save_file({"a": numbers}, path),
            lambda path: torch.save({"a": numbers}, path),
            lambda path: np.save(path, numbers.numpy()),
            lambda path: path.write_bytes(bytes(4_000_000)),
        ):
            path = disk / "x.npy"
            with (
                pytest.raises(AutointerpError, match=r"x.npy cannot be written: the disk"),
                writing(path),
            ):
                write(path)
            for left in disk.iterdir():
                left.unlink()


def full(path, write):
    with writing(path):
        write(path)


@pytest.mark.parametrize("command", ["config", "labels"])
def test_output_to_a_full_disk(finished, command):
    of_run = ["--run", str(finished.path)] if command == "labels" else []
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "autointerp", command, *of_run],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert said.startswith("autointerp: the output cannot be written: the disk is full")


def test_other_failures_pass(tmp_path):
    with pytest.raises(ZeroDivisionError), writing(tmp_path / "x"):
        1 / 0  # noqa: B018
    with pytest.raises(FileNotFoundError), writing(tmp_path / "x"):
        shutil.copy(tmp_path / "none", tmp_path / "x")
