"""How labels are judged, whatever the scorer; scorers' own settings are in their files."""

from typing import ClassVar, Literal

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
    null_share: float = setting(
        0.1,
        "Share of features that a model also judges with another feature's label, for the null; at "
        "least 100 features. Each costs as much as judging the feature's own label. With n nulls p "
        "goes down to about 1 / (1 + n), and a label that beats them all is a discovery at an FDR "
        "of 5 % where 20 / (1 + n) of all labels do. Rules judge all.",
        ge=0,
        le=1,
    )

    def scorer_names(self) -> list[str]:
        return names_in(self.scorers)
