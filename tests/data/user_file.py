"""A user's file, for mypy to look at; it is not run. Lines that are wrong say so."""

import asyncio
from typing import reveal_type

import numpy as np

import autointerp as ai


async def labeler(messages: list[dict[str, str]]) -> str:
    return messages[0]["content"]


def judge(messages: list[dict[str, str]]) -> str:
    return messages[0]["content"]


sae = ai.SparseCoder.from_tensors(w_enc=np.eye(3), b_enc=np.zeros(3), w_dec=np.eye(3))
run = ai.run(sae=sae, text=["a", "b"], labeler=labeler, judge=judge, tokens=1000)
reveal_type(sae)
reveal_type(run)
reveal_type(ai.label(sae="demo"))
reveal_type(asyncio.run(ai.arun(sae="demo")))
reveal_type(run.labels())
reveal_type(run.feature(3).label)
reveal_type(run.cost.cost_usd)
try:
    found: ai.Run = ai.open_run("outputs/mine")
except ai.EndpointUnreachableError as error:
    reveal_type(error)
ai.run(labeler=3)  # wrong
ai.collect(features=2.5)  # wrong
run.lables()  # wrong
