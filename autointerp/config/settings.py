"""RunConfig: every setting of a run."""

import json
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from autointerp.activations.masks import MASKS, Mask
from autointerp.held import is_held, label_held

DEMO = "demo"
SPARSE = "sparse"
TOKEN_ID_FILES = (".npy", ".safetensors")
RANDOM_CODER, RANDOM_LABEL = "random-coder", "random-label"
LOCAL_MODEL = "Qwen/Qwen3-4B-Instruct-2507"
SCORER_NAMES = (
    *("detection", "simulation", "fuzzing", "intruder", "discrimination", "fade"),
    *("embedding", "surprisal"),
)
OUTPUT_TOKENS = 10  # kept of every feature, raised ones and lowered ones
_MOST_CONCURRENT = 256
# Parameters of a request on which reading its reply, or its worst cost, depends.
_OURS = ("model", "messages", "stream", "n", "best_of")


def _setting(default: Any, section: str, help: str, **limits: Any) -> Any:
    return Field(
        default=default, description=help, json_schema_extra={"section": section}, **limits
    )


class RunConfig(BaseModel):
    """One run's settings. Keys are flat and the same in TOML, environment and flags."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )

    out: str | None = _setting(
        None,
        "run",
        "The run's directory (default: outputs/<coder>, outputs/demo for the demo; of a control "
        "outputs/<coder>-random-coder).",
        min_length=1,
    )
    features: str = _setting(
        "all", "run", "Which features: all, 0-99,512, @ids.txt or random:500 (seeded)."
    )
    seed: int = _setting(0, "run", "Seed of samples, splits and nulls.", ge=0)
    device: str = _setting("auto", "run", "auto, cpu, cuda or cuda:N.")
    processes: int = _setting(
        1,
        "run",
        "Processes that share the collecting, each with a part of the contexts and memory of its "
        "own, on several GPUs in turn; the result is the same.",
        ge=1,
    )
    control: Literal["none", "random-coder", "random-label"] = _setting(
        "none",
        "run",
        "What scores are held against. random-coder: a run of its own in which random directions, "
        "as dense as the coder's features, take their place; random-label: every feature is also "
        "judged by another's label.",
    )
    auto: bool = _setting(
        False,
        "run",
        "Use the settings that suit the model, as a trial of some 30 requests finds them, for "
        "those of features_per_request, judge_form, judge_items, response_format and "
        "simulation_mode that are not given. `autointerp doctor` shows what was found.",
    )

    coder: str | None = _setting(
        None,
        "activations",
        "The SAE or transcoder: a path, hf:owner/repository/file, saelens:release/id, or demo "
        "(which it is when nothing else is named).",
        min_length=1,
    )
    coder_format: str | None = _setting(
        None,
        "activations",
        "The coder's file format (default: found by its files).",
        min_length=1,
    )
    k: int | None = _setting(None, "activations", "k of a TopK coder, where it has another.", ge=1)
    subject: str | None = _setting(
        None,
        "activations",
        "The subject model: a folder, a .gguf file, a Hugging Face id, or demo. Without --text, "
        "the tokenizer of a cache that has none.",
        min_length=1,
    )
    hook: str | None = _setting(
        None,
        "activations",
        "Where to capture: residual:N, resid_mid:N, mlp_in:N, mlp_out:N, attn_out:N, hook_z:N, a "
        "TransformerLens name or a module path; several with commas for capture (default: what "
        "the coder's file names).",
        min_length=1,
    )
    text: str | None = _setting(
        None,
        "activations",
        "Text to run: a file of text, JSON, CSV, Parquet or Arrow rows, compressed or not, a "
        "folder of them, hf:owner/dataset[/configuration][:split], or demo.",
        min_length=1,
    )
    text_field: str | None = _setting(
        None,
        "activations",
        "Where rows have it (default: text, messages or conversations).",
        min_length=1,
    )
    skip_bad_rows: bool = _setting(
        False,
        "activations",
        "Go on however many rows hold no text that can be read; without it over 1 % stop the run.",
    )
    tokens: int = _setting(400_000, "activations", "Tokens to run.", ge=1)
    token_ids: str | None = _setting(
        None,
        "activations",
        "The .npy or .safetensors file of token ids of a cache that has none of its own.",
        min_length=1,
    )
    context_length: int = _setting(128, "activations", "Tokens in a context.", ge=2)
    packing: Literal["concatenated", "documents"] = _setting(
        "concatenated", "activations", "documents: one a context, cut or padded."
    )
    bos: Literal["auto", "none", "context", "document"] = _setting(
        "auto",
        "activations",
        "Beginning-of-text token before every context or document; auto: before contexts where "
        "the tokenizer adds it by itself.",
    )
    turns: Literal["all", "assistant", "user", "system"] = _setting(
        "all", "activations", "Whose words of conversations count; the others are context."
    )
    batch_contexts: int = _setting(
        64, "activations", "Contexts in a batch of capture and collect.", ge=1
    )
    cache: str | None = _setting(
        None,
        "activations",
        "An activation cache to read, or to keep activations in: without it `run` keeps none "
        "(`capture` alone: <run>/cache).",
        min_length=1,
    )
    store: Literal["bfloat16", "float32", "sparse"] = _setting(
        "bfloat16",
        "activations",
        "What a cache holds: activations rounded to bfloat16 or float32, or the coder's active "
        "features alone. Without a cache activations are rounded alike.",
    )

    window_length: int = _setting(32, "evidence", "Tokens in a window.", ge=2)
    window_before: int = _setting(
        23, "evidence", "Tokens of a window before its peak, where the context has them.", ge=0
    )
    masks: str = _setting(
        ",".join(MASKS),
        "evidence",
        "Comma-separated: tokens that never count, though windows show them; none: all but padding "
        "do. Norm outliers are over 10 times the median: attention sinks.",
    )
    repeats: Literal["near", "exact", "none"] = _setting(
        "near",
        "evidence",
        "Of a feature's windows with one text only the best is kept: near, if they share half of "
        "their runs of 4 tokens; exact; or none to keep all.",
    )
    memory_gb: float | None = _setting(
        None,
        "evidence",
        "Memory for evidence; more takes several passes (default: four fifths of what is free).",
        gt=0,
    )
    top_windows: int = _setting(
        20, "evidence", "Windows of largest activation kept for labeling.", ge=1
    )
    sample_windows: int = _setting(
        20, "evidence", "Windows kept for labeling from a uniform sample of firings.", ge=0
    )
    negative_windows: int = _setting(20, "evidence", "Silent windows kept for labeling.", ge=0)
    near_miss_windows: int = _setting(
        10,
        "evidence",
        "Windows kept for labeling in which a feature of similar decoder direction fires and this "
        "one is silent.",
        ge=0,
    )
    score_windows: int = _setting(
        25, "evidence", "Activating windows of a kind kept for scoring.", ge=2
    )
    corpus_windows: int = _setting(
        10_000,
        "evidence",
        "Windows of the corpus drawn at random, for all features together: where they are silent "
        "there, labels are put to the test.",
        ge=100,
    )
    min_windows: int = _setting(
        5,
        "evidence",
        "Features with fewer activating windows to label, or to score, are too_few.",
        ge=1,
    )

    labeler: Literal["auto", "llm", "local", "lexical"] = _setting(
        "auto",
        "labeling",
        "llm: a model at an endpoint (--model); local: one on this machine (--local-model); "
        "lexical: rules; auto: the first of these that is named, else rules.",
    )
    prompts: str = _setting(
        "prompts", "labeling", "Folder of templates; missing ones come with the package."
    )
    features_per_request: int = _setting(10, "labeling", "Features in a labeling request.", ge=1)
    label_top: int = _setting(
        5, "labeling", "Windows of largest activation that a labeling request shows.", ge=0
    )
    label_quantiles: int = _setting(
        5,
        "labeling",
        "Beside them, windows from as many equal parts of the feature's firings by activation, "
        "one of each.",
        ge=0,
    )
    label_activations: Literal["marks", "numbers"] = _setting(
        "marks",
        "labeling",
        "How active tokens are shown: between marks, or with the strength of each run of them as "
        "well.",
    )
    label_contrast: int = _setting(
        0,
        "labeling",
        "Windows shown in which the feature is silent: near misses, where there are too few also "
        "negatives.",
        ge=0,
    )
    label_output_tokens: int = _setting(
        0,
        "labeling",
        "Tokens shown whose logits the feature raises most, and as many that it lowers, where "
        "they are known.",
        ge=0,
        le=OUTPUT_TOKENS,
    )
    label_meanings: int = _setting(
        5,
        "labeling",
        "The most meanings that a label may name, where one phrase does not cover the windows; 1 "
        "does not ask.",
        ge=1,
        le=5,
    )
    candidates: int = _setting(
        1,
        "labeling",
        "Labels proposed for each feature: from the windows usually shown, from firings of all "
        "strengths, and with 3 also from the largest alone. The best on windows kept for that is "
        "taken.",
        ge=1,
        le=3,
    )
    tier: Literal["none", "lexical-first"] = _setting(
        "none",
        "labeling",
        "lexical-first: features that a lexical rule explains on unseen windows keep it as their "
        "label, a model is asked about the others. For collect too, which keeps more windows.",
    )
    link_twins: float | None = _setting(
        None,
        "labeling",
        "Features whose decoder cosine is at least this (0.98, say), and whose largest windows are "
        "mostly from the same contexts, get one label, asked for once (default: each its own).",
        gt=0,
        le=1,
    )

    model: str | None = _setting(
        None, "model", "The model that labels and judges, as the endpoint names it."
    )
    local_model: str | None = _setting(
        None,
        "model",
        "The model on this machine (extra local): a folder, a Hugging Face id, a .gguf file, or "
        f"owner/repository/file.gguf (default with labeler or judge local: {LOCAL_MODEL}). It "
        "needs no key and no server.",
        min_length=1,
    )
    base_url: str = _setting(
        "https://api.openai.com/v1",
        "model",
        "An OpenAI-compatible endpoint, or several of one model with commas, which share the "
        "requests; the first names them all in the journal.",
    )
    api_key_env: str = _setting(
        "OPENAI_API_KEY",
        "model",
        "The environment variable that holds the key; one for each endpoint, with commas, where "
        "they differ. A server on this machine needs none.",
        min_length=1,
    )
    temperature: float = _setting(0.0, "model", "Sampling temperature.", ge=0, le=2)
    concurrency: int = _setting(
        16,
        "model",
        "Requests in flight at each endpoint at the start. It grows while replies are clean and "
        "shrinks when the endpoint refuses. A local model takes at most so many at once (default: "
        "64 on a GPU, else 8; 4 for llama.cpp).",
        ge=1,
    )
    min_concurrency: int = _setting(1, "model", "It never shrinks below this.", ge=1)
    max_concurrency: int | None = _setting(
        None,
        "model",
        f"It never grows beyond this (default: {_MOST_CONCURRENT}, or concurrency where that is "
        "more).",
        ge=1,
    )
    requests_per_minute: float | None = _setting(
        None,
        "model",
        "At most so many requests a minute (default: what the endpoint's headers say).",
        gt=0,
    )
    tokens_per_minute: float | None = _setting(
        None,
        "model",
        "At most so many tokens a minute, the bound on replies included (default: likewise).",
        gt=0,
    )
    max_attempts: int = _setting(
        6, "model", "Tries of one request before it is given up; refusals (429) do not count.", ge=1
    )
    timeout: float = _setting(
        120.0,
        "model",
        "Seconds of silence until a request is given up; one whose reply keeps coming, if only in "
        "blank lines, may take five times as long. After Ctrl-C what is in flight has so long.",
        gt=0,
    )
    transport: Literal["httpx", "aiohttp"] = _setting(
        "httpx",
        "model",
        "aiohttp is faster, for servers of your own; what it says of broken connections is less "
        "exact.",
    )
    follow_redirects: bool = _setting(
        False,
        "model",
        "Send prompts on, without the key, to another host that the endpoint redirects to.",
    )
    response_format: Literal["auto", "json_schema", "json_object", "none"] = _setting(
        "auto",
        "model",
        "How a reply's form is asked for. auto: as the endpoint is known to take it; what it "
        "refuses is given up by itself.",
    )
    thinking: Literal["off", "default"] = _setting(
        "off", "model", "off: ask models that think before they answer not to; default: as it is."
    )
    extra_body: str | None = _setting(
        None, "model", "A JSON object of parameters to put into every request."
    )
    budget: float | None = _setting(
        None,
        "model",
        "Dollars that the run may cost in all, over all its calls; what it cannot afford is "
        "over_budget. The model's price must be known.",
        gt=0,
    )
    prices: str | None = _setting(
        None, "model", "A TOML file of prices, for models that have none here.", min_length=1
    )
    input_price: float | None = _setting(
        None, "model", "Dollars per million prompt tokens (known models have a price).", ge=0
    )
    cached_input_price: float | None = _setting(
        None, "model", "Of those the endpoint had cached (default: input_price).", ge=0
    )
    output_price: float | None = _setting(
        None, "model", "Dollars per million completion tokens.", ge=0
    )
    tokenizer: str | None = _setting(
        None,
        "model",
        "The labeling model's tokenizer, to count tokens in estimates: a folder or an id (default: "
        "the model's, where it is on this machine).",
        min_length=1,
    )
    batch: bool = _setting(
        False,
        "model",
        "Send requests through the endpoint's batch API: half the price, up to a day's wait. What "
        "no batch answers is asked online.",
    )

    judge: Literal["auto", "llm", "local"] = _setting(
        "auto",
        "scoring",
        "Who judges labels where a language model must: llm (--model) or local (--local-model), "
        "which then judge rules' labels too; auto: the model that labels, and rules judge "
        "themselves.",
    )
    scorers: str = _setting(
        "detection,simulation", "scoring", f"Comma-separated: {', '.join(SCORER_NAMES)}."
    )
    detection_windows: int = _setting(
        20, "scoring", "Activating windows to judge, and half as many again silent ones.", ge=2
    )
    simulation_windows: int = _setting(
        10, "scoring", "Windows to simulate, half of them activating.", ge=2
    )
    embedding_windows: int = _setting(
        20, "scoring", "Activating windows to embed, and half as many again silent ones.", ge=2
    )
    embedding_model: str = _setting(
        "sentence-transformers/all-MiniLM-L6-v2",
        "scoring",
        "The model that embeds labels and windows (extra embed): a folder or a Hugging Face id.",
        min_length=1,
    )
    surprisal_windows: int = _setting(
        20, "scoring", "Activating windows to read, and half as many again silent ones.", ge=2
    )
    surprisal_model: str | None = _setting(
        None,
        "scoring",
        "The base language model that is surprised, or not: a folder or a Hugging Face id.",
        min_length=1,
    )

    fuzzing_windows: int = _setting(
        12,
        "scoring",
        "Activating windows shown with the right tokens marked, and as many with wrong ones of "
        "either kind.",
        ge=2,
    )
    intruder_windows: int = _setting(
        10,
        "scoring",
        "Times that a judge looks for the one window of five in which the feature is silent.",
        ge=1,
    )
    discrimination_windows: int = _setting(
        10,
        "scoring",
        "Activating windows for which to choose between the label and those of similar features.",
        ge=1,
    )
    fade_windows: int = _setting(
        20,
        "scoring",
        "For FADE: activating windows to rate, and half as many again silent ones.",
        ge=2,
    )
    fade_texts: int = _setting(
        15, "scoring", "For FADE: texts that the model writes for a label's concept.", ge=2
    )
    fade_factors: str = _setting(
        "-50,-10,-1,1,10,50",
        "scoring",
        "For FADE: by how many times its largest activation a feature is turned up while the "
        "subject model writes; without it, too.",
    )
    fade_continuations: int = _setting(
        10, "scoring", "For FADE: texts that the subject model writes at each factor.", ge=2
    )

    simulation_mode: Literal["auto", "prompt_logprobs", "top_logprobs", "json"] = _setting(
        "auto",
        "scoring",
        "How activations are predicted: expected values from the probabilities of the prompt's "
        "tokens or of the reply's, or a JSON list of integers; auto: the first of these that the "
        "endpoint allows. Scores of different modes do not compare.",
    )

    judge_items: int = _setting(50, "scoring", "Judgments asked for in one request.", ge=1)
    judge_form: Literal["lists", "booleans", "quotes", "probabilities"] = _setting(
        "lists",
        "scoring",
        "How detection and fuzzing ask for yes or no: lists of numbers; a boolean for each number; "
        "a quote from the excerpt and then the boolean; or booleans whose probabilities are read, "
        "which the endpoint must give (else booleans). Scores of different forms do not compare.",
    )
    precision: float | None = _setting(
        None,
        "scoring",
        "Stop judging a feature's windows once its interval is this far to either side; valid "
        "under peeking. judge_items is how many are asked for between looks.",
        gt=0,
        lt=1,
    )
    null_share: float = _setting(
        0.1,
        "scoring",
        "Share of features whose windows a model also judges by another feature's label, for the "
        "null; 50 features at least. Rules judge all.",
        ge=0,
        le=1,
    )

    @field_validator("tokens", mode="before")
    @classmethod
    def _is_no_file(cls, value: Any) -> Any:
        if isinstance(value, str) and Path(value).suffix in TOKEN_ID_FILES:
            raise ValueError(
                f"{value!r} is a file, not a number of tokens: write --token-ids {value} for it "
                "(token_ids in a file of settings)"
            )
        return value

    @field_validator("scorers")
    @classmethod
    def _known_scorers(cls, value: str) -> str:
        for name in _names(value):
            if name not in SCORER_NAMES:
                raise ValueError(f"{name!r} is no scorer; known: {', '.join(SCORER_NAMES)}")
        return value

    @field_validator("fade_factors")
    @classmethod
    def _are_factors(cls, value: str) -> str:
        try:
            factors = [float(name) for name in _names(value)]
        except ValueError:
            factors = []
        if not factors or not all(isfinite(factor) and factor != 0 for factor in factors):
            raise ValueError(f"{value!r}: give numbers other than 0, with commas")
        return value

    @field_validator("masks")
    @classmethod
    def _known_masks(cls, value: str) -> str:
        for name in _names(value):
            if name not in (*MASKS, "none"):
                raise ValueError(f"{name!r} is no mask; known: {', '.join(MASKS)} and none")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "RunConfig":
        if wrong := list(self._inconsistencies()):
            raise ValueError("; ".join(wrong))
        return self

    def _inconsistencies(self) -> Iterator[str]:
        """What is wrong between settings, a line each."""
        if self.window_before >= self.window_length:
            yield (
                f"window_before ({self.window_before}) must be less than "
                f"window_length ({self.window_length})"
            )
        most = max(
            self.detection_windows,
            -(-self.simulation_windows // 2),
            self.discrimination_windows,
            self.fade_windows,
            self.embedding_windows,
            self.surprisal_windows,
        )
        if most > self.score_windows:
            yield (
                f"scorers ask for {most} windows of a kind, score_windows keeps "
                f"{self.score_windows}"
            )
        for name, taken, kept in (
            ("fuzzing", 2 * self.fuzzing_windows, self.score_windows),
            ("intruder", 5 * self.intruder_windows, 2 * self.score_windows),
        ):
            if name in self.scorer_names() and taken > kept:
                yield (
                    f"{name}_windows needs {taken} activating windows for scoring, score_windows "
                    f"{self.score_windows} keeps {kept} for it"
                )
        if "surprisal" in self.scorer_names() and self.surprisal_model is None:
            yield "surprisal needs a base language model: --surprisal-model"
        if self.is_random() and self.store == SPARSE:
            yield "control random-coder needs activations, store sparse keeps none"
        if self.uses_model():
            yield from self._check_shown()
        if self.labeler == "llm" and self.model is None:
            yield "labeler llm needs a model: --model NAME"
        if self.judge == "llm" and self.model is None:
            yield "judge llm needs a model: --model NAME"
        if self.batch and "local" in (self.asked(), self.judge):
            yield "batch goes to an endpoint, and a local model is none"
        if (self.input_price is None) != (self.output_price is None):
            yield "give both input_price and output_price, or neither"
        if self.cached_input_price is not None and self.input_price is None:
            yield "cached_input_price needs input_price and output_price"
        if self.min_concurrency > self.most_concurrent():
            yield (
                f"min_concurrency ({self.min_concurrency}) is more than max_concurrency "
                f"({self.most_concurrent()})"
            )
        if len(self.key_variables()) not in (1, len(self.base_urls())):
            yield (
                f"api_key_env names {len(self.key_variables())} variables for "
                f"{len(self.base_urls())} endpoints: one for all, or one for each"
            )
        if self.batch and len(self.base_urls()) > 1:
            yield "batch goes to one endpoint: name one base_url"

    def _check_shown(self) -> Iterator[str]:
        """Where labels are to be made from more windows than are kept."""
        if self.label_top + self.label_quantiles < 1:
            yield "label_top and label_quantiles are 0: there is nothing to label from"
        if self.candidates > 1 and self.sample_windows == 0:
            yield "candidates are made from other windows, sample_windows keeps none"
        if self.candidates > 2 and 0 in (self.label_top, self.label_quantiles):
            yield (
                "candidates 3 needs label_top and label_quantiles: without either, what is usually "
                "shown is one of the two other choices of windows"
            )
        silent = self.near_miss_windows + self.negative_windows
        for asked, kept, keeps in (
            ("label_top", self.top_windows, "top_windows keeps"),
            ("label_quantiles", self.sample_windows, "sample_windows keeps"),
            ("label_contrast", silent, "near_miss_windows and negative_windows keep"),
        ):
            if getattr(self, asked) > kept:
                yield f"{asked} shows {getattr(self, asked)} windows, {keeps} {kept}"

    @field_validator("base_url")
    @classmethod
    def _are_urls(cls, value: str) -> str:
        for url in _names(value):
            # Before it is quoted in an error, and whether or not it is an address.
            if "@" in url.rpartition("://")[2].partition("/")[0] or "?" in url or "#" in url:
                raise ValueError(
                    "a key does not belong in base_url: name the variable that holds it with "
                    "api_key_env"
                )
            try:
                parts = urlsplit(url)
                # The port and the host are checked as they are read.
                host, _ = (parts.hostname or "").encode("idna"), parts.port
                is_url = parts.scheme in ("http", "https") and bool(host)
                is_url &= url.isprintable() and " " not in url
            except ValueError:
                is_url = False
            if not is_url:
                raise ValueError(f"{url!r} is not a valid http or https address")
        return value

    @field_validator("extra_body")
    @classmethod
    def _is_object(cls, value: str | None) -> str | None:
        try:
            parameters = json.loads(value or "{}")
        except ValueError:
            parameters = None
        if not isinstance(parameters, dict):
            raise ValueError(f"{value!r} is no JSON object")
        for name in _OURS:
            if name in parameters:
                raise ValueError(f"{name!r} is set by autointerp itself")
        return value

    def base_urls(self) -> list[str]:
        """The endpoints, without the slash that some end in."""
        return [url.rstrip("/") for url in _names(self.base_url)]

    def key_variables(self) -> list[str]:
        return _names(self.api_key_env)

    def most_concurrent(self) -> int:
        return self.max_concurrency or max(_MOST_CONCURRENT, self.concurrency)

    def start_concurrency(self) -> int:
        return min(max(self.concurrency, self.min_concurrency), self.most_concurrent())

    def extra_parameters(self) -> dict[str, Any]:
        parameters: dict[str, Any] = json.loads(self.extra_body or "{}")
        return parameters

    def scorer_names(self) -> list[str]:
        return _names(self.scorers)

    def steering_factors(self) -> list[float]:
        return list(dict.fromkeys(float(name) for name in _names(self.fade_factors)))

    def mask_names(self) -> tuple[Mask, ...]:
        """In the order of MASKS."""
        return tuple(name for name in MASKS if name in _names(self.masks))

    def asked(self) -> Literal["llm", "local"] | None:
        """Which language model writes the labels, None where rules are learned."""
        if self.labeler == "lexical":
            return None
        if self.labeler != "auto":
            return self.labeler
        if self.model is not None:
            return "llm"
        return "local" if self.local_model is not None else None

    def uses_model(self) -> bool:
        return self.asked() is not None

    def is_local(self) -> bool:
        return self.asked() == "local"

    def local_model_name(self) -> str:
        return self.local_model or LOCAL_MODEL

    def judging(self) -> "RunConfig":
        """The settings for scoring: the judge is the one who is asked."""
        return self if self.judge == "auto" else self.model_copy(update={"labeler": self.judge})

    def to_be_tried(self) -> "RunConfig":
        """The settings of the labeler; of the judge, or of --model, where rules are learned."""
        if self.uses_model():
            return self
        judging = self.judging()
        if judging.uses_model() or self.model is None:
            return judging
        return self.model_copy(update={"labeler": "llm"})

    def is_demo(self) -> bool:
        """The demo's coder is meant: by name, or because nothing else is named."""
        return self.coder == DEMO or (
            self.coder is None and self.cache is None and self.subject in (None, DEMO)
        )

    def names_no_source(self) -> bool:
        """Whether nothing says what is to be labeled."""
        sources = (self.coder, self.cache, self.subject, self.text, self.hook, self.token_ids)
        return all(name is None for name in sources)

    def is_random(self) -> bool:
        """A random coder takes the real one's place."""
        return self.control == RANDOM_CODER

    def share_with_null(self) -> float:
        """Share of features that a model also judges by another feature's label."""
        return 1.0 if self.control == RANDOM_LABEL else self.null_share

    def token_ids_file(self) -> Path | None:
        return Path(self.token_ids) if self.token_ids is not None else None

    def name(self) -> str:
        """What the real coder is called; without one, the cache or model."""
        if self.is_demo():
            return DEMO
        named = self.coder or self.cache or self.subject or ""
        if is_held(named):
            return label_held(named)
        for prefix in ("hf:", "saelens:"):
            if self.coder is not None and self.coder.startswith(prefix):
                return self.coder.removeprefix(prefix).strip("/").replace("/", "--")
        path = Path(named)
        return path.name if path.name not in ("", "..") else path.resolve().name

    def coder_name(self) -> str:
        """What the coder is called in tables."""
        return f"{self.name()}+random" if self.is_random() else self.name()

    def run_path(self) -> Path:
        if self.out is not None:
            return Path(self.out)
        return Path("outputs") / (self.name() + (f"-{RANDOM_CODER}" if self.is_random() else ""))

    def cache_path(self) -> Path:
        return Path(self.cache) if self.cache is not None else self.run_path() / "cache"


def _names(value: str) -> list[str]:
    """The names in a comma-separated setting, each once."""
    return list(dict.fromkeys(name.strip() for name in value.split(",")))
