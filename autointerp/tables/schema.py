"""The columns of the tables a run writes, and what each holds."""

from collections.abc import Iterable

import pyarrow as pa

from autointerp.scoring import SCORERS
from autointerp.scoring.scorer import FurtherColumn
from autointerp.storage.columns import column, schema_of
from autointerp.tables.expected_f1 import EXPECTED

# Labels that were proposed, and what they got on the windows kept for choosing between them.
CANDIDATES = pa.list_(
    pa.struct([("label", pa.string()), ("balanced_accuracy", pa.float32()), ("n", pa.int32())])
)
_SAE = column("sae", pa.string(), "the SAE's name")
_FEATURE = column("feature", pa.int32(), "the feature's index in the SAE")


def _estimate(name: str, about: str) -> list[pa.Field]:
    return [
        column(name, pa.float32(), about),
        column(f"{name}_ci_low", pa.float32(), f"{name}: lower end of its 95 % interval"),
        column(f"{name}_ci_high", pa.float32(), f"{name}: upper end of its 95 % interval"),
    ]


def _scorer(name: str) -> list[pa.Field]:
    scorer = SCORERS[name]
    main = f"{name}_{scorer.metric}"
    numbers = {
        scorer.metric: scorer.about,
        "ci_low": f"{main}: lower end of its 95 % interval",
        "ci_high": f"{main}: upper end of its 95 % interval",
        "null": f"{main} of another feature's label on the same windows; null where none was tried"
        if scorer.chance is None
        else f"{main} of a judge that knows nothing about the feature",
        "lift": f"how far {main} lies between the median {name}_null at like density (0) and 1 (1)",
        "p_value": f"the share of other features' labels that do as well as {main} at like density",
        "q_value": f"the false discovery rate at which {main} beats other features' labels "
        "(Benjamini-Hochberg over the run)",
        "parse_rate": f"the share of {name}'s judgments that were readable",
    }
    columns = [column(f"{name}_{n}", pa.float32(), about) for n, about in numbers.items()]
    columns.append(column(f"{name}_n", pa.int32(), f"the number of judgments behind {main}"))
    if scorer.preferred_modes:
        about = f"the mode in which {name} was asked; scores of different modes are not comparable"
        columns.append(column(f"{name}_mode", pa.string(), about))
    return columns


def _further(more: FurtherColumn) -> list[pa.Field]:
    if more.interval:
        return _estimate(more.metric, more.about)
    return [column(more.metric, pa.float32(), more.about)]


def score_columns(scorers: Iterable[str] = ()) -> list[pa.Field]:
    """The columns of `labels.parquet` that say what a label's scores are."""
    usual = (name for name, scorer in SCORERS.items() if scorer.usual)
    names = list(dict.fromkeys([*usual, *scorers]))
    return [
        *(one for name in names for one in _scorer(name)),
        *(one for name in names for more in SCORERS[name].columns for one in _further(more)),
        *_estimate(
            EXPECTED,
            "the population_f1 to expect, learned from the scored features of the run; of a scored "
            "one, as if it were not; null where too few were scored",
        ),
        column(
            "flags",
            pa.list_(pa.string()),
            "remarks on the label and its scores: label_recites_tokens if it only "
            "lists tokens that were shown, label_half_characters if it has a �, "
            "SCORER_parse_rate if under 90 % of the judgments were readable, "
            "SCORER_uniform if the judge gave one answer to all excerpts of a request",
        ),
    ]


def labels_schema(scorers: Iterable[str] = ()) -> pa.Schema:
    """The columns of `labels.parquet` where these scorers, besides the usual ones, have scored."""
    return schema_of(
        [
            _SAE,
            _FEATURE,
            column(
                "status",
                pa.string(),
                "labeled, dead, too_few, refused, failed, over_budget or pending",
            ),
            column("label", pa.string(), "what it responds to; null unless labeled"),
            column(
                "shares_label",
                pa.int32(),
                "how many other features of the run have the same label; null unless labeled",
            ),
            column(
                "label_of",
                pa.int32(),
                "its twin, the feature whose label it takes; null where it has its own",
            ),
            column("reason", pa.string(), "the labeler's reason"),
            column(
                "confidence",
                pa.float32(),
                "0 to 1, as the labeler states it; of a rule the F1 of tokens to expect on "
                "other documents",
            ),
            column(
                "polysemantic",
                pa.bool_(),
                "whether it has several meanings; null where that is unknown",
            ),
            column(
                "meanings",
                pa.list_(pa.string()),
                "its meanings where it has several, the most common first",
            ),
            column(
                "candidates",
                CANDIDATES,
                "the labels it was chosen from, with their results; null where there was only one",
            ),
            column("labeler", pa.string(), "the model's name, lexical for a rule, or a person's"),
            column("prompt_hash", pa.string(), "hash of the template used for the label"),
            column(
                "request",
                pa.string(),
                "short hash of the request whose reply has the label; labels of one request came "
                "together; null for rules, imported labels and older tables",
            ),
            column(
                "density",
                pa.float32(),
                "per token: the share of the corpus's tokens on which it fires",
            ),
            column(
                "window_density",
                pa.float32(),
                "per window of window_length tokens: the share of the corpus's windows with at "
                "least one token on which it fires; what population_f1 is of",
            ),
            column("max_activation", pa.float32(), "its largest activation in the corpus"),
            column("n_active", pa.int64(), "tokens of the corpus on which it fires"),
            column("top_tokens", pa.list_(pa.string()), "the tokens on which it fires most often"),
            *score_columns(scorers),
            column("prompt_tokens", pa.int64(), "tokens sent for its label and its scores"),
            column("completion_tokens", pa.int64(), "tokens received for its label and its scores"),
            column(
                "cost_usd",
                pa.float64(),
                "what its label and its scores cost, in dollars; null where the price is unknown",
            ),
            column("error", pa.string(), "why there is no label, or no score"),
        ]
    )


# What `load_labels` adds where it is asked to.
RUN = column("run", pa.string(), "the run that the row belongs to")
EDITED = [
    column("edited", pa.bool_(), "whether the label was replaced by an edit"),
    column("original_label", pa.string(), "the run's own label, where an edit replaced it"),
    column(
        "votes",
        pa.int32(),
        "authors' last votes on this label, summed; null where there is none",
    ),
    column("notes", pa.list_(pa.string()), "what people wrote about it, oldest first"),
]

SCORES = schema_of(
    [
        _SAE,
        _FEATURE,
        column("scorer", pa.string(), "how the label was judged"),
        column("metric", pa.string(), "what was computed from the judgments"),
        column(
            "mode", pa.string(), "the mode in which the judge was asked, where there are several"
        ),
        column("value", pa.float32(), "the label's score; null where it cannot be computed"),
        column("ci_low", pa.float32(), "lower end of the 95 % interval of value"),
        column("ci_high", pa.float32(), "upper end of the 95 % interval of value"),
        column("null_value", pa.float32(), "the score of another feature's label, or chance level"),
        column(
            "p_value",
            pa.float32(),
            "the share of other features' labels that do as well at like density",
        ),
        column(
            "q_value",
            pa.float32(),
            "the false discovery rate at which the label beats those (Benjamini-Hochberg over "
            "the run)",
        ),
        column("lift", pa.float32(), "how far value lies between their median (0) and 1 (1)"),
        column("n", pa.int32(), "the number of judgments behind value"),
        column("parse_rate", pa.float32(), "the share of judgments that were readable"),
        column(
            "uniform",
            pa.bool_(),
            "whether the judge gave one answer to all excerpts of a request, in every form tried",
        ),
        column("judge", pa.string(), "the model that judged, or lexical"),
        column("prompt_hash", pa.string(), "hash of the template used for judging"),
    ]
)

# Answers to questions fill truth and prediction, simulation token_truth and token_prediction, in
# which a token that could not be read is null. Of embedding the prediction is the cosine, of
# surprisal the difference of mean log-probabilities, in nats a token; neither is a probability,
# which stays null.
PREDICTIONS = schema_of(
    [
        _SAE,
        _FEATURE,
        column("scorer", pa.string(), "how the label was judged"),
        column(
            "window",
            pa.struct([("kind", pa.string()), ("rank", pa.int32())]),
            "the scoring window that was judged, by its kind and rank",
        ),
        column("stratum", pa.string(), "whether it fires there, or the kind of inactive window"),
        column(
            "quantile",
            pa.float32(),
            "the share of the feature's firings that are weaker than its peak; null "
            "where it is inactive",
        ),
        column("marks", pa.list_(pa.int16()), "positions of the tokens that were shown marked"),
        column("label_of", pa.int32(), "whose label was judged: another feature's for the null"),
        column(
            "mode", pa.string(), "the mode in which the judge was asked, where there are several"
        ),
        column("truth", pa.float32(), "what a perfect judge would say"),
        column("prediction", pa.float32(), "what the judge said; null where it was not readable"),
        column("token_truth", pa.list_(pa.float32()), "the activation on each token"),
        column("token_prediction", pa.list_(pa.float32()), "the activation predicted on each"),
        column("probability", pa.float32(), "probability of a match, from judges that give one"),
        column("parsed", pa.bool_(), "whether the judgment was readable"),
    ]
)
