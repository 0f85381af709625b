"""The run itself: its directory, its features, its device."""

from typing import ClassVar, Literal

from autointerp.config.section import Section, setting

RANDOM_CODER, RANDOM_LABEL = "random-coder", "random-label"


class RunSettings(Section):
    SECTION: ClassVar[str] = "run"

    out: str | None = setting(
        None,
        "The run's directory (default: outputs/<SAE>, outputs/demo for the demo, "
        "outputs/<SAE>-random-coder for a control).",
        min_length=1,
    )
    features: str = setting(
        "all", "The features to label: all, 0-99,512, @ids.txt or random:500 (seeded)."
    )
    seed: int = setting(0, "Seed for samples, splits and nulls.", ge=0)
    device: str = setting("auto", "Device for tensors: auto, cpu, cuda or cuda:N.")
    processes: int = setting(
        1,
        "Number of processes that collect, each with its own share of the contexts and its own "
        "memory, assigned to GPUs in turn; the result does not depend on it.",
        ge=1,
    )
    control: Literal["none", "random-coder", "random-label"] = setting(
        "none",
        "A control to compare scores with. random-coder: a separate run in which random "
        "directions, matched in density, replace the SAE's features; random-label: every feature "
        "is also judged with another feature's label.",
    )
    auto: bool = setting(
        False,
        "Choose features_per_request, judge_form, judge_items, response_format and "
        "simulation_mode where they are not given, by a trial of some 30 requests to the model; "
        "`autointerp doctor` prints the result.",
    )

    def is_random(self) -> bool:
        """Whether random directions replace the SAE's features."""
        return self.control == RANDOM_CODER
