"""relabel: a new label of one feature, from evidence that no label of it was made from before.

It goes through the same pool and the run's journal, which also knows what was shown already: a
selection of windows whose request has a reply is not asked about again. The run's own label, its
table and what is recorded of its stages stay as they are: what becomes of the new label is the
caller's business.
"""

from dataclasses import replace

from autointerp.config.settings import RunConfig
from autointerp.errors import ConfigurationError, EndpointError, InputError
from autointerp.evidence.window import FeatureEvidence
from autointerp.labeling.excerpts import Shown
from autointerp.labeling.labeler import Draft
from autointerp.labeling.llm import LabelJob
from autointerp.labeling.selections import selections
from autointerp.llm.journal.journal import Journal
from autointerp.llm.journal.reply_cache import ReplyCache
from autointerp.resources import model_facts
from autointerp.resources.session import Session
from autointerp.runs.directory import Run
from autointerp.stages.label.candidate_choice import is_worth_another
from autointerp.stages.label.label_settings import label_prompt, settings_of, views_of
from autointerp.tables.edits import read_edits
from autointerp.tables.write import read_drafts

# A batch may take a day, and connections that nobody needs are slow to make ready.
_ONE_REQUEST = {"batch": False, "concurrency": 1, "min_concurrency": 1, "max_concurrency": 1}
_NOT_ASKED = ("dead", "too_few", "over_budget", "pending")


class _Quiet:
    """No progress: one request is no long work."""

    def advance(self, n: int = 1) -> None:
        pass

    def skip(self, n: int) -> None:
        pass

    def note(self, text: str) -> None:
        pass


def relabel(run: Run, feature: int, own: RunConfig) -> Draft:
    """A draft with a new label or, where the model gives none, with what became of it.

    Model, endpoint, key, templates and budget are those of `own`, the settings of whoever asks: the
    run's record is not trusted to name them, and says only how windows are chosen and shown. May be
    called in any thread. `cost_usd` is 0 where the model has no known price. Raises AutointerpError
    where `own` names no model, the feature has no evidence or all of it was shown already, somebody
    else works on the run, the endpoint fails, or the budget does not allow it.
    """
    if not own.uses_model():
        raise ConfigurationError("asking for a new label needs a model: --model NAME")
    config = run.settings().with_own(own)
    session = Session(config.model_copy(update=_ONE_REQUEST), run, None, [feature])
    drafts: list[Draft] = []
    with run.locked():
        request = _unanswered(session, feature)
        if isinstance(request, Draft):
            return request
        asked = session.model.ask(lambda: [request], drafts.append, _Quiet())
        if asked.stopped is not None:
            raise asked.stopped
        (draft,) = drafts
        if draft.status == "over_budget":
            raise EndpointError(f"feature {feature} was not relabeled: {draft.error}")
        run.note(f"relabel of feature {feature}: {draft.status}")
    return draft


def _unanswered(session: Session, feature: int) -> LabelJob | Draft:
    """The first request that shows the feature as it has not been shown. Raises AutointerpError.

    Or a label that was paid for and never kept as an edit: its process died in between.
    """
    run, config = session.run, session.config
    (evidence,) = session.store.read([feature])
    if not evidence.of("label", "top", "sample"):
        raise InputError(f"feature {feature} has no activating windows to label it from")
    vocabulary = session.vocabulary
    prompt = label_prompt(config)
    settings = settings_of(config)
    used = _shown_by_run(session, evidence)
    kept = {edit.label for edit in read_edits(run, feature)}
    journal = Journal.open(run.journal)
    try:
        recall = ReplyCache(journal, model_facts.address(config), model_facts.dialect(config))
        every = selections(evidence, settings.shown, config.sample_windows, config.seed)
        for of, shown in every:
            if of is evidence and shown in used:
                continue
            request = LabelJob([of], prompt, vocabulary, replace(settings, shown=shown), {})
            found = recall.find(request.request())
            if found is None:
                return request
            for draft in request.reduce(found.reply).results:
                if draft.label is not None and draft.label not in kept:
                    return draft
    finally:
        journal.close()
    raise ConfigurationError(
        f"feature {feature} has no other selection of windows to show: all have been used"
    )


def _shown_by_run(session: Session, evidence: FeatureEvidence) -> list[Shown]:
    """The views that the run has made labels of the feature from.

    It asks about several features at once, so that its requests are not those found here.
    """
    if not session.run.drafts.is_file():
        return []
    drafts = read_drafts(session.run.drafts, evidence.feature)
    if not drafts or drafts[0].status in _NOT_ASKED or drafts[0].label_of is not None:
        return []
    if drafts[0].labeler != model_facts.model_name(session.config):
        return []
    every = views_of(session.config)
    worth = (
        n
        for n in range(1, len(every))
        if is_worth_another(evidence, every[: n + 1], session.config.seed)
    )
    return [every[0], *(every[n] for n in worth)]
