"""Experiments of scorers in a run: what they may use, opened as it is used, and their results."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from autointerp.activations.stream import SubjectStream
from autointerp.coders import SparseCoder
from autointerp.config.scorer_settings import ScorerSettings
from autointerp.evidence.corpus import Corpus
from autointerp.llm.pool import PoolJob
from autointerp.llm.totals import PoolTotals
from autointerp.progress import Tracker, say
from autointerp.prompting.prompts import Prompt
from autointerp.resources.activation_source import check_width, made_from, stream_settings
from autointerp.resources.session import Session
from autointerp.runs.record import ExperimentRecord
from autointerp.scoring import SCORERS
from autointerp.scoring.beside_nulls import Found, beside_nulls, with_q_values
from autointerp.scoring.experiment import Experiment, ExperimentLabels, Measured
from autointerp.scoring.judge import JudgeSettings
from autointerp.scoring.scorer import Judged, Score, Scorer
from autointerp.scoring.steered_subject import LiveSubject
from autointerp.stages.score.endpoint_judge import judge_settings
from autointerp.stages.score.judge_templates import experiments_of
from autointerp.stages.score.judged_labels import JudgedLabels
from autointerp.vocabulary import Vocabulary

R = TypeVar("R")


@dataclass(frozen=True)
class Laboratory:
    """`scoring.experiment.Lab` in a run."""

    session: Session
    scorer: Scorer
    prompts: Mapping[str, Prompt]

    @property
    def settings(self) -> ScorerSettings:
        return self.session.config.settings_of(self.scorer.name, self.scorer.settings)

    @property
    def seed(self) -> int:
        return self.session.config.seed

    @cached_property
    def judge(self) -> JudgeSettings | None:
        config = self.session.config
        return judge_settings(config) if config.uses_model() else None

    @property
    def corpus(self) -> Corpus:
        return self.session.corpus

    @property
    def vocabulary(self) -> Vocabulary:
        return self.session.vocabulary

    @property
    def coder(self) -> SparseCoder | None:
        return self.session.coder

    @property
    def hook(self) -> str | None:
        settings = stream_settings(self.session) if self.session.coder is not None else None
        return settings.hooks[0] if settings else None

    @property
    def made_from(self) -> list[str] | None:
        settings = stream_settings(self.session)
        return made_from(self.session, settings) if settings else None

    @cached_property
    def subject(self) -> LiveSubject:
        session, config = self.session, self.session.config
        settings = stream_settings(session)
        assert settings is not None
        stream = SubjectStream(settings, session.device)
        for warning in stream.check():
            say(f"{self.scorer.name}: {warning}")
        coder = check_width(session, stream.d_in, f"{settings.subject} at {settings.hooks[0]}")
        return LiveSubject(
            stream,
            coder.calibrated(stream.norms.mean).to(session.device),
            config.batch_contexts,
            config.mask_names(),
            made_from(session, settings),
            session.coder_identity,
        )

    @property
    def folder(self) -> Path:
        return self.session.run.folder_of(self.scorer.name)

    def ask(
        self,
        make_jobs: Callable[[], Iterable[PoolJob[R]]],
        take: Callable[[R], None],
        progress: Tracker,
    ) -> tuple[PoolTotals, BaseException | None]:
        asked = self.session.model.ask(make_jobs, take, progress)
        return asked.totals, asked.stopped


def laboratories(
    session: Session, prompts: Mapping[str, Prompt]
) -> list[tuple[Experiment, Laboratory]]:
    """One for each scorer with an experiment."""
    return [
        (experiment, Laboratory(session, SCORERS[name], prompts))
        for name, experiment in experiments_of(session.config).items()
    ]


@dataclass(frozen=True)
class OpenExperiment:
    """missing: metric → why it cannot be measured."""

    experiment: Experiment
    lab: Laboratory
    missing: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.lab.scorer.name

    def can_measure(self) -> bool:
        return bool(set(self.experiment.metrics) - self.missing.keys())

    def measure(
        self, labels: JudgedLabels, predict: Callable[[Judged], None], record: ExperimentRecord
    ) -> Measured:
        """What is found; what was asked is recorded."""
        measured = self.experiment.measure(self.lab, experiment_labels(labels), predict)
        record.asked = {name: asdict(totals) for name, totals in measured.asked.items()}
        return measured

    def scores(self, measured: Measured, density: Mapping[int, float]) -> Iterator[Score]:
        """density: feature → the share of the corpus's tokens on which it fires."""
        for metric, own in measured.own.items():
            mine, nulls = (
                {f: Found(estimate, rate, density[f]) for f, (estimate, rate) in found.items()}
                for found in (own, measured.nulls[metric])
            )
            yield from with_q_values(beside_nulls(self.name, metric, mine, nulls))


def open_experiments(session: Session, prompts: Mapping[str, Prompt]) -> list[OpenExperiment]:
    """Load what they need, and say what will be missing. Raises AutointerpError."""
    found = []
    for experiment, lab in laboratories(session, prompts):
        cannot = experiment.missing(lab)
        if cannot:
            say(f"score: {' and '.join(cannot)} will be missing: {next(iter(cannot.values()))}")
        opened = OpenExperiment(experiment, lab, cannot)
        if opened.can_measure():
            _ = lab.subject  # loaded before anything is spent
        found.append(opened)
    return found


def experiment_labels(labels: JudgedLabels) -> ExperimentLabels:
    return ExperimentLabels(
        {feature: labels.text(feature) for feature in labels.features},
        labels.nulls,
        {f: float(labels.statistics[f]["max_activation"]) for f in labels.features},
    )
