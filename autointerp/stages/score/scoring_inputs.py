"""What scoring works on, made ready: the labels, the plans and the judges."""

from collections.abc import Mapping

from autointerp.config.settings import RunConfig
from autointerp.errors import ConfigurationError, NotDoneError
from autointerp.labeling.labeler import Draft
from autointerp.prompting.prompts import Prompt
from autointerp.resources.session import Session
from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS, negatives
from autointerp.scoring.null import scored_sample
from autointerp.scoring.planner import Planner
from autointerp.stages.collect.collect_stage import evidence_identity
from autointerp.stages.score import local_judges
from autointerp.stages.score.endpoint_judge import EndpointJudge
from autointerp.stages.score.judge_templates import chat_scorers, settings_of
from autointerp.stages.score.judged_labels import JudgedLabels, judged_labels, with_null
from autointerp.stages.score.judging import Judge
from autointerp.stages.score.rule_judge import RulesJudge
from autointerp.tables.write import read_drafts


def planner_of(judging: Session) -> Planner:
    config = judging.config
    return Planner(
        judging.store,
        judging.corpus,
        judging.vocabulary,
        config.seed,
        settings_of(config),
        negatives.like_label(config, judging.corpus, judging.device),
    )


def labels_of(judging: Session) -> JudgedLabels:
    drafts = {draft.feature: draft for draft in read_drafts(judging.run.drafts)}
    config = judging.config
    statistics = judging.store.statistics
    shares = config.score_share, _null_share(config)
    former = negatives.are_as_before(config)
    return judged_labels(drafts, statistics, *shares, config.seed, former=former)


def labels_to_come(judging: Session) -> JudgedLabels:
    """The labels, or placeholders for them where they are not there yet."""
    run, config = judging.run, judging.config
    record = run.stages().label
    if record is not None and record.evidence == evidence_identity(run):
        labels = labels_of(judging)
        if labels.drafts:
            return labels
    statistics = judging.store.statistics
    alive = [f for f in judging.features if statistics[f]["n_active"] > 0]
    features = scored_sample(alive, config.score_share, config.seed)
    drawn: set[int] = set()
    if len(alive) > 1:
        former = negatives.are_as_before(config)
        drawn = with_null(features, _null_share(config), config.seed, former=former)
    return JudgedLabels({}, features, dict.fromkeys(drawn, -1), statistics)


def _null_share(config: RunConfig) -> float:
    # Rules judge for nothing: all features get a null.
    return config.share_with_null() if config.uses_model() else 1.0


def check_labels(run: Run, config: RunConfig, drafts: Mapping[int, Draft]) -> None:
    """Raises AutointerpError where the labels are not to be scored, or not by what is at hand."""
    labeled = run.stages().label
    if labeled is None:
        raise NotDoneError(f"labeling in {run.path} is not finished: run `autointerp label` first")
    # Other evidence may be split otherwise: the labeler may have seen what would score it.
    if labeled.evidence != evidence_identity(run):
        raise NotDoneError(
            f"the labels in {run.path} were made from other evidence: run `autointerp label` first"
        )
    if config.uses_model() or not chat_scorers(config):
        return
    if any(d.label and not d.rule for d in drafts.values()):
        raise ConfigurationError(
            f"the labels in {run.path} were not made by rules: scoring them needs --model or "
            "--judge local"
        )
    for name in chat_scorers(config):
        if SCORERS[name].by_rule is None:
            raise ConfigurationError(
                f"rules cannot judge {name}: it needs --model or --judge local"
            )


def open_judges(judging: Session, prompts: Mapping[str, Prompt]) -> list[Judge]:
    """Those that are needed, the cheapest first. Raises AutointerpError where one cannot be had."""
    config = judging.config
    judges: list[Judge] = []
    if config.judge == "auto":
        judges.append(RulesJudge(chat_scorers(config)))
    if config.uses_model() and chat_scorers(config):
        judges.append(EndpointJudge(judging.model, prompts))
    if local_judges.names(config):
        judges.append(local_judges.open_judges(config, judging.device, prompts))
    return judges
