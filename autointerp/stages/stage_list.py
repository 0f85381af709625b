"""The stages of a run, in their order."""

from autointerp.stages import capture_stage
from autointerp.stages.collect import collect_stage
from autointerp.stages.label import label_stage
from autointerp.stages.score import score_stage
from autointerp.stages.stage import Stage

STAGES: tuple[Stage, ...] = (
    capture_stage.STAGE,
    collect_stage.STAGE,
    label_stage.STAGE,
    score_stage.STAGE,
)
