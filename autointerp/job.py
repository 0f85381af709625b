"""What every stage works on: a configuration, its run directory, its coder and features."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from autointerp import demo
from autointerp.coders import SparseCoder, load_coder
from autointerp.config import DEMO, RunConfig
from autointerp.errors import UserError
from autointerp.features import select_features
from autointerp.runs import Run


@dataclass(frozen=True)
class Job:
    """One run to be done. `features` are the selected ones, ascending."""

    config: RunConfig
    run: Run
    coder: SparseCoder
    coder_path: Path
    features: list[int]

    @property
    def coder_name(self) -> str:
        return DEMO if self.config.coder == DEMO else self.coder_path.name

    def device(self) -> torch.device:
        wanted = self.config.device
        if wanted == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(wanted)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            first_line = str(error).strip().splitlines()[0]
            raise UserError(f"device {wanted!r} cannot be used: {first_line}") from None
        return device

    @contextmanager
    def recorded(self, stage: str, inputs: str) -> Iterator[dict[str, Any]]:
        """Record the stage as done if the block ends well, with the details it fills in.

        Until then it counts as not done, even if it was: some of its files may be new already.
        """
        details: dict[str, Any] = {}
        self.run.forget_stages(stage)
        began = time.monotonic()
        self.run.note(f"{stage} begins")
        yield details
        self.run.finish_stage(stage, inputs, time.monotonic() - began, **details)


def open_job(config: RunConfig) -> Job:
    """Load the coder and resolve the features. Touches no file of the run. Raises UserError."""
    coder_path = demo.CODER if config.coder == DEMO else Path(config.coder)
    coder = load_coder(coder_path)
    features = select_features(config.features, coder.features, config.seed)
    return Job(config, Run(config.run_path()), coder, coder_path, features)
