"""Labels by a language model: several features a request, what is missing asked again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from autointerp.evidence.text import free_marks, marked, peak_text, quoted
from autointerp.evidence.window import FeatureEvidence, Window, spread
from autointerp.labeling.labeler import Draft
from autointerp.labeling.prompts import Prompt
from autointerp.llm.pool import Step
from autointerp.llm.reply import CallFailure, ChatReply
from autointerp.llm.request import ChatRequest, ReplySchema
from autointerp.llm.structured import items
from autointerp.vocabulary import Vocabulary

_TOKENS_A_LABEL = 120  # room in the reply for one feature, and once again for the envelope
_TOP_TOKENS = 5
_LONGEST_LABEL = 300
_LONGEST_REASON = 1000
_ALONE_TRIES = 2  # times a feature is asked for by itself before it is failed
_MORE_ROOM = 8  # times the tokens, once, for a reply that was cut off before anything was in it

REPLY = ReplySchema(
    "labels",
    {
        "type": "object",
        "properties": {
            "labels": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "n": {"type": "integer"},
                        "label": {"type": "string"},
                        "reason": {"type": "string"},
                        "confidence": {"type": "number"},
                    },
                    "required": ["n", "label", "reason", "confidence"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["labels"],
        "additionalProperties": False,
    },
)


class LabelItem(BaseModel):
    """One entry of the reply's `labels`."""

    model_config = ConfigDict(extra="ignore")

    n: int
    label: str = Field(min_length=1, max_length=_LONGEST_LABEL)
    reason: str = ""
    confidence: float = Field(ge=0, le=1)

    @field_validator("label", "reason", mode="before")
    @classmethod
    def _clean(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        printable = "".join(c if c.isprintable() else " " for c in value)
        return " ".join(printable.split())

    @field_validator("reason")
    @classmethod
    def _bounded(cls, value: str) -> str:
        return value[:_LONGEST_REASON]


@dataclass(frozen=True, slots=True)
class LabelSettings:
    model: str
    temperature: float
    features_per_request: int
    windows_per_feature: int


@dataclass(frozen=True, slots=True)
class _Spent:
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0


def shown_windows(evidence: FeatureEvidence, n: int) -> list[Window]:
    """The windows a labeler is shown: half of the largest, half across the range.

    Labels from top windows alone come out too narrow (Paulo et al. 2024, section 4).
    """
    top = evidence.of("label", "top")
    sample = evidence.of("label", "sample")
    chosen = top[: max(1, n // 2)]
    contexts = {w.context for w in chosen}
    chosen = chosen + spread([w for w in sample if w.context not in contexts], n - len(chosen))
    contexts = {w.context for w in chosen}
    rest = [w for w in top if w.context not in contexts]
    return chosen + rest[: n - len(chosen)]


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
        shown = [shown_windows(e, self.settings.windows_per_feature) for e in self.group]
        marks = free_marks(w.text for windows in shown for w in windows)
        features = [
            {
                "number": number,
                "density_percent": f"{100 * evidence.density:.2g}",
                "top_tokens": [quoted(t.token) for t in evidence.top_tokens[:_TOP_TOKENS]],
                "windows": [
                    {
                        "number": i,
                        "text": marked(window, self.vocabulary, marks),
                        "peak": peak_text(window, self.vocabulary),
                        "strength": round(
                            10 * float(window.activations.max()) / evidence.max_activation
                        ),
                    }
                    for i, window in enumerate(windows, 1)
                ],
            }
            for number, (evidence, windows) in enumerate(zip(self.group, shown, strict=True), 1)
        ]
        return self.prompt.messages(features=features, open_mark=marks[0], close_mark=marks[1])

    def request(self) -> ChatRequest:
        return ChatRequest(
            model=self.settings.model,
            messages=tuple(self.messages()),
            max_tokens=self.room * _TOKENS_A_LABEL * (len(self.group) + 1),
            temperature=self.settings.temperature,
            schema=REPLY,
            attempt=self.attempt,
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
        return replace(
            self._draft(evidence, "labeled"),
            label=item.label,
            reason=item.reason,
            confidence=item.confidence,
        )


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
