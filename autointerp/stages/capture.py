"""capture: the subject model over text → activation cache."""

from pathlib import Path

from autointerp import demo
from autointerp.activations.cache import ActivationCache
from autointerp.activations.capture import CaptureSettings, capture
from autointerp.activations.documents import source_identity
from autointerp.config import DEMO
from autointerp.errors import UserError
from autointerp.job import Job
from autointerp.progress import say
from autointerp.runs import fingerprint

NAME = "capture"


def settings_of(job: Job) -> CaptureSettings | None:
    """What to capture, or None where the configuration names nothing: then a cache must exist."""
    config = job.config
    subject, text = config.subject, config.text
    if config.coder == DEMO and config.cache is None:
        subject, text = subject or DEMO, text or DEMO
    if subject is None and text is None:
        return None
    if subject is None or text is None:
        missing = "subject" if subject is None else "text"
        raise UserError(f"capture needs --{missing} (or name a finished cache with --cache)")
    hook = config.hook or job.coder.hook
    if hook is None:
        raise UserError("capture needs --hook: the coder's file does not name one")
    return CaptureSettings(
        subject=str(demo.SUBJECT) if subject == DEMO else subject,
        hook=hook,
        text=text,
        tokens=config.tokens,
        context_length=config.context_length,
        batch_contexts=config.batch_contexts,
        d_in=job.coder.d_in,
    )


def _inputs(settings: CaptureSettings) -> str:
    chosen = vars(settings) | {"batch_contexts": None}
    subject = Path(settings.subject)
    return fingerprint(
        settings=chosen,
        subject=source_identity(settings.subject) if subject.is_dir() else None,
        text=source_identity(settings.text),
    )


def _is_done(path: Path, inputs: str) -> bool:
    """Whether a whole cache made from the same inputs is there, by whichever run."""
    try:
        return ActivationCache(path).manifest.made_from == inputs
    except UserError:
        return False


def check(job: Job) -> None:
    """Raise UserError for what can be known to fail before the run begins."""
    settings = settings_of(job)
    path = job.config.cache_path()
    if settings is None:
        check_width(job, ActivationCache(path))
    elif job.config.cache is not None and path.exists() and not _is_done(path, _inputs(settings)):
        raise UserError(
            f"{path} exists and is no cache made from these settings: drop --subject and --text "
            "to read it as it is, or name another --cache"
        )


def check_width(job: Job, cache: ActivationCache) -> None:
    if cache.manifest.d_in != job.coder.d_in:
        raise UserError(
            f"coder {job.coder_path} takes activations of width {job.coder.d_in}, the cache "
            f"{cache.path} holds width {cache.manifest.d_in}: another layer or another model?"
        )


def run(job: Job) -> None:
    """Make the cache, unless it is there from the same inputs or was given."""
    settings = settings_of(job)
    path = job.config.cache_path()
    if settings is None:
        say(f"capture: uses the cache {path}")
        return
    inputs = _inputs(settings)
    if _is_done(path, inputs):
        say(f"capture: done already, {path}")
        return
    with job.recorded(NAME, inputs) as details:
        manifest = capture(settings, path, job.device(), inputs)
        details["tokens"] = manifest.tokens
        details["contexts"] = manifest.contexts
