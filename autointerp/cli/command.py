"""How commands are declared: with an example, the settings they use, and the run they are about."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperGroup
from typer.main import get_command

from autointerp.cli.options import (
    Uses,
    flags_among,
    names_used,
    parameter,
    preferred_flag,
    setting_options,
)
from autointerp.config.loading import load_config
from autointerp.errors import ConfigurationError
from autointerp.registry import Registry

Function = Callable[..., None]
_RUN_OPTION = "run_option"
_WHOLE = "whole"  # of what is registered: makes the command that is called
_RUN_HELP = "The run's directory (default: the latest one)."
_CREATED_HELP = "The run's directory (default: outputs/ and the name of the SAE)."
_CONFIG_HELP = "A TOML file of settings; `autointerp config` prints one."
_ALL_HELP = "Show every setting, also those that this command does not use, and exit."


class CommandGroup(TyperGroup):
    """Only the command that is called gets its options: settings make a hundred, and take time.

    A command's name may be of two words, of which the first alone is another one.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if " ".join(args[:2]) in self.commands:
            args = [" ".join(args[:2]), *args[2:]]
        name, found, rest = super().resolve_command(ctx, args)
        whole = getattr(getattr(found, "callback", None), _WHOLE, None)
        return name, found if whole is None else whole(), rest


def group(app: typer.Typer, name: str, example: str, summary: str) -> typer.Typer:
    """A command of commands; its help begins with the example."""
    made = typer.Typer(
        cls=CommandGroup,
        help=f"Example: {escape(example)}\n\n{summary}",
        short_help=summary,
        no_args_is_help=True,
    )
    app.add_typer(made, name=name)
    return made


def command(
    app: typer.Typer,
    example: str,
    *,
    name: str | None = None,
    uses: Uses | None = None,
    lists: str | None = None,
    by_place: bool = True,
) -> Callable[[Function], Function]:
    """Register a command, whose help begins with the example.

    What its parameter `run` names can be given by position or as --run. With `uses` it takes all
    settings, shows these, and receives the resolved configuration as its first argument; where
    `out` is among them, that is the run, which is named by --out alone unless `by_place`. `lists`:
    the group of entry points whose entries its help lists. A parameter of the function's own comes
    before a setting of its name.
    """

    def decorate(function: Function) -> Function:
        said = inspect.getdoc(function) or ""
        summary = said.partition("\n\n")[0]
        called_as = name or function.__name__
        own = list(inspect.signature(function).parameters.values())

        def with_settings(**given: Any) -> None:
            assert uses is not None
            kept = {p.name: given.pop(p.name) for p in own if p.name in given}
            flags = flags_among(given)
            given |= kept
            if "out" in names_used(uses) and by_place:
                flags["out"] = given.pop("run")
            function(load_config(given.pop("config"), flags), **given)

        def whole() -> Any:
            """The command with all its options, and its whole help."""
            call, parameters = function, _with_run(own, _RUN, "--run")
            if uses is not None:
                run = _CREATED if "out" in names_used(uses) and by_place else _RUN
                named = [*own[1:], *([run] if run is _CREATED else []), _CONFIG, _HELP_ALL]
                parameters = _with_run(named, run, "--run", "--out")
                without_out = any(p.name == "run" for p in parameters)
                options = setting_options(uses, without_out=without_out)
                names = {p.name for p in own}
                parameters += [option for option in options if option.name not in names]
                call = with_settings
            entries = [] if lists is None else Registry[Any](lists).values()
            more = "".join(f"\n\n{entry.name}: {entry.about}" for entry in entries)
            alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            text = escape(f"Example: {example}\n\n{said}{more}")
            register = alone.command(
                called_as, help=text, context_settings={"token_normalize_func": preferred_flag}
            )
            register(_with_signature(_on_one_run(call), parameters))
            return get_command(alone)

        listed = _with_signature(function, [])
        setattr(listed, _WHOLE, whole)
        app.command(called_as, help=summary)(listed)
        return function

    return decorate


def _with_signature(function: Function, parameters: list[inspect.Parameter]) -> Function:
    """The function as typer sees it: with these parameters."""

    def seen(**given: Any) -> None:
        function(**given)

    by_name = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    seen.__signature__ = inspect.Signature(by_name)  # type: ignore[attr-defined]
    return seen


def _with_run(
    parameters: list[inspect.Parameter], run: inspect.Parameter, *names: str
) -> list[inspect.Parameter]:
    """Beside a run that is named by its place, the option of these names for it."""
    if all(p.name != "run" for p in parameters):
        return parameters
    option = typer.Option(*names, metavar="RUN", help="The same.")
    found = [run if p.name == "run" else p for p in parameters]
    return [*found, parameter(_RUN_OPTION, str | None, option)]


def _on_one_run(function: Function) -> Function:
    """The function with what either way of naming the run has. Raises AutointerpError."""

    def called(**given: Any) -> None:
        given.pop("help_all", None)
        if _RUN_OPTION in given:
            option = given.pop(_RUN_OPTION)
            if None not in (option, given["run"]) and option != given["run"]:
                raise ConfigurationError(
                    f"two runs were given, {given['run']} and {option}: give one"
                )
            given["run"] = option if given["run"] is None else given["run"]
        function(**given)

    return called


def _show_all(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        for one in ctx.command.params:
            if hasattr(one, "hidden"):
                one.hidden = False
        typer.echo(ctx.get_help(), nl=False)
        raise typer.Exit


_RUN = parameter("run", str | None, typer.Argument(metavar="RUN", help=_RUN_HELP))
_CREATED = parameter("run", str | None, typer.Argument(metavar="RUN", help=_CREATED_HELP))
_CONFIG = parameter("config", Path | None, typer.Option("--config", help=_CONFIG_HELP))
_HELP_ALL = parameter(
    "help_all",
    bool,
    typer.Option("--help-all", is_eager=True, callback=_show_all, help=_ALL_HELP),
    default=False,
)
