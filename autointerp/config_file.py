"""Reading a configuration from defaults < TOML file < environment < flags, and printing one."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autointerp.config import RunConfig
from autointerp.errors import UserError

ENVIRONMENT_PREFIX = "AUTOINTERP_"


def setting_section(name: str) -> str:
    extra = RunConfig.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["section"])


def _from_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"config {path}: there is no such file")
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"config {path} is not TOML: {error}") from None


def _from_environment() -> dict[str, str]:
    found = {}
    for name in RunConfig.model_fields:
        value = os.environ.get(ENVIRONMENT_PREFIX + name.upper())
        if value is not None:
            found[name] = value
    return found


def load_config(file: Path | None, flags: dict[str, Any]) -> RunConfig:
    """The resolved configuration. Raises UserError that names the setting and what is wrong."""
    settings = _from_file(file) if file is not None else {}
    settings |= _from_environment()
    settings |= {name: value for name, value in flags.items() if value is not None}
    return validated(settings)


def validated(settings: Mapping[str, Any]) -> RunConfig:
    """The configuration of these settings. Raises UserError as `load_config` does."""
    try:
        return RunConfig.model_validate(settings)
    except ValidationError as error:
        name, message = problem_of(error)
        if error.errors()[0]["type"] == "extra_forbidden":
            message = "there is no such setting; `autointerp config` lists them"
        where = f"setting {name}: " if name else ""
        raise UserError(f"{where}{message}") from None


def problem_of(error: ValidationError) -> tuple[str, str]:
    """Where the first of the problems is, in names with dots, and what it is."""
    first = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    return name, str(first["msg"]).removeprefix("Value error, ")


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value).lower() if isinstance(value, bool) else str(value)


def config_template() -> str:
    """A TOML file with every setting commented out at its default, in sections."""
    lines = [
        "# autointerp settings: autointerp run --config run.toml",
        f"# Environment variables ({ENVIRONMENT_PREFIX}<NAME>) override this file, flags override "
        "both.",
        "# The key of the endpoint is never written here: it comes from the environment.",
    ]
    section = ""
    for name, info in RunConfig.model_fields.items():
        if setting_section(name) != section:
            section = setting_section(name)
            lines += ["", f"# ---- {section} ----"]
        lines += ["", f"# {info.description}"]
        default = "..." if info.default is None else _toml(info.default)
        lines.append(f"# {name} = {default}")
    return "\n".join(lines) + "\n"
