"""Stops a run after a streak of unreadable replies, and says what may be wrong."""

from autointerp.errors import UnreadableRepliesError
from autointerp.llm.wire.reply import ChatReply
from autointerp.llm.wire.structured import THINK, THINK_END
from autointerp.plain_text import line_for_person

MAX_UNREAD = 20  # replies in a row
# And requests among them that were never sent before, where other replies were read: a few features
# that no model can label take up many replies as well, and do so again in the next run.
_MIN_FRESH = 5
_SHOWN = 200  # characters of a reply


class UnreadStreak:
    """The replies since the last one in which something could be read."""

    def __init__(self) -> None:
        self._replies: list[ChatReply] = []
        self._fresh = 0
        self._any_read = False

    def add(self, reply: ChatReply, *, unread: bool, is_fresh: bool) -> None:
        if not unread:
            self._any_read = True
            self._replies.clear()
            self._fresh = 0
        # What was received in an earlier run says nothing of the endpoint as it is now.
        elif not reply.recalled:
            self._replies.append(reply)
            self._fresh += is_fresh and not reply.repeated

    def is_all(self) -> bool:
        """Whether there were replies, and nothing could be read in any at all."""
        return bool(self._replies) and not self._any_read

    def is_hopeless(self) -> bool:
        enough = not self._any_read or self._fresh >= _MIN_FRESH
        return enough and len(self._replies) >= MAX_UNREAD

    def chains(self) -> list[tuple[str]]:
        """The keys of their requests, as a journal forgets them."""
        return [(reply.key,) for reply in self._replies]

    def error(self) -> UnreadableRepliesError:
        first = self._replies[0]
        text = first.text.strip()
        if not text:
            shown = "empty"
        elif len(text) > _SHOWN:
            shown = f"“{text[:_SHOWN]}…”"
        else:
            shown = f"“{text}”"
        return UnreadableRepliesError(
            f"paused: none of the last {len(self._replies)} replies could be read. "
            f"The first one is {line_for_person(shown)}. {likely_cause(first)} Rerun "
            "the same command to resume; it requests these again"
        )


def likely_cause(reply: ChatReply) -> str:
    """Why nothing could be read in a reply, most likely, and what to try."""
    text = reply.text.strip()
    if reply.finish_reason == "length":
        return (
            "It was cut off before the answer began: the model may have spent its "
            "tokens on reasoning (disable it at the server, or with --extra-body)."
        )
    if text.startswith(THINK) and THINK_END not in text:
        return "Its reasoning never ends: disable it at the server, or with --extra-body."
    if not text:
        return (
            "The server may put the text in another field: check its reasoning "
            "parser and its chat template."
        )
    if "{" not in text and "[" not in text:
        return (
            "The model answers in prose: try --response-format json_schema (or "
            "json_object) or a larger model, or adapt the template in --prompts."
        )
    return (
        "It is not the JSON that the template asks for, or it repeats the template's "
        "example: try --response-format json_schema or a larger model, or adapt the "
        "template in --prompts."
    )
