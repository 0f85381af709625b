"""What sections of settings share: how a setting is declared, and what is known of each."""

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field


def setting(default: Any, help: str, **limits: Any) -> Any:
    return Field(default=default, description=help, **limits)


class Section(BaseModel):
    """Settings that belong together. Their names are flags', variables' and TOML keys' as well."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )
    SECTION: ClassVar[str]  # the header under which a TOML file may have them

    def problems(self) -> Iterator[str]:
        """What is wrong between settings of the section, a line each."""
        yield from ()


def names_in(value: str) -> list[str]:
    """The names in a comma-separated setting, each once."""
    return list(dict.fromkeys(name.strip() for name in value.split(",")))
