"""How labels are made from evidence."""

from typing import ClassVar, Literal

from autointerp.config.section import Section, setting

OUTPUT_TOKENS = 10  # kept of every feature, raised ones and lowered ones


class LabelingSettings(Section):
    SECTION: ClassVar[str] = "labeling"

    labeler: Literal["auto", "llm", "local", "lexical"] = setting(
        "auto",
        "What writes labels. llm: a model at an endpoint (--model); local: a model on this machine "
        "(--local-model); lexical: rules; auto: the first of these that is given, else rules.",
    )
    prompts: str = setting(
        "prompts", "Folder of prompt templates; those it lacks come from the package."
    )
    features_per_request: int = setting(10, "Features per labeling request.", ge=1)
    label_top: int = setting(5, "Top activating windows to show per feature.", ge=0)
    label_quantiles: int = setting(
        5,
        "Windows to show in addition, one from each of as many quantiles of the feature's "
        "activations.",
        ge=0,
    )
    label_activations: Literal["marks", "numbers"] = setting(
        "marks",
        "How active tokens are shown: between marks, or between marks with their activations as "
        "numbers.",
    )
    label_contrast: int = setting(
        0,
        "Non-activating windows to show: near misses first, then negatives.",
        ge=0,
    )
    label_output_tokens: int = setting(
        0,
        "Tokens to show whose logits the feature raises most, and as many that it lowers most, if "
        "known.",
        ge=0,
        le=OUTPUT_TOKENS,
    )
    label_meanings: int = setting(
        5,
        "Maximum number of meanings to ask for if one phrase does not cover the windows; 1: do not "
        "ask.",
        ge=1,
        le=5,
    )
    candidates: int = setting(
        1,
        "Candidate labels per feature: one from the usual windows, one from quantiles alone and, "
        "with 3, one from the top windows alone. The best on held-out windows is kept.",
        ge=1,
        le=3,
    )
    tier: Literal["none", "lexical-first"] = setting(
        "none",
        "lexical-first: use a lexical rule as the label where it holds on unseen windows, and "
        "ask a model for the others. Pass it to collect as well, which then keeps more windows.",
    )
    link_twins: float | None = setting(
        None,
        "Ask for one label for features with at least this decoder cosine (0.98, for example) "
        "and top windows mostly from the same contexts (default: never).",
        gt=0,
        le=1,
    )
