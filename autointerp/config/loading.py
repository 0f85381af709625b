"""Reading a configuration from defaults < TOML file < environment < flags, and printing one."""

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from autointerp.config.section import names_in
from autointerp.config.settings import (
    SECTIONS,
    RunConfig,
    all_settings,
    preferred,
    setting_named,
)
from autointerp.errors import ConfigurationError

ENVIRONMENT_PREFIX = "AUTOINTERP_"


_HEADER = re.compile(r"\s*\[\s*([A-Za-z0-9_-]+)\s*\]")
_KEY = re.compile(r"""\s*["']?([A-Za-z0-9_-]+)["']?\s*=""")


_SECTIONS = frozenset(section.SECTION for section in SECTIONS)


@dataclass(frozen=True)
class _Given:
    """A value and where it was given: a file's line, a variable, a flag."""

    value: Any
    place: str


def _from_file(path: Path) -> dict[str, _Given]:
    """The settings of a TOML file, flat or in sections. Raises AutointerpError."""
    if not path.is_file():
        raise ConfigurationError(f"config {path}: no such file")
    try:
        text = path.read_text(encoding="utf-8")
        entries = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"config {path} is not valid TOML: {error}") from None
    lines = _lines_of(text)
    found: dict[str, _Given] = {}
    for name, value in entries.items():
        inner = value if isinstance(value, dict) and name in _SECTIONS else {name: value}
        section = name if inner is value else ""
        for written, setting in inner.items():
            key = setting_named(written)
            line = lines.get((section, written), lines.get((written, "")))
            if key in found:
                again = f" and line {line}" if line else ""
                raise ConfigurationError(f"config sets {written} twice: {found[key].place}{again}")
            where = f"{path}, line {line}" if line else str(path)
            found[key] = _Given(setting, where)
    return found


def _lines_of(text: str) -> dict[tuple[str, str], int]:
    """(section, key) → the line where it is given; of a section, its key is empty."""
    lines: dict[tuple[str, str], int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            section = header[1]
            lines.setdefault((section, ""), number)
        elif key := _KEY.match(line):
            lines.setdefault((section, key[1]), number)
    return lines


def _from_environment() -> dict[str, _Given]:
    """All variables with the prefix: one that is not a setting is misspelled, and reported."""
    found: dict[str, _Given] = {}
    for variable, value in os.environ.items():
        if variable.startswith(ENVIRONMENT_PREFIX):
            name = setting_named(variable.removeprefix(ENVIRONMENT_PREFIX).lower())
            place = f"environment variable {variable}"
            if name in found:
                raise ConfigurationError(f"{found[name].place} and {place} are the same setting")
            found[name] = _Given(value, place)
    return found


def _flag(name: str) -> str:
    return f"flag --{preferred(name).replace('_', '-')}"


def load_config(
    file: Path | None, flags: Mapping[str, Any], place: Callable[[str], str] = _flag
) -> RunConfig:
    """The resolved configuration. `place` says where those in `flags` were given.

    Raises AutointerpError that says of every wrong setting where it was given and what is wrong.
    """
    settings = _from_file(file) if file is not None else {}
    settings |= _from_environment()
    settings |= {
        name: _Given(value, place(name)) for name, value in flags.items() if value is not None
    }
    # A key's variable may have the prefix as well, and is no setting.
    for name in _key_variables(settings):
        settings.pop(name.removeprefix(ENVIRONMENT_PREFIX).lower(), None)
    places = {name: setting.place for name, setting in settings.items()}
    return validated({name: setting.value for name, setting in settings.items()}, places)


def _key_variables(settings: Mapping[str, _Given]) -> list[str]:
    named = settings.get("api_key_env")
    found = names_in(str(named.value)) if named is not None else []
    return [name for name in found if name.startswith(ENVIRONMENT_PREFIX)]


def validated(settings: Mapping[str, Any], places: Mapping[str, str] = {}) -> RunConfig:
    """The configuration of these settings. Raises AutointerpError as `load_config` does.

    `places` says where each was given.
    """
    try:
        return RunConfig.model_validate(settings)
    except ValidationError as error:
        wrong = (_what_is_wrong(one, places) for one in error.errors())
        raise ConfigurationError("; ".join(dict.fromkeys(wrong))) from None


def _what_is_wrong(error: ErrorDetails, places: Mapping[str, str]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        given = (places[name] for name in re.findall(r"\w+", message) if name in places)
        where = "; ".join(dict.fromkeys(given))
        return f"{message} ({where})" if where else message
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        known = {*_SECTIONS, *map(preferred, all_settings())} - {name}
        near = difflib.get_close_matches(name, sorted(known), n=1)
        is_variable = ENVIRONMENT_PREFIX in places.get(name, "")
        likely = [f"{ENVIRONMENT_PREFIX}{n.upper()}" if is_variable else n for n in near]
        meant = f"did you mean {likely[0]}? " if likely else ""
        message = f"unknown setting; {meant}`autointerp config` lists them all"
    where = f" ({places[name]})" if name in places else ""
    return f"setting {preferred(name)}{where}: {message}"


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
        "# API keys do not belong here: they are read from the environment.",
    ]
    section = ""
    for setting in all_settings().values():
        if setting.section != section:
            section = setting.section
            lines += ["", f"[{section}]"]
        lines += ["", f"# {setting.help()}"]
        default = "..." if setting.field.default is None else _toml(setting.field.default)
        lines.append(f"# {preferred(setting.name)} = {default}")
    return "\n".join(lines) + "\n"
