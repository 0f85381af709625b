"""The columns of the tables a run writes."""

from collections.abc import Iterable

import pyarrow as pa

from autointerp.scoring import SCORERS, fade

SCHEMA_VERSION = "2"


# Labels that were proposed, and what they got on the windows kept for choosing between them.
CANDIDATES = pa.list_(
    pa.struct([("label", pa.string()), ("balanced_accuracy", pa.float32()), ("n", pa.int32())])
)


def _estimate(name: str) -> list[tuple[str, pa.DataType]]:
    return [(f"{name}{suffix}", pa.float32()) for suffix in ("", "_ci_low", "_ci_high")]


def _scorer(name: str, metric: str) -> list[tuple[str, pa.DataType]]:
    numbers = [metric, "ci_low", "ci_high", "null", "lift", "p_value", "parse_rate"]
    columns = [(f"{name}_{number}", pa.float32()) for number in numbers]
    # Which of its ways of asking was used: each is a measurement of its own.
    mode = [(f"{name}_mode", pa.string())] if SCORERS[name].better else []
    return [*columns, (f"{name}_n", pa.int32()), *mode]


# Metrics of a scorer beside its main one.
_MORE = {fade.NAME: (fade.CLARITY, fade.RESPONSIVENESS, fade.FAITHFULNESS)}
_ALWAYS = ("detection", "simulation")  # have columns whether they were asked for or not


def labels_schema(scorers: Iterable[str] = ()) -> pa.Schema:
    """The columns of `labels.parquet` where these scorers, besides the usual ones, have scored."""
    names = dict.fromkeys([*_ALWAYS, *scorers])
    return pa.schema(
        [
            ("coder", pa.string()),
            ("feature", pa.int32()),
            ("status", pa.string()),
            ("label", pa.string()),
            # How many other features of the run have the same label; null unless labeled.
            ("shares_label", pa.int32()),
            # The feature whose label this one takes, its twin; null where it has its own.
            ("label_of", pa.int32()),
            ("reason", pa.string()),
            ("confidence", pa.float32()),
            ("polysemantic", pa.bool_()),
            ("meanings", pa.list_(pa.string())),
            ("candidates", CANDIDATES),
            ("labeler", pa.string()),
            ("prompt_hash", pa.string()),
            ("density", pa.float32()),
            ("max_activation", pa.float32()),
            ("n_active", pa.int64()),
            ("top_tokens", pa.list_(pa.string())),
            *(column for n in names for column in _scorer(n, SCORERS[n].metric)),
            ("near_miss_balanced_accuracy", pa.float32()),
            *_estimate("population_f1"),
            *_estimate("population_precision"),
            *_estimate("population_recall"),
            *_estimate("population_mcc"),
            *(column for n in names for m in _MORE.get(n, ()) for column in _estimate(m)),
            ("flags", pa.list_(pa.string())),
            ("prompt_tokens", pa.int64()),
            ("completion_tokens", pa.int64()),
            ("cost_usd", pa.float64()),
            ("error", pa.string()),
        ],
        metadata={"schema_version": SCHEMA_VERSION},
    )


SCORES = pa.schema(
    [
        ("coder", pa.string()),
        ("feature", pa.int32()),
        ("scorer", pa.string()),
        ("metric", pa.string()),
        ("mode", pa.string()),
        ("value", pa.float32()),
        ("ci_low", pa.float32()),
        ("ci_high", pa.float32()),
        ("null_value", pa.float32()),
        ("p_value", pa.float32()),
        ("lift", pa.float32()),
        ("n", pa.int32()),
        ("parse_rate", pa.float32()),
        ("judge", pa.string()),
        ("prompt_hash", pa.string()),
    ],
    metadata={"schema_version": SCHEMA_VERSION},
)

# Answers to questions fill truth and prediction, simulation token_truth and token_prediction, in
# which a token that could not be read is null. Of embedding the prediction is the cosine, of
# surprisal the difference of mean log-probabilities, in nats a token; neither is a probability,
# which stays null.
PREDICTIONS = pa.schema(
    [
        ("coder", pa.string()),
        ("feature", pa.int32()),
        ("scorer", pa.string()),
        ("window", pa.struct([("kind", pa.string()), ("rank", pa.int32())])),
        ("stratum", pa.string()),
        ("quantile", pa.float32()),  # of the window's peak among the feature's firings
        ("marks", pa.list_(pa.int16())),  # places of the tokens that were shown marked
        ("label_of", pa.int32()),
        ("mode", pa.string()),
        ("truth", pa.float32()),
        ("prediction", pa.float32()),
        ("token_truth", pa.list_(pa.float32())),
        ("token_prediction", pa.list_(pa.float32())),
        ("probability", pa.float32()),
        ("parsed", pa.bool_()),
    ],
    metadata={"schema_version": SCHEMA_VERSION},
)
