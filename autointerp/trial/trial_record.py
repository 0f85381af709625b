"""What a trial found, as a file in the run's directory."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autointerp.config.loading import problem_of
from autointerp.secrets import masked
from autointerp.storage.damage import damaged
from autointerp.storage.files import atomic_path

_MAX_BYTES = 1 << 20
_Count = Annotated[int, Field(ge=0, le=10**9)]
_Number = Annotated[float, Field(ge=0, le=1e12)]
_Line = Annotated[str, Field(max_length=2000)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class LabelWay(_Part):
    """Labels asked for `size` features a request.

    `copied` are the template's own words, `declined` are not labels for another reason, and `alike`
    those that another feature of the request got as well. `mended` came out right once those that
    had no label were asked about alone.
    """

    size: Annotated[int, Field(ge=1, le=1000)]
    features: _Count
    readable: _Count
    copied: _Count
    declined: _Count
    alike: _Count
    right: _Count
    mended: _Count


class JudgeWay(_Part):
    """Yes or no asked about so many `items` a request, half of which have what the label says.

    `ranked`: how many are right if in each request the likelier half are taken for yes, where there
    are probabilities.
    """

    task: _Line
    form: _Line
    items: Annotated[int, Field(ge=1, le=1000)]
    asked: _Count
    answered: _Count
    yes: _Count
    right: _Count
    ranked: _Number | None = None


class SimulationWay(_Part):
    """`correlation` is None where nothing could be read."""

    mode: _Line
    windows: _Count
    answered: _Count
    correlation: Annotated[float, Field(ge=-1, le=1)] | None


class TrialRecord(_Part):
    """One trial. `inputs` is a hash of all that decides its replies; `given` are the settings that
    were not the trial's to choose; `templates` those it was tried with, by task."""

    inputs: _Line
    given: dict[str, _Line | int]
    model: _Line
    endpoint: _Line
    tried_at: _Line
    templates: dict[_Line, _Line]
    labels: Annotated[list[LabelWay], Field(max_length=20)]
    judging: Annotated[list[JudgeWay], Field(max_length=40)]
    simulation: Annotated[list[SimulationWay], Field(max_length=10)]
    not_given: Annotated[list[_Line], Field(max_length=20)]  # ways that the endpoint does not allow
    response_format: _Line
    requests: _Count
    recalled: _Count  # of these, replies that the journal had
    prompt_tokens: _Count
    completion_tokens: _Count
    cost_usd: _Number | None  # None where the price is not known
    tokens_per_s: tuple[_Number, _Number] | None  # of prompts and of replies
    failures: Annotated[list[_Line], Field(max_length=100)]

    def fits(self, inputs: str, given: Mapping[str, Any]) -> bool:
        """Whether it is of this model, asked like this, and all was tried that is still open."""
        return self.inputs == inputs and self.given.items() <= given.items()

    def write(self, path: Path) -> None:
        text = json.dumps(self.model_dump(), indent=2) + "\n"
        with atomic_path(path) as temporary:
            temporary.write_text(masked(text), encoding="utf-8")


def read_record(path: Path) -> TrialRecord | None:
    """None if there was no trial. Raises AutointerpError for a file that is not a trial record."""
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise damaged(path, "it is too large to be a trial record")
        return TrialRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        where, what = problem_of(error)
        raise damaged(path, f"{where}: {what}" if where else what) from None
    except (OSError, RecursionError) as error:
        raise damaged(path, error) from None
