"""How labels are made of evidence."""

from typing import ClassVar, Literal

from autointerp.config.section import Section, setting

OUTPUT_TOKENS = 10  # kept of every feature, raised ones and lowered ones


class LabelingSettings(Section):
    SECTION: ClassVar[str] = "labeling"

    labeler: Literal["auto", "llm", "local", "lexical"] = setting(
        "auto",
        "llm: a model at an endpoint (--model); local: one on this machine (--local-model); "
        "lexical: rules; auto: the first of these that is named, else rules.",
    )
    prompts: str = setting("prompts", "Folder of templates; missing ones come with the package.")
    features_per_request: int = setting(10, "Features in a labeling request.", ge=1)
    label_top: int = setting(
        5, "Windows of largest activation that a labeling request shows.", ge=0
    )
    label_quantiles: int = setting(
        5,
        "Beside them, windows from as many equal parts of the feature's firings by activation, "
        "one of each.",
        ge=0,
    )
    label_activations: Literal["marks", "numbers"] = setting(
        "marks",
        "How active tokens are shown: between marks, or with the strength of each run of them as "
        "well.",
    )
    label_contrast: int = setting(
        0,
        "Windows shown in which the feature is silent: near misses, where there are too few also "
        "negatives.",
        ge=0,
    )
    label_output_tokens: int = setting(
        0,
        "Tokens shown whose logits the feature raises most, and as many that it lowers, where "
        "they are known.",
        ge=0,
        le=OUTPUT_TOKENS,
    )
    label_meanings: int = setting(
        5,
        "The most meanings that a label may name, where one phrase does not cover the windows; 1 "
        "does not ask.",
        ge=1,
        le=5,
    )
    candidates: int = setting(
        1,
        "Labels proposed for each feature: from the windows usually shown, from firings of all "
        "strengths, and with 3 also from the largest alone. The best on windows kept for that is "
        "taken.",
        ge=1,
        le=3,
    )
    tier: Literal["none", "lexical-first"] = setting(
        "none",
        "lexical-first: features that a lexical rule explains on unseen windows keep it as their "
        "label, a model is asked about the others. For collect too, which keeps more windows.",
    )
    link_twins: float | None = setting(
        None,
        "Features whose decoder cosine is at least this (0.98, say), and whose largest windows are "
        "mostly from the same contexts, get one label, asked for once (default: each its own).",
        gt=0,
        le=1,
    )
