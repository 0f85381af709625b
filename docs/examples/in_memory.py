"""Everything in memory: a model of transformers, an SAE made of tensors, strings, and Python
functions in the places of a labeling model and a judge."""

import asyncio
import json
import re
import sysconfig
from pathlib import Path

from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import autointerp as ai

DEMO = Path(ai.__file__).parent / "demo"
model = AutoModelForCausalLM.from_pretrained(DEMO / "subject")
tokenizer = AutoTokenizer.from_pretrained(DEMO / "subject")

weights = load_file(DEMO / "coder" / "sae_weights.safetensors")
settings = json.loads((DEMO / "coder" / "cfg.json").read_text())
sae = ai.SparseCoder.from_tensors(
    w_enc=weights["W_enc"],
    b_enc=weights["b_enc"],
    w_dec=weights["W_dec"],
    b_dec=weights["b_dec"],
    activation=settings["architecture"],
    k=settings["k"],
    apply_b_dec_to_input=settings["apply_b_dec_to_input"],
    name="my-sae",
)

library = Path(sysconfig.get_path("stdlib"))
texts = [path.read_text(encoding="utf-8") for path in sorted(library.glob("a*.py"))]


async def label_by_top_token(messages: list[dict[str, str]]) -> str:
    """Stands in for a call to a language model: takes its messages, returns its text."""
    features = re.findall(r"^Feature (\d+) .*most often on '(.*?)'", messages[-1]["content"], re.M)
    return json.dumps(
        {
            "labels": [
                {"n": int(number), "label": f"the token {token!r}", "reason": "", "confidence": 0.5}
                for number, token in features
            ]
        }
    )


def judge_by_token(messages: list[dict[str, str]]) -> str:
    """Says of each numbered excerpt whether the label's token stands in it."""
    asked = messages[-1]["content"]
    described = re.search(r"^Description: the token '(.*)'$", asked, re.M)
    token = described[1] if described else ""
    excerpts = re.findall(r"^(\d+)\. (.*)$", asked, re.M)
    match = [int(number) for number, text in excerpts if token in text]
    others = [int(number) for number, text in excerpts if token not in text]
    return json.dumps({"match": match, "no_match": others})


async def main() -> None:
    run = await ai.arun(
        subject=model,
        tokenizer=tokenizer,
        sae=sae,
        hook=settings["metadata"]["hook_name"],
        text=texts,
        tokens=20_000,
        features=range(0, 600, 20),
        labeler=label_by_top_token,
        judge=judge_by_token,
        scorers="detection",
        out="outputs/in-memory",
    )
    columns = ["feature", "label", "detection_balanced_accuracy", "detection_null"]
    print(run.labels()[columns].dropna().head(10).to_string(index=False))


asyncio.run(main())
