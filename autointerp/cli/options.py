"""Settings as options of the command line."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.markup import escape

from autointerp.config.section import Section
from autointerp.config.settings import Setting, all_settings, preferred

_ON_ONE_LINE = 32  # characters of choices
Uses = tuple[type[Section] | str, ...]  # settings that a command uses: sections, or by name


def names_used(uses: Uses) -> set[str]:
    """The settings that are meant; a section's include scorers' own."""
    sections = {use.SECTION for use in uses if not isinstance(use, str)}
    return {s.name for s in all_settings().values() if s.name in uses or s.section in sections}


def setting_options(uses: Uses, *, without_out: bool) -> list[inspect.Parameter]:
    """All settings as options, so that one set of flags serves all commands.

    Those that this command does not use are hidden.
    """
    shown = names_used(uses)
    return [
        _option(setting, hidden=setting.name not in shown)
        for setting in all_settings().values()
        if not (without_out and setting.name == "out")
    ]


def _option(setting: Setting, *, hidden: bool) -> inspect.Parameter:
    """The command-line option of one setting; unset means: not given."""
    kind, default = setting.field.annotation, setting.field.default
    # Of `int | None` and literals the first that a shell can give.
    members = (kind, *getattr(kind, "__args__", ()))
    shown = next((t for t in (bool, str, int, float) if t in members), str)
    choices = setting.choices()
    # Choices stand where there is room for them, before what they mean; long lists may be broken.
    between = "|" if len("|".join(choices)) < _ON_ONE_LINE else " | "
    may_be = f"[{between.join(choices)}] " if choices else ""
    metavar = " " if choices else {int: "INTEGER", float: "FLOAT"}.get(shown)
    ending = "" if default is None or shown is bool else f" [default: {default}]"
    option = typer.Option(
        "--" + preferred(setting.name).replace("_", "-"),
        # Text, which RunConfig checks: what is wrong is then said alike wherever it was set.
        metavar=metavar,
        help=escape(f"{may_be}{setting.help()}{ending}"),
        rich_help_panel=setting.section,
        hidden=hidden,
        autocompletion=_beginning_with(choices) if choices else None,
    )
    return parameter(setting.name, (bool if shown is bool else str) | None, option)


def preferred_flag(name: str) -> str:
    """What help calls a flag, for those that go by two names."""
    return preferred(name.replace("-", "_")).replace("_", "-")


def parameter(name: str, kind: Any, info: Any, default: Any = None) -> inspect.Parameter:
    annotated: Any = Annotated
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotated[kind, info]
    )


def _beginning_with(choices: tuple[str, ...]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete


def flags_among(given: dict[str, Any]) -> dict[str, Any]:
    """Take the settings out of what a command was given, by name."""
    return {name: given.pop(name) for name in all_settings() if name in given}
