"""RunConfig: every setting of a run, composed of sections and of scorers' own settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args, get_origin

from pydantic import ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from autointerp.config.activation_settings import SPARSE, ActivationSettings
from autointerp.config.evidence_settings import EvidenceSettings
from autointerp.config.labeling_settings import LabelingSettings
from autointerp.config.model_settings import ModelSettings
from autointerp.config.run_settings import RANDOM_CODER, RANDOM_LABEL, RunSettings
from autointerp.config.scorer_settings import CONFIGURED, ScorerSettings
from autointerp.config.scoring_settings import ScoringSettings
from autointerp.config.section import Section
from autointerp.errors import AutointerpError

SECTIONS: tuple[type[Section], ...] = (
    *(RunSettings, ActivationSettings, EvidenceSettings),
    *(LabelingSettings, ModelSettings, ScoringSettings),
)
# What users call settings that have another name inside; both are accepted everywhere.
PREFERRED_NAMES = {"coder": "sae", "coder_format": "sae_format"}
S = TypeVar("S", bound=ScorerSettings)


def preferred(name: str) -> str:
    """What users call the setting."""
    return PREFERRED_NAMES.get(name, name)


def setting_named(name: str) -> str:
    """The setting that users call by this name, as it is named inside."""
    return next((inside for inside, shown in PREFERRED_NAMES.items() if shown == name), name)


@dataclass(frozen=True)
class Setting:
    """A setting; users call it `preferred(name)`. `scorer`: whose own it is, as `own_name`."""

    name: str
    section: str
    field: FieldInfo
    scorer: str | None = None
    own_name: str = ""

    def help(self) -> str:
        """Its description, with the names it takes where packages can add some."""
        known = f" Available: {', '.join(CONFIGURED)}." if self.name == "scorers" else ""
        return f"{self.field.description}{known}"

    def choices(self) -> tuple[str, ...]:
        """Its possible values, if they are a fixed set of words."""
        kinds = (self.field.annotation, *get_args(self.field.annotation))
        return next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())


@cache
def all_settings() -> dict[str, Setting]:
    """Every setting by name, in the order of sections; scorers' own come after those of scoring."""
    found = {
        name: Setting(name, section.SECTION, field)
        for section in SECTIONS
        for name, field in section.model_fields.items()
    }
    for scorer in CONFIGURED.values():
        for own, field in scorer.settings.model_fields.items():
            name = f"{scorer.name}_{own}"
            found[name] = Setting(name, scorer.settings.SECTION, field, scorer.name, own)
    return found


class RunConfig(
    RunSettings,
    ActivationSettings,
    EvidenceSettings,
    LabelingSettings,
    ModelSettings,
    ScoringSettings,
):
    """One run's settings. Keys are flat and the same in TOML, environment and flags.

    Scorers' own settings that were given are kept under their flat names as well, since which there
    are depends on the packages that are installed: `settings_of` has them in their own form.
    """

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="wrap")
    @classmethod
    def _with_scorers(cls, given: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Scorers' settings are checked by the scorers' own models, all others by this one."""
        if not isinstance(given, dict):
            return validate(given)
        sound = {n: value for n, value in given.items() if n in cls.model_fields}
        wrong: list[InitErrorDetails] = []
        for name in given.keys() - sound.keys():
            if name not in all_settings() or all_settings()[name].scorer is None:
                unknown = PydanticCustomError("extra_forbidden", "unknown setting")
                wrong.append({"type": unknown, "loc": (name,), "input": given[name]})
        for scorer in CONFIGURED.values():
            names = {f"{scorer.name}_{own}": own for own in scorer.settings.model_fields}
            own = {names[n]: value for n, value in given.items() if n in names}
            try:
                made = scorer.settings.model_validate(own)
            except ValidationError as error:
                wrong += (_located(e, f"{scorer.name}_{e['loc'][0]}") for e in error.errors())
            else:
                sound |= {n: getattr(made, own) for n, own in names.items() if n in given}
        try:
            config = validate(sound)
        except ValidationError as error:
            wrong += (_located(e) for e in error.errors())
        if wrong:
            raise ValidationError.from_exception_data(cls.__name__, wrong)
        return config

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if wrong := list(self.problems()):
            raise ValueError("; ".join(wrong))
        return self

    def problems(self) -> Iterator[str]:
        """What is wrong between settings, a line each."""
        yield from super().problems()
        for name in self.scorer_names():
            try:
                scorer = CONFIGURED.find(name)
            except AutointerpError as error:
                yield f"scorers: {error}"
                continue
            own = self.settings_of(name, scorer.settings)
            yield from own.problems_with(name, self.score_windows)
        if self.is_random() and self.store == SPARSE:
            yield "control random-coder needs activations, which store sparse does not keep"
        if self.uses_model():
            yield from self._check_shown()
        if self.labeler == "llm" and self.model is None:
            yield "labeler llm needs a model: --model NAME"
        if self.judge == "llm" and self.model is None:
            yield "judge llm needs a model: --model NAME"
        if self.batch and "local" in (self.asked(), self.judge):
            yield "batch needs an endpoint; a local model has none"

    def _check_shown(self) -> Iterator[str]:
        """Where labels are to be made from more windows than are kept."""
        if self.label_top + self.label_quantiles < 1:
            yield "label_top and label_quantiles are both 0: there is nothing to label from"
        if self.candidates > 1 and self.sample_windows == 0:
            yield "candidates need sample_windows, which is 0"
        if self.candidates > 2 and 0 in (self.label_top, self.label_quantiles):
            yield (
                "candidates 3 needs label_top and label_quantiles above 0: otherwise two of the "
                "three selections of windows are the same"
            )
        silent = self.near_miss_windows + self.negative_windows
        for asked, kept, keeps in (
            ("label_top", self.top_windows, "top_windows keeps"),
            ("label_quantiles", self.sample_windows, "sample_windows keeps"),
            ("label_contrast", silent, "near_miss_windows and negative_windows keep"),
        ):
            if getattr(self, asked) > kept:
                yield f"{asked} is {getattr(self, asked)}, but {keeps} only {kept}"

    def settings_of(self, scorer: str, kind: type[S]) -> S:
        """A scorer's own settings, in their own form."""
        names = {f"{scorer}_{own}": own for own in kind.model_fields}
        given = self.model_extra or {}
        return kind(**{own: given[name] for name, own in names.items() if name in given})

    def value(self, name: str) -> Any:
        """The setting of this name, whoever owns it."""
        setting = all_settings()[name]
        if setting.scorer is None:
            return getattr(self, name)
        return (self.model_extra or {}).get(name, setting.field.default)

    def values(self) -> dict[str, Any]:
        """All settings by name."""
        return {name: self.value(name) for name in all_settings()}

    def asked(self) -> Literal["llm", "local"] | None:
        """Which language model writes the labels, None where rules are learned."""
        if self.labeler == "lexical":
            return None
        if self.labeler != "auto":
            return self.labeler
        if self.model is not None:
            return "llm"
        return "local" if self.local_model is not None else None

    def uses_model(self) -> bool:
        return self.asked() is not None

    def is_local(self) -> bool:
        return self.asked() == "local"

    def judging(self) -> "RunConfig":
        """The settings for scoring: the judge is the one who is asked."""
        same = self.judge in ("auto", self.asked())
        return self if same else self.model_copy(update={"labeler": self.judge})

    def to_be_tried(self) -> "RunConfig":
        """The settings of the labeler; of the judge, or of --model, where rules are learned."""
        if self.uses_model():
            return self
        judging = self.judging()
        if judging.uses_model() or self.model is None:
            return judging
        return self.model_copy(update={"labeler": "llm"})

    def share_with_null(self) -> float:
        """Share of features that a model also judges by another feature's label."""
        return 1.0 if self.control == RANDOM_LABEL else self.null_share

    def coder_name(self) -> str:
        """The SAE's name in tables."""
        return f"{self.name()}+random" if self.is_random() else self.name()

    def run_path(self) -> Path:
        if self.out is not None:
            return Path(self.out)
        return Path("outputs") / (self.name() + (f"-{RANDOM_CODER}" if self.is_random() else ""))

    def cache_path(self) -> Path:
        return Path(self.cache) if self.cache is not None else self.run_path() / "cache"


def _located(error: Any, name: str | None = None) -> InitErrorDetails:
    """An error as it was found, at the setting's own name in place of what its model calls it."""
    return {
        "type": error["type"],
        "loc": error["loc"] if name is None else (name,),
        "input": error["input"],
        "ctx": error.get("ctx", {}),
    }
