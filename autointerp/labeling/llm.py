"""Labels by a language model: several features a request, what is missing asked again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from autointerp.evidence.window import FeatureEvidence
from autointerp.labeling.labeler import Draft
from autointerp.labeling.meanings import distinct_meanings, joint_label
from autointerp.labeling.prompts import Prompt
from autointerp.labeling.shown import Shown, shown_variables, shown_windows
from autointerp.llm.pool import Step
from autointerp.llm.reply import CallFailure, ChatReply
from autointerp.llm.request import ChatRequest, list_of, objects
from autointerp.llm.structured import items
from autointerp.plain_text import tidy
from autointerp.vocabulary import Vocabulary

_TOKENS_A_LABEL = 120  # room in the reply for one feature, and once again for the envelope
_TOKENS_OF_MEANINGS = 60  # and for its meanings: few features have several
_LONGEST_LABEL = 300
_LONGEST_MEANING = 100
_LONGEST_REASON = 1000
_ALONE_TRIES = 2  # times a feature is asked for by itself before it is failed
_MORE_ROOM = 8  # times the tokens, once, for a reply that was cut off before anything was in it


_NUMBER, _TEXT = {"type": "integer"}, {"type": "string"}
# Models write the fields in this order: the reason before the label that it is for, how sure the
# label is after it, and which excerpts belong together before what is said of them.
_MEANING = {"windows": {"type": "array", "items": _NUMBER}, "label": _TEXT}
_MEANINGS = {"meanings": objects(_MEANING, required=("label", "windows"))}
_LABEL = {"reason": _TEXT, "label": _TEXT, "confidence": {"type": "number"}}
_REQUIRED = ("label", "reason", "confidence")
REPLY = list_of("labels", {"n": _NUMBER} | _LABEL, required=("n", *_REQUIRED))
REPLY_WITH_MEANINGS = list_of(
    "labels", {"n": _NUMBER} | _MEANINGS | _LABEL, required=("n", "meanings", *_REQUIRED)
)


def _clean(value: object) -> object:
    return tidy(value) if isinstance(value, str) else value


class Meaning(BaseModel):
    """One of several meanings of a feature, and the numbers of the windows it is said to cover."""

    model_config = ConfigDict(extra="ignore")

    label: str = Field(min_length=1, max_length=_LONGEST_MEANING)
    windows: list[int]

    _clean = field_validator("label", mode="before")(_clean)


class LabelItem(BaseModel):
    """One entry of the reply's `labels`."""

    model_config = ConfigDict(extra="ignore")

    n: int
    label: str = Field(min_length=1, max_length=_LONGEST_LABEL)
    reason: str = ""
    confidence: float | None = Field(None, ge=0, le=1)
    meanings: list[Meaning] | None = None

    _clean = field_validator("label", "reason", mode="before")(_clean)

    @field_validator("reason", mode="before")
    @classmethod
    def _given(cls, value: object) -> object:
        """A label is as good without a reason, left out or null."""
        return "" if value is None else value

    @field_validator("confidence", mode="wrap")
    @classmethod
    def _stated(cls, value: object, read: ValidatorFunctionWrapHandler) -> float | None:
        """A confidence that cannot be read is not known; the label is good without it."""
        try:
            stated: float | None = read(value)
            return stated
        except ValidationError:
            return None

    @field_validator("meanings", mode="wrap")
    @classmethod
    def _readable(cls, value: object, read: ValidatorFunctionWrapHandler) -> list[Meaning] | None:
        """Meanings that cannot be read are not known; the label is good without them."""
        try:
            meanings: list[Meaning] | None = read(value)
            return meanings
        except ValidationError:
            return None

    @field_validator("reason")
    @classmethod
    def _bounded(cls, value: str) -> str:
        return value[:_LONGEST_REASON]


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
    """One request for the labels of a group of features."""

    group: Sequence[FeatureEvidence]
    prompt: Prompt
    vocabulary: Vocabulary
    settings: LabelSettings
    spent: dict[int, _Spent]
    attempt: int = 0
    tries: int = 1
    room: int = 1

    def messages(self) -> list[dict[str, str]]:
        shown = shown_variables(self.group, self.vocabulary, self.settings.shown)
        return self.prompt.messages(**shown, most_meanings=self.settings.meanings)

    def _asks_for_meanings(self) -> bool:
        """A template of the user's own may not explain them."""
        return self.settings.meanings > 1 and "most_meanings" in self.prompt.variables

    def request(self) -> ChatRequest:
        several = self._asks_for_meanings()
        a_feature = _TOKENS_A_LABEL + several * _TOKENS_OF_MEANINGS
        return ChatRequest(
            model=self.settings.model,
            messages=tuple(self.messages()),
            max_tokens=self.room * a_feature * (len(self.group) + 1),
            temperature=self.settings.temperature,
            schema=REPLY_WITH_MEANINGS if several else REPLY,
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
            return Step(results=[job._draft(e, status, outcome.message) for e in self.group])
        if outcome.refused:
            return self._without(list(self.group), job, "refused", "the model refused to answer")
        found = read_labels(outcome.text, len(self.group))
        drafts = [
            job._labeled(evidence, found[number])
            for number, evidence in enumerate(self.group, 1)
            if number in found
        ]
        cut_off = outcome.finish_reason == "length"
        if cut_off and not drafts and self.room == 1:
            # Thoughts, most likely, which some models write before they answer.
            return Step(follow_ups=[replace(job, room=_MORE_ROOM)])
        missing = [e for number, e in enumerate(self.group, 1) if number not in found]
        why = (
            "the reply was cut off before this label" if cut_off else "no valid label in the reply"
        )
        rest = self._without(missing, job, "failed", why)
        return Step(results=[*drafts, *rest.results], follow_ups=rest.follow_ups)

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
        return Step(results=[job._draft(missing[0], status, why)])

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
        shown = len(shown_windows(evidence, self.settings.shown))
        claims = [(m.label, m.windows) for m in item.meanings]
        return distinct_meanings(claims, shown, self.settings.meanings)


def _share(total: int, i: int, shares: int) -> int:
    """The i-th of whole-number shares that add up to the total."""
    return total * (i + 1) // shares - total * i // shares


def read_labels(text: str, features: int) -> dict[int, LabelItem]:
    """The valid labels of a reply by feature number; contradicting duplicates count as missing."""
    found: dict[int, LabelItem] = {}
    contradicted: set[int] = set()
    for raw in items(text, "labels"):
        try:
            item = LabelItem.model_validate(raw)
        except ValidationError:
            continue
        if not 1 <= item.n <= features:
            continue
        if item.n in found and found[item.n].label != item.label:
            contradicted.add(item.n)
        found.setdefault(item.n, item)
    return {n: item for n, item in found.items() if n not in contradicted}


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
