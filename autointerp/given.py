"""What is given to autointerp in Python, as settings: those of the command line, and names of
things in memory."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from numbers import Number
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from autointerp.activations.given_activations import given_activations
from autointerp.activations.given_evidence import feature_number, given_evidence
from autointerp.activations.given_subject import given_subject, given_tokenizer, not_training
from autointerp.activations.given_text import given_text
from autointerp.coders import SparseCoder
from autointerp.coders.given_coder import EncoderObject, coder_digest, given_coder
from autointerp.config.loading import load_config
from autointerp.config.settings import PREFERRED_NAMES, RunConfig, all_settings, preferred
from autointerp.errors import AutointerpError, ConfigurationError
from autointerp.held import holding, name_held
from autointerp.llm.local.function_client import named_function

# Arguments that are no settings, or may be more than one.
THINGS = (
    *("subject", "tokenizer", "sae", "text"),
    *("activations", "token_ids", "mask", "evidence"),
)
_UNNAMED_CHARACTERS = 8
# Commands in backticks stay as they are; `--model NAME` becomes `model=NAME`.
_FLAG = re.compile(r"`[^`]*`|(?<![\w/-])--([a-z][a-z0-9-]*[a-z0-9])(?: ([A-Z]+)\b)?")


def setting_names() -> list[str]:
    return [preferred(name) for name in all_settings()]


@contextmanager
def naming_arguments() -> Iterator[None]:
    """Errors in the block name settings as a call does: `sae`, not `--sae`."""
    names = {*THINGS, *all_settings(), *setting_names(), "yes", "dry_run"}

    def argument(found: re.Match[str]) -> str:
        name = (found[1] or "").replace("-", "_")
        if name not in names:
            return found[0]
        return f"{name}={found[2]}" if found[2] else f"`{name}`"

    try:
        yield
    except AutointerpError as error:
        error.args = (_FLAG.sub(argument, str(error)),)
        raise


@dataclass
class Given:
    """`settings` by the names of the command line, and `judging` in their place for scoring.

    `things` are what some of them name.
    """

    settings: dict[str, Any]
    judging: dict[str, Any] = field(default_factory=dict)
    things: dict[str, Any] = field(default_factory=dict)
    subject: Any = None  # a model that is in memory

    @contextmanager
    def in_use(self) -> Iterator[None]:
        with ExitStack() as used:
            used.enter_context(holding(self.things))
            if self.subject is not None:
                used.enter_context(not_training(self.subject))
            yield

    def hold(self, name: str, thing: Any) -> str:
        self.things[name] = thing
        return name

    def config(self, file: Path | None, *, judging: bool = False) -> RunConfig:
        """The configuration. Raises ConfigurationError."""
        chosen = self.settings | (self.judging if judging else {})
        config = load_config(file, chosen, lambda name: f"argument {preferred(name)}")
        objects = [t for t in self.things.values() if isinstance(t, EncoderObject)]
        if objects and config.is_random():
            raise ConfigurationError(
                "control random-coder needs the weights of the SAE, which an object with encode "
                "does not give: pass SparseCoder.from_tensors(…)"
            )
        if config.processes > 1 and set(self.things) & {
            config.subject,
            config.text,
            config.cache,
            config.coder if objects else None,
        }:
            raise ConfigurationError(
                "processes: objects in memory cannot be shared with other processes: pass paths, "
                "or drop processes"
            )
        return config


def taken(arguments: Mapping[str, Any], known: Iterable[str]) -> Given:
    """What the arguments of a call come to, those that are None left out.

    `known` are arguments that are no settings. Raises ConfigurationError for one that is neither,
    InputError for a thing that cannot be used.
    """
    names = list(dict.fromkeys([*known, *setting_names()]))
    for name in arguments:
        if preferred(name) not in names:
            near = difflib.get_close_matches(name, names, n=2)
            meant = f"did you mean {' or '.join(near)}?" if near else "`autointerp config` has all"
            raise ConfigurationError(f"{name!r} is not an argument or a setting: {meant}")
    given = {name: value for name, value in arguments.items() if value is not None}
    for inside, name in PREFERRED_NAMES.items():
        if name in given and inside in given:
            raise ConfigurationError(f"{name} and {inside} are the same setting: pass only one")
        if inside in given:
            given[name] = given.pop(inside)
    things = {name: given.pop(name) for name in THINGS if name in given}
    asked = {name: given.pop(name) for name in ("labeler", "judge") if name in given}
    if "features" in given and not isinstance(features := given["features"], str):
        given["features"] = _ranges(features if isinstance(features, Iterable) else [features])
    found = Given({name: _plain(value) for name, value in given.items()})
    _take_models(found, **asked)
    _take_things(found, **things)
    return found


def _take_things(
    found: Given,
    *,
    subject: Any = None,
    tokenizer: Any = None,
    sae: Any = None,
    text: Any = None,
    activations: Any = None,
    token_ids: Any = None,
    mask: Any = None,
    evidence: Any = None,
) -> None:
    settings = found.settings
    if evidence is not None:
        if any(given is not None for given in (subject, sae, text, activations)):
            raise ConfigurationError(
                "evidence replaces subject, sae, text and activations: drop those"
            )
        excerpts, features = given_evidence(evidence)
        settings["cache"] = found.hold(str(excerpts.path), excerpts)
        settings.setdefault("features", _ranges(features))
        # An excerpt begins in the midst of a text.
        settings.setdefault("masks", "none")
    if sae is not None and not _is_name(sae):
        coder = given_coder(sae)
        settings["coder"] = found.hold(_coder_name(coder), coder)
    elif sae is not None:
        settings["coder"] = fspath(sae)
    if "sae_format" in settings:
        settings["coder_format"] = settings.pop("sae_format")
    if text is not None and not _is_name(text):
        rows = given_text(text, settings.get("text_field"))
        settings["text"] = found.hold(rows.name, rows)
    elif text is not None:
        settings["text"] = fspath(text)
    if subject is not None and not _is_name(subject):
        model = given_subject(subject, tokenizer)
        settings["subject"] = found.hold(model.name, model)
        found.subject = subject
    elif subject is not None:
        settings["subject"] = fspath(subject)
    if activations is not None:
        if text is not None or "cache" in settings:
            raise ConfigurationError("activations replace text and cache: drop those")
        cache = given_activations(activations, token_ids, mask, settings.get("hook"))
        settings["cache"] = found.hold(str(cache.path), cache)
        if tokenizer is not None and subject is None:
            words = given_tokenizer(tokenizer)
            settings["subject"] = found.hold(words.name, words)
    elif mask is not None or (token_ids is not None and not _is_name(token_ids)):
        raise ConfigurationError("token_ids and mask need activations")
    elif token_ids is not None:
        settings["token_ids"] = fspath(token_ids)
    if tokenizer is not None and found.subject is None and activations is None:
        # The labeling model's, by which an estimate counts.
        if not _is_name(tokenizer):
            raise ConfigurationError("tokenizer needs a subject or activations in memory")
        settings["tokenizer"] = fspath(tokenizer)


def _take_models(found: Given, labeler: Any = None, judge: Any = None) -> None:
    settings = found.settings
    if callable(labeler):
        function = named_function(labeler)
        if judge == "local":  # another one
            found.judging |= {"judge": judge, "local_model": settings.get("local_model")}
            judge = None
        name = found.hold(function.name, function)
        settings |= {"labeler": "local", "local_model": name}
    elif labeler is not None:
        settings["labeler"] = labeler
    if callable(judge):
        function = named_function(judge)
        name = found.hold(function.name, function)
        found.judging |= {"judge": "local", "local_model": name}
        if labeler is None and not {"model", "local_model"} & settings.keys():
            settings["labeler"] = "lexical"
    elif judge is not None:
        settings["judge"] = judge


def _coder_name(coder: SparseCoder) -> str:
    digest = coder_digest(coder)
    return name_held(coder.name or f"sae-{digest[:_UNNAMED_CHARACTERS]}", digest)


def _is_name(value: Any) -> bool:
    return isinstance(value, str | PathLike)


def _ranges(features: Iterable[int]) -> str:
    """Numbers as the command line has them: of a million that follow one another two."""
    parts: list[list[int]] = []
    for feature in sorted({feature_number(one) for one in features}):
        if parts and feature == parts[-1][-1] + 1:
            parts[-1][1:] = [feature]
        else:
            parts.append([feature])
    if not parts:
        raise ConfigurationError("features: the list is empty")
    return ",".join("-".join(map(str, part)) for part in parts)


def _plain(value: Any) -> Any:
    """A value as a flag or a file would have it."""
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, Mapping):
        return json.dumps(value)
    if isinstance(value, str | Number):
        return value.item() if hasattr(value, "item") else value
    if isinstance(value, Iterable):
        return ",".join(str(_plain(one)) for one in value)
    return value
