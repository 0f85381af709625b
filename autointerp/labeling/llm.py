"""Labels by a language model: several features per request, missing ones retried."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from autointerp.evidence.window import FeatureEvidence
from autointerp.labeling import no_label
from autointerp.labeling.excerpts import (
    Shown,
    density_percent,
    shown_text,
    shown_tokens,
    shown_variables,
    shown_windows,
)
from autointerp.labeling.label_reply import LabelItem, read_labels, reply_schema
from autointerp.labeling.labeler import Draft
from autointerp.labeling.meanings import distinct_meanings, joint_label
from autointerp.llm.numbering import Miscounted, numbers, offset_of
from autointerp.llm.pool import Step
from autointerp.llm.wire.reply import CallFailure, ChatReply
from autointerp.llm.wire.request import ChatRequest
from autointerp.prompting.prompts import Prompt
from autointerp.vocabulary import Vocabulary

_TOKENS_A_LABEL = 120  # room in the reply for one feature, and once again for the envelope
_TOKENS_OF_MEANINGS = 60  # and for its meanings: few features have several
_ALONE_TRIES = 2  # times a feature is asked for by itself before it is failed
RECITES = "label_recites_tokens"
HALF_CHARACTERS = "label_half_characters"
_KEY_DIGITS = 12  # of a request's key, as of a template's hash
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
    `doubts`: of each feature, what was wrong with earlier replies, as kinds of `no_label`.
    `example`: whether an example that the template has is shown, which some models only copy, and
    `heading` the numbers and tokens above the excerpts, which others give back.
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
    doubts: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    example: bool = True
    heading: bool = True

    def messages(self) -> list[dict[str, str]]:
        shown = shown_variables(
            self.group,
            self.vocabulary,
            self.settings.shown,
            self._numbers(),
            heading=None if self.heading else no_label.BLANK,
        )
        messages = self.prompt.messages(**shown, most_meanings=self.settings.meanings)
        if self.example:
            return messages
        return no_label.without_example(messages, no_label.template_of(self.prompt.source))

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
        """Keep valid labels; retry the rest in smaller groups, down to one feature."""
        job = replace(self, spent=self._book(outcome))
        if isinstance(outcome, CallFailure):
            if outcome.kind in ("too_long", "content_filter", "bad_request"):
                status = "refused" if outcome.kind == "content_filter" else "failed"
                return self._without(list(self.group), job, status, outcome.message)
            status = "over_budget" if outcome.kind == "over_budget" else "failed"
            drafts = [job._draft(e, status, outcome.message) for e in self.group]
            return Step(results=drafts, unreadable=self._unreadable())
        if outcome.declined:
            return self._without(list(self.group), job, "refused", "the model declined to answer")
        every = range(1, len(self.group) + 1)
        try:
            found, doubts = self.read(outcome.text)
        except Miscounted:
            found, doubts = {}, {}
            job = replace(job, scattered=True)._doubting(dict.fromkeys(every, no_label.MISCOUNTED))
        missing = [place for place in every if place not in found and place not in doubts]
        cut_off = outcome.finish_reason == "length"
        if found and not cut_off:
            job = job._doubting(dict.fromkeys(missing, no_label.LEFT_OUT))
        job = job._doubting(doubts)
        drafts = [
            job._labeled(evidence, found[place], outcome.key)
            for place, evidence in enumerate(self.group, 1)
            if place in found and place not in doubts
        ]
        if not drafts and len(self.group) == 1:
            job = replace(job, vain=(*self.vain, outcome.key))
        if cut_off and not found and self.room == 1 and not _is_begun(outcome.text):
            # Thoughts, most likely, which some models write before they answer.
            return Step(follow_ups=[replace(job, room=_MORE_ROOM)], unread=True)
        why = (
            "the reply was cut off before this label" if cut_off else "no valid label in the reply"
        )
        rest = self._without([self.group[place - 1] for place in missing], job, "failed", why)
        doubtful = self._alone(doubts, job)
        return Step(
            results=[*drafts, *rest.results, *doubtful.results],
            follow_ups=[*rest.follow_ups, *doubtful.follow_ups],
            # Labels that are all the same could be read.
            unread=not drafts and set(doubts.values()) != {no_label.ALIKE},
            unreadable=[*rest.unreadable, *doubtful.unreadable],
        )

    def _template(self) -> no_label.Template:
        """What could come back of the template, as far as the model saw it."""
        template = no_label.template_of(self.prompt.source)
        return template if self.example else template.without_examples()

    def read(self, text: str) -> tuple[dict[int, LabelItem], dict[int, str]]:
        """Labels by position, and the kinds of those that are not labels. Raises Miscounted."""
        found = read_labels(text, len(self.group), self.scattered)
        if not found and no_label.declines(text):
            return found, dict.fromkeys(range(1, len(self.group) + 1), no_label.DECLINED)
        template = self._template()
        alike = no_label.alike({place: item.label for place, item in found.items()})
        doubts = dict.fromkeys(sorted(alike), no_label.ALIKE)
        for place, item in found.items():
            evidence = self.group[place - 1]
            kind = no_label.doubt(item.label, template, self._seen(evidence))
            if kind is None and no_label.gives_heading(item.label, density_percent(evidence)):
                kind = no_label.HEADING
            # Nothing better came: it is kept, and flagged.
            if kind is not None and not (kind == no_label.HALF and self._is_last_try()):
                doubts[place] = kind
        return found, doubts

    def _seen(self, evidence: FeatureEvidence) -> Callable[[], str]:
        return partial(shown_text, evidence, self.settings.shown)

    def _doubting(self, doubts: Mapping[int, str]) -> "LabelJob":
        """The job that knows what else was wrong with replies, by place."""
        known = dict(self.doubts)
        for place, kind in doubts.items():
            feature = self.group[place - 1].feature
            known[feature] = (*known.get(feature, ()), kind)
        return replace(self, doubts=known)

    def _is_last_try(self) -> bool:
        return len(self.group) == 1 and self.tries >= _ALONE_TRIES

    def _alone(self, doubts: Mapping[int, str], job: "LabelJob") -> Step[Draft]:
        """Ask about each of them alone; where something was given back, without that.

        Nor for meanings: who copies a label copies them and their numbers as well.
        """
        results, again = [], []
        has_more = bool(self._template().texts) or self._asks_for_meanings()
        for place, kind in sorted(doubts.items()):
            evidence = self.group[place - 1]
            example = self.example and not (has_more and kind in no_label.FROM_EXAMPLE)
            heading = self.heading and kind != no_label.HEADING
            if len(self.group) > 1 or (example, heading) != (self.example, self.heading):
                meanings = self.settings.meanings if example else 1
                settings = replace(self.settings, meanings=meanings)
                fresh = replace(job, group=(evidence,), settings=settings, attempt=0, tries=1)
                again.append(replace(fresh, example=example, heading=heading))
            elif self._is_last_try():
                why = f"not a label, but text {no_label.KINDS[kind]}"
                results.append(job._draft(evidence, "failed", why))
            else:
                again.append(replace(job, attempt=self.attempt + 1, tries=self.tries + 1))
        return Step(results, again, unreadable=job._unreadable() if results else ())

    def _unreadable(self) -> list[tuple[str, ...]]:
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
        return Step(results=[job._draft(missing[0], status, why)], unreadable=job._unreadable())

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
            asked_again=list(self.doubts.get(evidence.feature, ())) or None,
        )

    def _labeled(self, evidence: FeatureEvidence, item: LabelItem, key: str) -> Draft:
        meanings = self._meanings(evidence, item)
        copied = no_label.same(item.reason) in self._template().texts
        return replace(
            self._draft(evidence, "labeled"),
            # What is judged has to cover all meanings, and is made of those that were checked.
            label=joint_label(meanings) if meanings else item.label,
            reason="" if copied else item.reason,
            request=key[:_KEY_DIGITS] or None,
            flags=self._flags(evidence, item.label) or None,
            confidence=item.confidence,
            polysemantic=None if meanings is None else bool(meanings),
            meanings=meanings,
        )

    def _flags(self, evidence: FeatureEvidence, label: str) -> list[str]:
        """What is doubtful of a label that is one."""
        tokens = partial(shown_tokens, evidence, self.vocabulary, self.settings.shown)
        flags = [RECITES] if no_label.recites(label, tokens, self._template()) else []
        return flags + [HALF_CHARACTERS] * (no_label.HALF_CHARACTER in label)

    def _meanings(self, evidence: FeatureEvidence, item: LabelItem) -> list[str] | None:
        """The feature's meanings if there are several; None where nothing is known of them."""
        if item.meanings is None or not self._asks_for_meanings():
            return None
        template, seen = self._template(), self._seen(evidence)
        if any(no_label.doubt(m.label, template, seen) for m in item.meanings):
            return None
        shown = self._windows(evidence)
        try:
            offset = offset_of((n for m in item.meanings for n in m.windows), shown)
        except Miscounted:
            return None
        claims = [(m.label, [n + offset for n in m.windows]) for m in item.meanings]
        return distinct_meanings(claims, shown, self.settings.meanings)


def _is_begun(reply: str) -> bool:
    """Whether what was cut off is the answer: with more room it would only run on."""
    return reply.lstrip().startswith("{")


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
