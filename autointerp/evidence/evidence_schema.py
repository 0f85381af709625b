"""The columns of a run's evidence: `windows.parquet` and `features.parquet`."""

import pyarrow as pa

from autointerp.storage.columns import column, schema_of

WINDOWS_SCHEMA = schema_of(
    [
        column("sae", pa.string(), "the SAE's name"),
        column("feature", pa.int32(), "the feature's index in the SAE"),
        column(
            "kind",
            pa.string(),
            "how it was selected: top (by activation), sample (uniformly among "
            "firings), negative (anywhere, inactive) or near_miss (a similar feature "
            "fires, this one does not)",
        ),
        column(
            "split",
            pa.string(),
            "what it is for: label (shown to the labeler), validate (choosing between candidates) "
            "or score",
        ),
        column("rank", pa.int32(), "its rank among the windows of its kind and split, from 0"),
        column("context", pa.int64(), "the number of its context in the corpus"),
        column("start", pa.int32(), "the position of its first token in the context"),
        column("peak", pa.int16(), "the position of its largest activation in the window"),
        column("token_ids", pa.list_(pa.int32()), "its tokens"),
        column(
            "activations",
            pa.list_(pa.float32()),
            "the feature's activation on each token, 0 where it is inactive",
        ),
        column("text", pa.string(), "its text, as it is in the corpus"),
        column(
            "quantile",
            pa.float32(),
            "the share of the feature's firings that are weaker than its peak, "
            "estimated from a sample; null where it is inactive",
        ),
        column(
            "document",
            pa.int32(),
            "the number of the document in the corpus that its peak, or its first token, is of; "
            "null where documents are unknown",
        ),
    ]
)

_TOKEN_LOGIT = pa.struct([("token", pa.string()), ("logit", pa.float32())])
_TOP_TOKEN = pa.struct(
    [("token", pa.string()), ("count", pa.int64()), ("mean_activation", pa.float32())]
)
_COSINE = pa.struct([("feature", pa.int32()), ("cosine", pa.float32())])
_JACCARD = pa.struct([("feature", pa.int32()), ("jaccard", pa.float32())])

FEATURES_SCHEMA = schema_of(
    [
        column("sae", pa.string(), "the SAE's name"),
        column("feature", pa.int32(), "the feature's index in the SAE"),
        column("n_active", pa.int64(), "tokens of the corpus on which it fires"),
        column("density", pa.float32(), "per token: the share of tokens on which it fires"),
        column(
            "window_density",
            pa.float32(),
            "per window of window_length tokens: the share of windows in which it fires",
        ),
        column("mean_activation", pa.float32(), "the mean activation where it fires"),
        column("max_activation", pa.float32(), "the largest activation"),
        column(
            "histogram",
            pa.list_(pa.int64()),
            "firings by strength; the edges are in the file's metadata, histogram_edges",
        ),
        column(
            "top_tokens",
            pa.list_(_TOP_TOKEN),
            "the tokens on which it fires most often, among a uniform sample of its firings",
        ),
        column(
            "similar",
            pa.list_(_COSINE),
            "features with similar decoder directions; null without a decoder",
        ),
        column(
            "raised_tokens",
            pa.list_(_TOKEN_LOGIT),
            "tokens whose logits its direction raises most; null without the subject model",
        ),
        column(
            "lowered_tokens",
            pa.list_(_TOKEN_LOGIT),
            "tokens whose logits its direction lowers most; null without the subject model",
        ),
        column(
            "coactive",
            pa.list_(_JACCARD),
            "features that fire on the same tokens, among those collected; estimated "
            "from sketches where both fire often",
        ),
    ]
)
