"""Where a run's activations come from: a cache, or straight from the subject model."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from autointerp import demo
from autointerp.activations.activation_batch import NormSample
from autointerp.activations.cache import DenseCache, SparseCache
from autointerp.activations.contexts import TextSettings
from autointerp.activations.documents import source_identity
from autointerp.activations.formats import find_cache, open_cache
from autointerp.activations.hooks import site_of
from autointerp.activations.manifest import Manifest, damaged_file, read_manifest
from autointerp.activations.residual import CHECKED_SITES
from autointerp.activations.sites import SITES_VERSION
from autointerp.activations.stream import StreamSettings, SubjectStream
from autointerp.activations.writer import partial_path, unfinished
from autointerp.coders import SparseCoder
from autointerp.config.activation_settings import DEMO, SPARSE
from autointerp.errors import AutointerpError, ConfigurationError, NotDoneError
from autointerp.held import is_held
from autointerp.identity import fingerprint, settings_text
from autointerp.resources.session import Session
from autointerp.storage.files import files_identity, files_in

Source = DenseCache | SparseCache | SubjectStream


def stream_settings(session: Session) -> StreamSettings | None:
    """What to run the subject model on, None where the run reads a cache."""
    config = session.config
    if session.imported_as is not None:
        return None
    subject, text = config.subject, config.text
    if config.is_demo() and config.cache is None:
        subject, text = subject or DEMO, text or DEMO
    if text is None and (subject is None or config.cache is not None):
        return None  # a cache is read; the subject names its tokenizer
    if subject is None or text is None:
        missing = "subject" if subject is None else "text"
        raise ConfigurationError(f"capture needs --{missing}, or a finished cache with --cache")
    hook = config.hook or (session.coder.hook if session.coder else None)
    if hook is None:
        raise ConfigurationError(
            "capture needs --hook: no SAE was given whose files name the hook point"
        )
    hooks = tuple(dict.fromkeys(part.strip() for part in hook.split(",") if part.strip()))
    if not hooks:
        raise ConfigurationError(f"{hook!r} is not a hook point")
    if config.store == SPARSE and (session.coder is None or len(hooks) > 1):
        raise ConfigurationError(
            "--store sparse needs a single --hook, and --sae with the SAE for it"
        )
    if config.token_ids is not None:
        raise ConfigurationError(
            f"--token-ids {config.token_ids} is for a cache without token ids, and --text gives "
            "its own: drop one of the two"
        )
    return StreamSettings(
        subject=_subject(subject),
        hooks=hooks,
        text=TextSettings(
            text=text,
            length=config.context_length,
            packing=config.packing,
            bos=config.bos,
            turns=config.turns,
            field=config.text_field,
            skip_bad_rows=config.skip_bad_rows,
        ),
        tokens=config.tokens,
        batch_contexts=config.batch_contexts,
        dtype="float32" if config.store == "float32" else "bfloat16",
    )


def _subject(name: str) -> str:
    return str(demo.SUBJECT) if name == DEMO else name


def made_from(session: Session, settings: StreamSettings) -> list[str]:
    """A fingerprint for each hook of everything that a stream, or a cache of it, depends on."""
    subject = Path(settings.subject)
    files = [subject] if subject.is_file() else files_in(subject)
    same_for_all = {
        "subject": files_identity(files) if files else None,
        "text": source_identity(settings.text.text, settings.text.field),
        "coder": session.coder_identity if session.config.store == SPARSE else None,
    }
    made = []
    for hook in settings.hooks:
        own = replace(settings, hooks=(hook,), batch_contexts=0)
        site, _ = site_of(hook) or ("", 0)
        # What these were captured as was wrong in some architectures before.
        version = {"sites": SITES_VERSION} if site in CHECKED_SITES else {}
        made.append(fingerprint(settings=settings_text(own), **same_for_all, **version))
    return made


def cache_paths(session: Session, settings: StreamSettings) -> list[Path]:
    """Where the caches of a capture go: one folder a hook, where there are several."""
    path = session.config.cache_path()
    if len(settings.hooks) == 1:
        return [path]
    return [path / hook.replace(":", "-").replace("/", "-") for hook in settings.hooks]


def is_captured(path: Path, inputs: str) -> bool:
    """Whether a whole cache made from the same inputs is there, by whichever run."""
    manifest = _manifest(path)
    if manifest is None or manifest.made_from != inputs:
        return False
    return damaged_file(path, manifest) is None


def _manifest(path: Path) -> Manifest | None:
    try:
        return read_manifest(path)
    except AutointerpError:
        return None


def check(session: Session) -> None:
    """Raise AutointerpError for what can be known to fail before the run begins."""
    settings = stream_settings(session)
    if session.imported_as is not None:
        return
    if settings is None:
        path = session.config.cache_path()
        if not (path.exists() or is_held(path)) and session.config.text is None:
            raise ConfigurationError(
                f"no activation cache at {session.config.cache_path()}: pass --subject and --text "
                "to create one, or another --cache"
            )
        _check_cache(session, open_cache_of(session))
        return
    if session.config.cache is None:
        return  # what stands in the run's own folder may be made anew
    for path, inputs in zip(
        cache_paths(session, settings), made_from(session, settings), strict=True
    ):
        manifest = _manifest(path)
        if path.exists() and (manifest is None or manifest.made_from != inputs):
            raise ConfigurationError(
                f"{path} exists but was captured with different settings: drop --subject and "
                "--text to read it as it is, or pass another --cache"
            )
        if unfinished(path) not in (None, inputs):
            raise ConfigurationError(
                f"{partial_path(path)} is an unfinished capture with different settings: finish it "
                "with those, remove it, or pass another --cache"
            )


def open_cache_of(session: Session) -> DenseCache | SparseCache:
    config = session.config
    if session.imported_as is not None:
        raise NotDoneError(
            f"the evidence in {session.run.path} was imported: it has no activations to read"
        )
    subject = _subject(config.subject) if config.subject is not None else None
    return open_cache(config.cache_path(), config.token_ids_file(), subject)


def open_source(session: Session) -> Source:
    """The run's activations, ready to be read; loads the subject model where there is no cache."""
    settings = stream_settings(session)
    if settings is None:
        return _check_cache(session, open_cache_of(session))
    if len(settings.hooks) > 1:
        raise ConfigurationError(
            f"hook {', '.join(settings.hooks)}: a run reads only one; capture takes several"
        )
    path = session.config.cache_path()
    if is_captured(path, made_from(session, settings)[0]):
        found = find_cache(path)
        return _check_cache(session, found)
    if session.config.cache is not None:
        raise NotDoneError(
            f"no cache with these settings at {path}: run `autointerp capture` first"
        )
    stream = SubjectStream(settings, session.device)
    check_width(session, stream.d_in, f"{settings.subject} at {settings.hooks[0]}")
    return stream


@dataclass(frozen=True)
class Place:
    """Where a source is, so that another process can open it too."""

    stream: StreamSettings | None  # where it is no cache
    cache: Path
    tokens: Path | None
    subject: str | None
    norms: NormSample | None  # of its activations, where it has any


def place_of(session: Session, source: Source) -> Place:
    """The place of the run's source."""
    settings = stream_settings(session)
    named = settings is None  # a cache that the run made needs nothing else
    return Place(
        settings if isinstance(source, SubjectStream) else None,
        session.config.cache_path(),
        session.config.token_ids_file() if named else None,
        _subject(session.config.subject) if named and session.config.subject is not None else None,
        None if isinstance(source, SparseCache) else source.norms,
    )


def open_place(place: Place, device: torch.device) -> Source:
    """The source there, from which parts are to be read. Raises AutointerpError."""
    norms = place.norms
    if place.stream is not None:
        assert norms is not None
        return SubjectStream(place.stream, device, norms=[norms])
    cache = open_cache(place.cache, place.tokens, place.subject)
    return replace(cache, known_norms=norms) if isinstance(cache, DenseCache) else cache


def identity_of(session: Session) -> str:
    """Changes when the run's activations do; loads no model."""
    settings = stream_settings(session)
    if settings is not None:
        inputs = made_from(session, settings)[0]
        if not is_captured(session.config.cache_path(), inputs):
            return inputs
        return find_cache(session.config.cache_path()).identity
    return open_cache_of(session).identity


def check_width(session: Session, width: int, what: str) -> SparseCoder:
    """The run's coder. Raises AutointerpError where there is none, or it takes another width."""
    if session.coder is None:
        raise ConfigurationError(
            f"{what} gives activations: pass the SAE that encodes them with --sae"
        )
    if session.coder.d_in != width:
        raise ConfigurationError(
            f"SAE {session.config.coder} takes activations of width {session.coder.d_in}, but "
            f"{what} gives width {width}: is it for another layer or model?"
        )
    return session.coder


def _check_cache(session: Session, cache: DenseCache | SparseCache) -> DenseCache | SparseCache:
    if isinstance(cache, SparseCache) and session.config.is_random():
        raise ConfigurationError(
            f"the cache {cache.path} holds feature activations, but --control random-coder needs "
            "the activations that an SAE encodes"
        )
    if isinstance(cache, DenseCache):
        check_width(session, cache.d_in, f"the cache {cache.path}")
    elif session.coder is not None:
        other = cache.coder_identity is not None and cache.coder_identity != session.coder_identity
        if other or session.coder.features != cache.features:
            raise ConfigurationError(
                f"the sparse cache {cache.path} holds {cache.features:,} features of another SAE "
                f"({cache.origin.coder or 'unnamed'}), not of {session.config.coder}: drop --sae"
            )
    return cache
