"""A second run of the same settings: how far scores move when nothing is changed."""

from autointerp.config.settings import preferred
from autointerp.errors import InputError
from autointerp.plain_text import line_for_person
from autointerp.runs.directory import Run
from autointerp.tables.compare import settings_apart, warnings_about
from autointerp.tables.read import load_labels

# What may differ: the seed, and settings on which no result depends.
_MAY_DIFFER = (
    *("seed", "cache", "device", "processes", "memory_gb", "api_key_env", "batch"),
    *("concurrency", "min_concurrency", "max_concurrency", "requests_per_minute"),
    *("tokens_per_minute", "max_attempts", "timeout", "transport", "budget", "prices"),
    *("input_price", "cached_input_price", "output_price", "tokenizer"),
)


def check_repeat(first: Run, repeat: Run) -> str:
    """What sets the two runs of the same settings apart, in words.

    Raises AutointerpError where it is more than the seed, or they cannot be compared.
    """
    if first.path.resolve() == repeat.path.resolve():
        raise InputError(f"--repeat {repeat.path} is the run A itself: pass a second run of it")
    warnings_about(first, repeat)
    apart = settings_apart(first, repeat)
    if "features" in apart or "seed" in apart:
        ours, theirs = (set(load_labels(run.path)["feature"]) for run in (first, repeat))
        if ours == theirs:
            apart.pop("features", None)
        elif not ours & theirs:
            raise InputError(
                f"--repeat {repeat.path} has none of the features of {first.path}: random:N draws "
                "others with another seed; pass A's with --features @FILE, one id a line"
            )
    more = [preferred(name) for name in apart if name not in _MAY_DIFFER]
    if more:
        raise InputError(
            f"--repeat {repeat.path} is not a repeat of {first.path}: {', '.join(more)} differ; "
            "run A's settings again with another --seed and --out"
        )
    seeds = apart.get("seed")
    return line_for_person(f"seed {seeds[0]} and {seeds[1]}") if seeds else "the same seed"
