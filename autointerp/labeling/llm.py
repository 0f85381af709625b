"""Labels by a language model: several features a request, what is missing asked again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from autointerp.evidence.window import FeatureEvidence
from autointerp.labeling.label_reply import (
    LabelItem,
    read_labels,
    reply_schema,
    template_words,
)
from autointerp.labeling.labeler import Draft
from autointerp.labeling.meanings import distinct_meanings, joint_label
from autointerp.labeling.prompts import Prompt
from autointerp.labeling.shown import Shown, shown_variables, shown_windows
from autointerp.llm.numbering import Miscounted, numbers, offset_of
from autointerp.llm.pool import Step
from autointerp.llm.reply import CallFailure, ChatReply
from autointerp.llm.request import ChatRequest
from autointerp.vocabulary import Vocabulary

_TOKENS_A_LABEL = 120  # room in the reply for one feature, and once again for the envelope
_TOKENS_OF_MEANINGS = 60  # and for its meanings: few features have several
_ALONE_TRIES = 2  # times a feature is asked for by itself before it is failed
COPIED = "the model gave back words of the template in place of a label"
_ALIKE = 3  # features from which on one label for all of a request is not believed
_MORE_ROOM = 8  # times the tokens, once, for a reply that was cut off before anything was in it


@dataclass(frozen=True, slots=True)
class LabelSettings:
    model: str
    temperature: float
    features_per_request: int
    shown: Shown
    meanings: int = 1  # at most so many of a feature; 1: not asked for


@dataclass(frozen=True, slots=True)
class _Spent:
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True)
class LabelJob:
    """One request for the labels of a group of features.

    `scattered`: an earlier reply lost count of them, so that they are not numbered from 1. `vain`
    are the keys of requests for the only feature of the group whose replies were of no use.
    """

    group: Sequence[FeatureEvidence]
    prompt: Prompt
    vocabulary: Vocabulary
    settings: LabelSettings
    spent: dict[int, _Spent]
    attempt: int = 0
    tries: int = 1
    room: int = 1
    scattered: bool = False
    vain: tuple[str, ...] = ()

    def messages(self) -> list[dict[str, str]]:
        shown = shown_variables(self.group, self.vocabulary, self.settings.shown, self._numbers())
        return self.prompt.messages(**shown, most_meanings=self.settings.meanings)

    def _numbers(self) -> list[int]:
        return numbers(len(self.group), self.scattered)

    def _windows(self, evidence: FeatureEvidence) -> int:
        return len(shown_windows(evidence, self.settings.shown))

    def _asks_for_meanings(self) -> bool:
        """A template of the user's own may not explain them."""
        return self.settings.meanings > 1 and "most_meanings" in self.prompt.variables

    def request(self) -> ChatRequest:
        several = self._asks_for_meanings()
        a_feature = _TOKENS_A_LABEL + several * _TOKENS_OF_MEANINGS
        meanings = self.settings.meanings if several else 1
        windows = max(map(self._windows, self.group)) if several else 1
        return ChatRequest(
            model=self.settings.model,
            messages=tuple(self.messages()),
            max_tokens=self.room * a_feature * (len(self.group) + 1),
            temperature=self.settings.temperature,
            schema=reply_schema(self._numbers(), meanings, windows),
            attempt=self.attempt,
            about=tuple(f"label:{evidence.feature}" for evidence in self.group),
        )

    def reduce(self, outcome: ChatReply | CallFailure) -> Step[Draft]:
        """Good labels are kept, the rest asked again in smaller groups, down to one."""
        job = replace(self, spent=self._book(outcome))
        if isinstance(outcome, CallFailure):
            if outcome.kind in ("too_long", "content_filter", "bad_request"):
                status = "refused" if outcome.kind == "content_filter" else "failed"
                return self._without(list(self.group), job, status, outcome.message)
            status = "over_budget" if outcome.kind == "over_budget" else "failed"
            drafts = [job._draft(e, status, outcome.message) for e in self.group]
            return Step(results=drafts, spoiled=self._spoiled())
        if outcome.refused:
            return self._without(list(self.group), job, "refused", "the model refused to answer")
        try:
            found = read_labels(outcome.text, len(self.group), self.scattered)
        except Miscounted:
            found, job = {}, replace(job, scattered=True)
        copied = self._copied(found)
        found = {place: item for place, item in found.items() if place not in copied}
        drafts = [
            job._labeled(evidence, found[number])
            for number, evidence in enumerate(self.group, 1)
            if number in found
        ]
        cut_off = outcome.finish_reason == "length"
        if not drafts and len(self.group) == 1:
            job = replace(job, vain=(*self.vain, outcome.key))
        if cut_off and not drafts and self.room == 1:
            # Thoughts, most likely, which some models write before they answer.
            return Step(follow_ups=[replace(job, room=_MORE_ROOM)], unread=True)
        missing = [e for number, e in enumerate(self.group, 1) if number not in found]
        why = "no valid label in the reply"
        if copied:
            why = COPIED
        elif cut_off:
            why = "the reply was cut off before this label"
        rest = self._without(missing, job, "failed", why)
        return Step(
            results=[*drafts, *rest.results],
            follow_ups=rest.follow_ups,
            unread=not drafts,
            spoiled=rest.spoiled,
        )

    def _copied(self, found: Mapping[int, LabelItem]) -> set[int]:
        """The places whose label is the template's, or the same for all of several features."""
        words = template_words(self.prompt.source)
        labels = {place: item.label.casefold() for place, item in found.items()}
        every = len(labels) == len(self.group) >= _ALIKE
        if every and len(set(labels.values())) == 1:
            return set(labels)
        return {place for place, label in labels.items() if label in words}

    def _spoiled(self) -> list[tuple[str, ...]]:
        return [self.vain] if self.vain else []

    def _without(
        self, missing: list[FeatureEvidence], job: "LabelJob", status: str, why: str
    ) -> Step[Draft]:
        """Ask again for `missing` in smaller groups; one that was alone gets its last tries."""
        if not missing:
            return Step()
        if len(self.group) > 1:
            size = -(-len(missing) // 2)
            groups = [missing[i : i + size] for i in range(0, len(missing), size)]
            return Step(follow_ups=[replace(job, group=g, attempt=0, tries=1) for g in groups])
        if status == "failed" and self.tries < _ALONE_TRIES:
            again = replace(job, attempt=self.attempt + 1, tries=self.tries + 1)
            return Step(follow_ups=[again])
        return Step(results=[job._draft(missing[0], status, why)], spoiled=job._spoiled())

    def _book(self, reply: ChatReply | CallFailure) -> dict[int, _Spent]:
        """Each feature's share of what has been spent, this reply's tokens split evenly."""
        shares = len(self.group)
        spent = {}
        for i, evidence in enumerate(self.group):
            before = self.spent.get(evidence.feature, _Spent())
            spent[evidence.feature] = _Spent(
                before.prompt_tokens + _share(reply.usage.prompt_tokens, i, shares),
                before.completion_tokens + _share(reply.usage.completion_tokens, i, shares),
                before.cost_usd + reply.cost_usd / shares,
            )
        return spent

    def _draft(self, evidence: FeatureEvidence, status: str, error: str | None = None) -> Draft:
        spent = self.spent.get(evidence.feature, _Spent())
        return Draft(
            feature=evidence.feature,
            status=status,  # type: ignore[arg-type]
            labeler=self.settings.model,
            prompt_hash=self.prompt.hash,
            prompt_tokens=spent.prompt_tokens,
            completion_tokens=spent.completion_tokens,
            cost_usd=spent.cost_usd,
            error=error,
        )

    def _labeled(self, evidence: FeatureEvidence, item: LabelItem) -> Draft:
        meanings = self._meanings(evidence, item)
        return replace(
            self._draft(evidence, "labeled"),
            # What is judged has to cover all meanings, and is made of those that were checked.
            label=joint_label(meanings) if meanings else item.label,
            reason=item.reason,
            confidence=item.confidence,
            polysemantic=None if meanings is None else bool(meanings),
            meanings=meanings,
        )

    def _meanings(self, evidence: FeatureEvidence, item: LabelItem) -> list[str] | None:
        """The feature's meanings if there are several; None where nothing is known of them."""
        if item.meanings is None or not self._asks_for_meanings():
            return None
        words = template_words(self.prompt.source)
        if any(m.label.casefold() in words for m in item.meanings):
            return None
        shown = self._windows(evidence)
        try:
            offset = offset_of((n for m in item.meanings for n in m.windows), shown)
        except Miscounted:
            return None
        claims = [(m.label, [n + offset for n in m.windows]) for m in item.meanings]
        return distinct_meanings(claims, shown, self.settings.meanings)


def _share(total: int, i: int, shares: int) -> int:
    """The i-th of whole-number shares that add up to the total."""
    return total * (i + 1) // shares - total * i // shares


def label_jobs(
    evidence: Iterator[FeatureEvidence],
    prompt: Prompt,
    vocabulary: Vocabulary,
    settings: LabelSettings,
) -> Iterator[LabelJob]:
    """Groups of features in the order they come; pulled only as the pool has room."""
    group: list[FeatureEvidence] = []
    for feature in evidence:
        group.append(feature)
        if len(group) == settings.features_per_request:
            yield LabelJob(tuple(group), prompt, vocabulary, settings, {})
            group = []
    if group:
        yield LabelJob(tuple(group), prompt, vocabulary, settings, {})
