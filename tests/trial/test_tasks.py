"""What a trial's requests took, including replies that were cut off."""

import json

from autointerp.llm.wire.reply import ChatReply, Usage
from autointerp.prompting.prompts import BUNDLED
from autointerp.scoring import forms
from autointerp.scoring.judge import JudgeSettings
from autointerp.scoring.scorers import detection
from autointerp.trial import plan
from autointerp.trial.course import load_prompts


def test_a_reply_that_was_cut_off_is_counted_with_the_one_that_was_not():
    prompts = load_prompts(BUNDLED)
    way = forms.ways(detection.SCORER, forms.BOOLEANS, prompts[detection.NAME])
    first = next(iter(plan.first_tries(JudgeSettings("m", 0.0, 10), forms.BOOLEANS, way, 10)))
    cut = ChatReply("", "length", False, Usage(100, 50), cost_usd=0.25)
    (longer,) = first.reduce(cut).follow_ups
    assert longer.request().max_tokens > first.request().max_tokens
    text = json.dumps({str(n): True for n in range(1, 11)})
    (tried,) = longer.reduce(ChatReply(text, "stop", False, Usage(100, 9), cost_usd=0.5)).results
    assert (tried.usage.prompt_tokens, tried.usage.completion_tokens) == (200, 59)
    assert tried.cost_usd == 0.75
