"""How labels are judged, whatever the scorer; scorers' own settings are in their files."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from autointerp.config.scorer_settings import scorers_by_protocol
from autointerp.config.section import Section, names_in, setting

JudgeForm = Literal["lists", "booleans", "quotes", "probabilities"]


class ScoringSettings(Section):
    SECTION: ClassVar[str] = "scoring"

    judge: Literal["auto", "llm", "local"] = setting(
        "auto",
        "What judges labels: llm (--model) or local (--local-model); auto: the model that "
        "labels, or rules if rules label.",
    )
    scorers: str = setting("detection,simulation", "Scorers, comma-separated.")
    protocol: str | None = setting(
        None,
        "Score as another tool does as well, to compare with its published numbers: delphi, "
        "saebench, bills or neuronpedia, comma-separated (docs/protocols.md).",
    )
    negatives: Literal["label", "meaning", "feature"] | None = setting(
        None,
        "Where the non-activating windows for detection come from, besides the whole corpus: label "
        "(windows with words of the label, near misses, and more windows for rare features), "
        "meaning (as label, but by the embedding model instead of words; extra embed) or feature "
        "(near misses only). Default: label; a run that was scored before keeps its own.",
    )
    judge_items: int = setting(50, "Judgments per request.", ge=1)
    judge_form: JudgeForm = setting(
        "lists",
        "How a judge says yes or no: a list of the numbers that match; a boolean per number; a "
        "quote from the excerpt, then the boolean; or booleans with their probabilities, if the "
        "endpoint returns those. Scores of different forms are not comparable.",
    )
    precision: float | None = setting(
        None,
        "Stop judging a feature once its interval is no wider than plus or minus this, checked "
        "after every judge_items judgments; the interval remains valid under such peeking.",
        gt=0,
        lt=1,
    )
    score_share: float = setting(
        1.0,
        "Share of the labeled features to score, drawn by --seed; the others get an expected F1 "
        "(expected_f1) with an interval. A larger share later scores only those that are new.",
        gt=0,
        le=1,
    )
    null_share: float = setting(
        0.1,
        "Share of features that a model also judges with another feature's label, for the null; at "
        "least 100 features. Each costs as much as judging the feature's own label. With n nulls "
        "the smallest p is about 1 / (1 + n). Few nulls find labels at an FDR of 5 % only where "
        "many are good: a share of 20 / (1 + n) or more must beat every null. Rules judge all.",
        ge=0,
        le=1,
    )

    def scorer_names(self) -> list[str]:
        """The scorers that are asked for, and those of the protocols."""
        known = scorers_by_protocol()
        followed = [name for one in self.protocol_names() for name in known.get(one, ())]
        return list(dict.fromkeys([*names_in(self.scorers), *followed]))

    def protocol_names(self) -> list[str]:
        return [] if self.protocol is None else names_in(self.protocol)

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        known = scorers_by_protocol()
        for name in self.protocol_names():
            if name not in known:
                yield f"protocol: there is no {name!r}; there are {', '.join(known)}"
