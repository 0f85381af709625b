"""Settings as options of the command line."""

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from autointerp.config.loading import load_config, setting_section
from autointerp.config.settings import RunConfig

CONFIG_HELP = "A TOML file of settings; `autointerp config` prints one."


def settings_of_section(section: str) -> tuple[str, ...]:
    return tuple(name for name in RunConfig.model_fields if setting_section(name) == section)


def with_settings(
    names: Iterable[str] = tuple(RunConfig.model_fields),
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command settings of RunConfig as options, beside its own parameters.

    The command receives the resolved configuration as its first argument.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command).parameters.values())[1:]
        config_option = inspect.Parameter(
            "config",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[Path | None, typer.Option("--config", help=CONFIG_HELP)],
        )

        def wrapped(**given: Any) -> None:
            flags = {name: given.pop(name) for name in names}
            command(load_config(given.pop("config"), flags), **given)

        parameters = [*own, config_option, *(_option(name) for name in names)]
        wrapped.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        )
        wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
        return wrapped

    return decorate


def _option(name: str) -> inspect.Parameter:
    """The command-line option of one setting; unset means: not given."""
    field = RunConfig.model_fields[name]
    kind = field.annotation
    # Of `int | None` and literals the first that a shell can give.
    members = (kind, *getattr(kind, "__args__", ()))
    shown = next((t for t in (bool, str, int, float) if t in members), str)
    default = "" if field.default is None else f" Default {field.default}."
    option = typer.Option(
        "--" + name.replace("_", "-"),
        # Text, which RunConfig checks: what is wrong is then said alike wherever it was set.
        metavar={int: "INTEGER", float: "FLOAT"}.get(shown),
        help=escape(f"{field.description}{default}"),
        rich_help_panel=setting_section(name),
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[(bool if shown is bool else str) | None, option],
    )
