"""Labels by a language model: who is asked about, the requests, and what comes of the replies."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

from autointerp.labeling import no_label
from autointerp.labeling.candidates import Proposal, Proposed
from autointerp.labeling.labeler import Draft
from autointerp.labeling.llm import label_jobs
from autointerp.plain_text import counted
from autointerp.progress import Tracker, say, track
from autointerp.resources.language_model import Answered
from autointerp.resources.session import Session
from autointerp.runs.record import LabelRecord, SavedRequests
from autointerp.stages.label.candidate_choice import (
    LabelCandidates,
    candidate_judge,
    choose,
    is_worth_another,
)
from autointerp.stages.label.label_settings import (
    label_prompt,
    labeler_name,
    settings_of,
    views_of,
)
from autointerp.stages.label.labelers import Drafted, Show, labelable
from autointerp.stages.label.triage import Saving, Triage, saving, triage, twin_draft
from autointerp.stages.label.validation import uncompared

_NO_LABEL = ("refused", "failed")


def proposals(session: Session, features: Sequence[int], skip: Show) -> Iterator[Proposal]:
    """Requests for the usual labels of all features, then for further candidates of them.

    The drafts of features that cannot be labeled go to `skip`.
    """
    config, name = session.config, labeler_name(session.config)
    prompt, settings, every = label_prompt(config), settings_of(config), views_of(config)
    for view, shown in enumerate(every):
        evidence = labelable(session.store, features, config.min_windows, name, skip)
        if view > 0:
            seen = every[: view + 1]
            evidence = (e for e in evidence if is_worth_another(e, seen, config.seed))
        of_view = replace(settings, shown=shown)
        for one in label_jobs(evidence, prompt, session.vocabulary, of_view):
            yield Proposal(one, view)


@dataclass
class _Came:
    """The drafts so far: of features that were asked about, and of those that need not be."""

    pending: dict[int, Draft]
    show: Show
    # By feature: what is unlabelable is found in the thread that reads the evidence.
    skipped: dict[int, Draft] = field(default_factory=dict)
    candidates: LabelCandidates = field(default_factory=LabelCandidates)

    def skip(self, draft: Draft) -> None:
        self.skipped[draft.feature] = draft
        self.show(draft)

    def take(self, new: Proposed) -> bool:
        """Take a label in; True where it is its feature's first."""
        is_first = self.candidates.take(new)
        if is_first:
            self.show(new.draft)
        return is_first

    def drafts(self) -> dict[int, Draft]:
        return self.pending | self.skipped | self.candidates.drafts(self.pending)


@dataclass(frozen=True)
class ModelLabeler:
    session: Session

    def draft(self, details: LabelRecord, show: Show) -> Drafted:
        plan = triage(self.session)
        name = labeler_name(self.session.config)
        features = self.session.features
        came = _Came(
            {f: Draft(f, "pending", name, error="the run was stopped") for f in features}, show
        )
        for draft in plan.rules.values():
            show(draft)
        linked, stopped = self._ask(plan, came, details)
        drafts = came.drafts()
        if self.session.config.candidates > 1:
            stopped = self._choose(came.candidates, drafts, details, stopped)
        for line in no_label.summary(drafts.values()):
            say(f"label: {line}")
        details.asked_again = no_label.counts(drafts.values())
        twins = {feature: twin_draft(feature, drafts[own]) for feature, own in linked.items()}
        self._say_what_was_saved(plan, drafts.values(), twins.values(), details)
        return Drafted(list((drafts | twins | plan.rules).values()), stopped)

    def _ask(
        self, plan: Triage, came: _Came, details: LabelRecord
    ) -> tuple[dict[int, int], BaseException | None]:
        """Ask about all that are to be asked about, then about twins of those without a label.

        The twins that keep another's label, and what ended the asking.
        """
        with track("label", len(self.session.features), "features") as progress:
            asked = self._ask_about(plan.asked, came, progress)
            details.asked = asdict(asked.totals)
            drafts = came.drafts()
            lost = [f for f, own in plan.twins.items() if drafts[own].status in _NO_LABEL]
            if lost and asked.stopped is None:
                asked = self._ask_about(lost, came, progress)
                details.asked_for_twins = asdict(asked.totals)
            linked = {f: own for f, own in plan.twins.items() if f not in lost}
            progress.advance(len(came.skipped) + len(linked) + len(plan.rules))
        return linked, asked.stopped

    def _ask_about(self, features: Sequence[int], came: _Came, progress: Tracker) -> Answered:
        def take(new: Proposed) -> None:
            if came.take(new):
                progress.advance()

        def jobs() -> Iterator[Proposal]:
            return proposals(self.session, features, came.skip)

        return self.session.model.ask(jobs, take, progress)

    def _choose(
        self,
        candidates: LabelCandidates,
        drafts: dict[int, Draft],
        details: LabelRecord,
        stopped: BaseException | None,
    ) -> BaseException | None:
        """Put the best candidate into `drafts` where there are several; what ended the asking."""
        choices = candidates.open()
        firsts = {f: drafts[f] for f in choices}
        drafts |= {f: uncompared(draft, "the run was stopped") for f, draft in firsts.items()}
        details.unchosen = candidates.unfinished()
        if not choices or stopped is not None:
            return stopped
        judge = candidate_judge(self.session.config, self.session.vocabulary)
        found = choose(self.session.model, self.session.store, judge, firsts, choices)
        drafts |= found.drafts
        details.asked_for_candidates = asdict(found.asked.totals)
        details.unchosen += found.unanswered
        return found.asked.stopped

    def _say_what_was_saved(
        self,
        plan: Triage,
        drafts: Iterable[Draft],
        twins: Iterable[Draft],
        details: LabelRecord,
    ) -> None:
        drafts, config = list(drafts), self.session.config
        if plan.rules:
            saved = saving(len(plan.rules), drafts, config)
            details.saved_by_rules = _recorded(saved)
            say(
                f"label: {counted(len(plan.rules), 'feature')} labeled by a rule, which "
                f"{saved.describe()}"
            )
        if taken := sum(draft.label is not None for draft in twins):
            saved = saving(taken, drafts, config)
            details.saved_by_twins = _recorded(saved)
            say(f"label: {counted(taken, 'feature')} labeled like a twin, which {saved.describe()}")


def _recorded(saved: Saving) -> SavedRequests:
    return SavedRequests(**asdict(saved))
