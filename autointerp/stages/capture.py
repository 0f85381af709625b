"""capture: the subject model over text → activation cache."""

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


def _inputs(job: Job, settings: CaptureSettings) -> str:
    chosen = vars(settings) | {"batch_contexts": None}
    path = str(job.config.cache_path().resolve())
    return fingerprint(settings=chosen, text=source_identity(settings.text), path=path)


def check(job: Job) -> None:
    """Raise UserError for what can be known to fail before the run begins."""
    settings = settings_of(job)
    path = job.config.cache_path()
    if settings is not None:
        inputs = _inputs(job, settings)
        if job.config.cache is not None and path.exists() and not _is_done(job, inputs):
            raise UserError(
                f"{path} exists and was not captured by this run with these settings: drop "
                "--subject and --text to read it as it is, or name another --cache"
            )
        return
    cache = ActivationCache(path)
    check_width(job, cache)


def check_width(job: Job, cache: ActivationCache) -> None:
    if cache.manifest.d_in != job.coder.d_in:
        raise UserError(
            f"coder {job.coder_path} takes activations of width {job.coder.d_in}, the cache "
            f"{cache.path} holds width {cache.manifest.d_in}: another layer or another model?"
        )


def _is_done(job: Job, inputs: str) -> bool:
    manifest = job.config.cache_path() / "manifest.json"
    return job.run.stage(NAME).get("inputs") == inputs and manifest.is_file()


def run(job: Job) -> None:
    """Make the cache, unless it is there from the same inputs or was given."""
    settings = settings_of(job)
    path = job.config.cache_path()
    if settings is None:
        say(f"capture: uses the cache {path}")
        return
    inputs = _inputs(job, settings)
    if _is_done(job, inputs):
        say(f"capture: done already, {path}")
        return
    with job.recorded(NAME, inputs) as details:
        manifest = capture(settings, path, job.device())
        details["tokens"] = manifest.tokens
        details["contexts"] = manifest.contexts
