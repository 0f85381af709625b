"""The run itself: where it is kept, which features, on what."""

from typing import ClassVar, Literal

from autointerp.config.section import Section, setting

RANDOM_CODER, RANDOM_LABEL = "random-coder", "random-label"


class RunSettings(Section):
    SECTION: ClassVar[str] = "run"

    out: str | None = setting(
        None,
        "The run's directory (default: outputs/<coder>, outputs/demo for the demo; of a control "
        "outputs/<coder>-random-coder).",
        min_length=1,
    )
    features: str = setting(
        "all", "Which features: all, 0-99,512, @ids.txt or random:500 (seeded)."
    )
    seed: int = setting(0, "Seed of samples, splits and nulls.", ge=0)
    device: str = setting("auto", "auto, cpu, cuda or cuda:N.")
    processes: int = setting(
        1,
        "Processes that share the collecting, each with a part of the contexts and memory of its "
        "own, on several GPUs in turn; the result is the same.",
        ge=1,
    )
    control: Literal["none", "random-coder", "random-label"] = setting(
        "none",
        "What scores are held against. random-coder: a run of its own in which random directions, "
        "as dense as the coder's features, take their place; random-label: every feature is also "
        "judged by another's label.",
    )
    auto: bool = setting(
        False,
        "Use the settings that suit the model, as a trial of some 30 requests finds them, for "
        "those of features_per_request, judge_form, judge_items, response_format and "
        "simulation_mode that are not given. `autointerp doctor` shows what was found.",
    )

    def is_random(self) -> bool:
        """A random coder takes the real one's place."""
        return self.control == RANDOM_CODER
