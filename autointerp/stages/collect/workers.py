"""A pass over the activations in several processes: each reads a part, one merges them all.

What a collector keeps does not depend on the order of contexts, so that the result is the same as
that of one process.
"""

import os
import signal
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import connection, get_context, resource_tracker
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch

from autointerp.activations.stream import SubjectStream
from autointerp.errors import AutointerpError
from autointerp.evidence.checkpoint import merge_checkpoint
from autointerp.evidence.collector import Collector
from autointerp.progress import Tracker, say, track
from autointerp.resources.activation_source import Place, Source, open_place
from autointerp.stages.collect.one_pass import Pass, read_part
from autointerp.stages.collect.planning import Part, devices_of, divided
from autointerp.storage.files import writing

# A process that has used a GPU cannot be forked. One that has only imported all this can: each of
# the processes then begins in a hundredth of the time that importing takes.
_processes = get_context("forkserver")
_processes.set_forkserver_preload([__name__])


def read_pass(
    this: Pass, source: Source, place: Place, processes: int
) -> tuple[Collector, list[str]]:
    """Take in every batch; what checkpoints hold of it is not read again.

    Returns the collector, settled, and what is to be said of the source. Raises AutointerpError.
    """
    parts = divided(this.held(), source.contexts, processes, this.batch_contexts)
    done = sum(part.held for part in parts)
    if done > 0:
        say(f"collect: resuming after {done:,} contexts")
    length = source.context_length
    if done == source.contexts:
        return _merged(this, parts), []
    with track("collect", source.contexts * length, "tokens") as progress:
        progress.skip(done * length)
        if processes == 1 and len(parts) == 1:
            keep = this.passes > 1  # others follow, and may be killed

            def advance(contexts: int) -> None:
                progress.advance(contexts * length)

            collector = read_part(this, source, parts[0].contexts, advance, keep=keep)
            return collector, source.remarks()
        return _read_in_processes(this, source, place, parts, processes, progress)


def _merged(this: Pass, parts: Iterable[Part], into: Collector | None = None) -> Collector:
    """The parts' checkpoints in one collector."""
    collector = this.collector() if into is None else into
    for part in parts:
        file = this.checkpoint(part.contexts.start)
        found = merge_checkpoint(file, collector, this.inputs)
        if found != part.contexts:
            raise RuntimeError(f"{file} holds {found}, not {part.contexts}")
    return collector


@dataclass(frozen=True)
class _Ended:
    """What a process says last of its source."""

    repaired: Counter[str]
    remarks: list[str]


@dataclass(frozen=True)
class _Failed:
    said: str
    error: type[AutointerpError] | None  # None for a bug


@dataclass(frozen=True)
class _Child:
    number: int
    part: Part
    slot: int
    process: ForkServerProcess


def _read_in_processes(
    this: Pass, source: Source, place: Place, parts: list[Part], processes: int, progress: Tracker
) -> tuple[Collector, list[str]]:
    """Read the parts in processes and merge them, one after the other, as they end."""
    remarks: list[str] = []
    if not isinstance(source, SubjectStream):
        source.repaired.clear()
    waiting = [(n, part) for n, part in enumerate(parts, 1) if part.held < len(part.contexts)]
    ready = [part for part in parts if part.held == len(part.contexts)]
    processes = min(processes, len(waiting))
    devices = devices_of(this.rows.device)
    threads = max(1, torch.get_num_threads() // processes)
    free = list(range(processes))
    running: dict[connection.Connection, _Child] = {}
    collector: Collector | None = None
    with _handed_over(this) as file:
        try:
            while waiting or running:
                while waiting and free:
                    number, part = waiting.pop(0)
                    slot = free.pop(0)
                    device = devices[slot % len(devices)]
                    pipe, process = _started(file, place, device, threads, part.contexts)
                    running[pipe] = _Child(number, part, slot, process)
                for heard in connection.wait(list(running)):
                    assert isinstance(heard, connection.Connection)
                    child = running[heard]
                    said = _heard(heard, child, len(parts))
                    if isinstance(said, int):
                        progress.advance(said * this.context_length)
                        continue
                    child.process.join()
                    del running[heard]
                    free.append(child.slot)
                    ready.append(child.part)
                    remarks += said.remarks
                    if not isinstance(source, SubjectStream):
                        source.repaired.update(said.repaired)
                if not waiting and len(running) < processes:
                    # The first process to end has made room for what they are merged into.
                    collector = _merged(this, ready, collector)
                    ready.clear()
        finally:
            for child in running.values():
                child.process.terminate()
            for child in running.values():
                child.process.join()
    assert collector is not None
    return collector, [*source.remarks(), *remarks]


def _heard(pipe: connection.Connection, child: _Child, parts: int) -> int | _Ended:
    """Contexts that a process has taken in, or its last word.

    Raises AutointerpError where it died.
    """
    contexts = child.part.contexts
    who = f"process {child.number} of {parts} (contexts {contexts.start:,} to {contexts.stop:,})"
    try:
        said: int | _Ended | _Failed = pipe.recv()
    except (EOFError, OSError):
        child.process.join()
        status = child.process.exitcode or 0
        how = f"ended with status {status}"
        if status < 0:
            how = f"was ended by {signal.Signals(-status).name}"
            if status == -signal.SIGKILL:
                how += " (out of memory?)"
        raise AutointerpError(
            f"collect: {who} {how}; rerun the same command to resume from the last checkpoints"
        ) from None
    if isinstance(said, _Failed):
        if said.error is not None:
            raise said.error(said.said)
        raise RuntimeError(f"collect: {who} failed:\n{said.said}")
    return said


def _started(
    file: Path, place: Place, device: torch.device, threads: int, part: range
) -> tuple[connection.Connection, ForkServerProcess]:
    pipe, theirs = _processes.Pipe(duplex=False)
    process = _processes.Process(
        target=_work, args=(file, place, device, threads, part, theirs), daemon=True
    )
    # Ctrl-C is for this process, which ends the others. (Starting the tracker unblocks signals.)
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    theirs.close()
    return pipe, process


def _work(
    file: Path,
    place: Place,
    device: torch.device,
    threads: int,
    part: range,
    pipe: connection.Connection,
) -> None:
    """What a process does."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        torch.set_num_threads(threads)
        pipe.send(_done(file, place, device, part, pipe))
    except BrokenPipeError:
        os._exit(1)  # nobody is there any more to work for


def _done(
    file: Path, place: Place, device: torch.device, part: range, pipe: connection.Connection
) -> _Ended | _Failed:
    try:
        # Mapped, so that processes share the coder's memory.
        handed: Pass = torch.load(file, map_location="cpu", mmap=True, weights_only=False)
        source = open_place(place, device)
        read_part(handed.to(device), source, part, pipe.send, keep=True)
    except AutointerpError as error:
        return _Failed(str(error), type(error))
    except BrokenPipeError:
        raise
    except Exception:
        return _Failed(traceback.format_exc(), None)
    if isinstance(source, SubjectStream):
        return _Ended(Counter(), source.remarks())
    return _Ended(source.repaired, [])


@contextmanager
def _handed_over(this: Pass) -> Iterator[Path]:
    """A file of the pass for other processes, as long as they need it."""
    coder = None if this.coder is None else this.coder.alone()
    file = this.run.path / f".collect.{os.getpid()}.tmp"
    try:
        with writing(file):
            torch.save(replace(this, coder=coder), file)
        yield file
    finally:
        file.unlink(missing_ok=True)
