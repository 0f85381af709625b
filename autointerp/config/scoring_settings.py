"""How labels are judged, whatever the scorer: its own settings are with it."""

from typing import ClassVar, Literal

from autointerp.config.section import Section, names_in, setting

JudgeForm = Literal["lists", "booleans", "quotes", "probabilities"]


class ScoringSettings(Section):
    SECTION: ClassVar[str] = "scoring"

    judge: Literal["auto", "llm", "local"] = setting(
        "auto",
        "Who judges labels where a language model must: llm (--model) or local (--local-model), "
        "which then judge rules' labels too; auto: the model that labels, and rules judge "
        "themselves.",
    )
    scorers: str = setting("detection,simulation", "How labels are scored, with commas.")
    judge_items: int = setting(50, "Judgments asked for in one request.", ge=1)
    judge_form: JudgeForm = setting(
        "lists",
        "How yes or no is asked for: lists of numbers; a boolean for each number; "
        "a quote from the excerpt and then the boolean; or booleans whose probabilities are read, "
        "which the endpoint must give (else booleans). Scores of different forms do not compare.",
    )
    precision: float | None = setting(
        None,
        "Stop judging a feature's windows once its interval is this far to either side; valid "
        "under peeking. judge_items is how many are asked for between looks.",
        gt=0,
        lt=1,
    )
    null_share: float = setting(
        0.1,
        "Share of features whose windows a model also judges by another feature's label, for the "
        "null; 50 features at least. Rules judge all.",
        ge=0,
        le=1,
    )

    def scorer_names(self) -> list[str]:
        return names_in(self.scorers)
