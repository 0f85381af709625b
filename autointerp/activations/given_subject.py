"""A subject model, or its tokenizer alone, that is in memory already."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from autointerp.activations.subject import Subject, SubjectTokenizer, tokenizer_sha256
from autointerp.errors import InputError
from autointerp.held import name_held
from autointerp.tensors.digest import digest_of

# Of a model's configuration, where it came from and what wrote it: nothing that it computes with.
_NO_MATTER = ("_name_or_path", "transformers_version", "_commit_hash")


def given_subject(model: Any, tokenizer: Any) -> Subject:
    """The model as it is, on its device and in its precision. Raises InputError."""
    config: Any = getattr(model, "config", None)
    if not hasattr(model, "get_input_embeddings") or not hasattr(config, "to_dict"):
        raise InputError(
            f"subject is a {type(model).__name__}: give a model of transformers, or a path or name"
        )
    if tokenizer is None:
        raise InputError("a subject in memory needs its tokenizer: give tokenizer")
    settings = {k: v for k, v in config.to_dict().items() if k not in _NO_MATTER}
    digest = digest_of(
        model.state_dict(),
        kind=type(model).__name__,
        config=settings,
        tokenizer=_tokenizer_settings(tokenizer),
    )
    label = str(getattr(config, "_name_or_path", "")).rstrip("/").rpartition("/")[2] or "subject"
    return Subject(name_held(label, digest), model, tokenizer)


def given_tokenizer(tokenizer: Any) -> SubjectTokenizer:
    """What the token ids of activations mean. Raises InputError."""
    _check(tokenizer)
    digest = digest_of({}, tokenizer=_tokenizer_settings(tokenizer))
    return SubjectTokenizer(name_held("tokenizer", digest), tokenizer)


def _tokenizer_settings(tokenizer: Any) -> dict[str, Any]:
    _check(tokenizer)
    known = tokenizer_sha256(tokenizer) or sorted(tokenizer.get_vocab().items())
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "chat_template")
    return {"content": known} | {name: getattr(tokenizer, name, None) for name in names}


def _check(tokenizer: Any) -> None:
    if not hasattr(tokenizer, "get_vocab"):
        raise InputError(
            f"tokenizer is a {type(tokenizer).__name__}: give a tokenizer of transformers"
        )


@contextmanager
def not_training(model: Any) -> Iterator[None]:
    """The model as it is when it is used, without dropout, as long as the block runs."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
