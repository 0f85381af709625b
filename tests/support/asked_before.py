"""Requests as versions up to 1.0 asked them; tests/data/journal-before.sqlite holds their replies.

The journal was written by that version's own code, the requests of `EARLIER` in dialects that have
lost parameters since.
"""

from autointerp.labeling.label_reply import reply_schema
from autointerp.llm.wire.dialect import Dialect
from autointerp.llm.wire.request import ChatRequest
from autointerp.scoring.scorers import detection, intruder, simulation
from autointerp.scoring.scorers.concept_texts import schema as texts_schema

ENDPOINT = "https://example.com/v1"
DIALECT = Dialect(
    optional={"chat_template_kwargs": {"enable_thinking": False}},
    extra={"top_p": 0.9, "provider": {"sort": "price", "only": ["b", "a"]}},
)
LOST = ("json_schema", "temperature")


def _request(words, **more):
    messages = ({"role": "system", "content": "Label."}, {"role": "user", "content": words})
    return ChatRequest("m", messages, 100, **({"temperature": 0.0} | more))


NOW = [
    _request("labels", schema=reply_schema([1, 2]), about=("feature:1",)),
    _request("meanings", schema=reply_schema([1, 2], 5, 10)),
    _request("detection", schema=detection.SCORER.task.schema((), False)),
    _request("detection, once more", schema=detection.SCORER.task.schema((), False), attempt=1),
    _request("intruder", schema=intruder.SCORER.task.schema((), False)),
    _request("simulation", schema=simulation.SCORER.task.schema((), False)),
    _request("texts", schema=texts_schema(5), temperature=1.0),
    _request("what stands in its place", logprobs="top_logprobs"),
    _request("cut \ud83d, ünïcode", temperature=None),
]
EARLIER = [_request("under another dialect", schema=reply_schema([1]))]
FAILED = _request("a failure that was taken for an answer", schema=reply_schema([1]))
