"""The columns of the tables a run writes."""

import pyarrow as pa

SCHEMA_VERSION = "1"


def _estimate(name: str) -> list[tuple[str, pa.DataType]]:
    return [(f"{name}{suffix}", pa.float32()) for suffix in ("", "_ci_low", "_ci_high")]


LABELS = pa.schema(
    [
        ("coder", pa.string()),
        ("feature", pa.int32()),
        ("status", pa.string()),
        ("label", pa.string()),
        ("reason", pa.string()),
        ("confidence", pa.float32()),
        ("labeler", pa.string()),
        ("prompt_hash", pa.string()),
        ("density", pa.float32()),
        ("max_activation", pa.float32()),
        ("n_active", pa.int64()),
        ("top_tokens", pa.list_(pa.string())),
        ("detection_balanced_accuracy", pa.float32()),
        ("detection_ci_low", pa.float32()),
        ("detection_ci_high", pa.float32()),
        ("detection_null", pa.float32()),
        ("detection_n", pa.int32()),
        *_estimate("population_f1"),
        *_estimate("population_precision"),
        *_estimate("population_recall"),
        ("simulation_correlation", pa.float32()),
        ("simulation_ci_low", pa.float32()),
        ("simulation_ci_high", pa.float32()),
        ("simulation_null", pa.float32()),
        ("simulation_n", pa.int32()),
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
        ("value", pa.float32()),
        ("ci_low", pa.float32()),
        ("ci_high", pa.float32()),
        ("null_value", pa.float32()),
        ("n", pa.int32()),
        ("judge", pa.string()),
        ("prompt_hash", pa.string()),
    ],
    metadata={"schema_version": SCHEMA_VERSION},
)

# Detection fills truth and prediction, simulation token_truth and token_prediction.
PREDICTIONS = pa.schema(
    [
        ("coder", pa.string()),
        ("feature", pa.int32()),
        ("scorer", pa.string()),
        ("window", pa.struct([("kind", pa.string()), ("rank", pa.int32())])),
        ("label_of", pa.int32()),
        ("truth", pa.float32()),
        ("prediction", pa.float32()),
        ("token_truth", pa.list_(pa.float32())),
        ("token_prediction", pa.list_(pa.float32())),
        ("probability", pa.float32()),
        ("parsed", pa.bool_()),
    ],
    metadata={"schema_version": SCHEMA_VERSION},
)
