"""Prompt templates: one Jinja2 file a task, the user's copy before the package's."""

import hashlib
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from jinja2 import Template, TemplateError, TemplateSyntaxError, meta, nodes

from autointerp.errors import InputError
from autointerp.plain_text import one_line
from autointerp.prompting.bounded import BoundedEnvironment, bounded, joined, limited
from autointerp.registry import Entry, Registry
from autointerp.runs.directory import Run
from autointerp.secrets import masked
from autointerp.storage.files import atomic_path

SUFFIX = ".jinja"
_BLOCKS = ("system", "user")
_BEGUN = "assistant"  # a block that need not be there: how the model's own turn begins
_PACKAGE = Path(__file__).resolve().parent.parent
# In a wheel the templates lie inside the package, in a checkout beside it.
BUNDLED = next(
    (p for p in (_PACKAGE / "prompts", _PACKAGE.parent / "prompts") if p.is_dir()),
    _PACKAGE / "prompts",
)


def _label_sample(optional: list[str]) -> dict[str, Any]:
    return {
        "features": [
            {
                "number": 1,
                "density_percent": "1.0",
                "top_tokens": ["'a'"],
                "raised_tokens": optional,
                "lowered_tokens": optional,
                "windows": [{"number": 1, "text": "a", "peak": "'a'", "strength": 10}],
                "near_misses": optional,
                "negatives": optional,
            }
        ],
        "open_mark": "<<",
        "close_mark": ">>",
        "numbers": bool(optional),
        "most_meanings": 1 + len(optional),
    }


LABEL = "label"
_LABEL_SAMPLES = (_label_sample(["a"]), _label_sample([]))
_MANY = 12  # entries of each list in the larger sample, so that loops and conditions are reached
# A template is data of the user, or of whoever wrote it: it sees its variables and nothing else.
ENVIRONMENT = BoundedEnvironment()


@dataclass(frozen=True)
class Prompt:
    """A template with a `system` and a `user` block, the hash of its source, and what it uses."""

    task: str
    path: Path
    hash: str
    template: Template
    variables: frozenset[str]
    source: str

    def messages(self, **variables: Any) -> list[dict[str, str]]:
        """The chat messages for these variables. Raises AutointerpError where the template fails.

        A label comes from a model or a file, so whatever is a text by itself is put on one line.
        """
        shown = {k: one_line(v) if isinstance(v, str) else v for k, v in variables.items()}
        context = self.template.new_context(shown)
        try:
            with bounded():
                texts = {
                    name: joined(self.template.blocks[name](context))
                    for name in (*_BLOCKS, _BEGUN)
                    if name in self.template.blocks
                }
        except Exception as error:
            # A template can do anything wrong that code can.
            words = error.message if isinstance(error, TemplateError) else str(error)
            where = _line(error, self.template)
            raise InputError(
                f"template {self.path}{where}: {one_line(words or type(error).__name__)}"
            ) from None
        return [{"role": name, "content": text.strip()} for name, text in texts.items()]


class ScorerWithTemplates(Entry, Protocol):
    """What is known here of a scorer: on what its templates are tried, and where they are."""

    @property
    def samples(self) -> Mapping[str, Sequence[Mapping[str, Any]]]: ...
    @property
    def template_folder(self) -> Path | None: ...


_SCORERS: Registry[ScorerWithTemplates] = Registry("autointerp.scorers")


def _scorer_of(task: str) -> ScorerWithTemplates | None:
    """The scorer that the template is of; None for a labeler's."""
    return next((s for s in _SCORERS.values() if task in s.samples), None)


def bundled_path(task: str) -> Path:
    """The file that comes with this package, or with the package that the scorer is of."""
    scorer = _scorer_of(task)
    folder = scorer.template_folder if scorer is not None else None
    return (folder or BUNDLED) / f"{task}{SUFFIX}"


def template_path(task: str, folder: Path) -> Path:
    """The user's file for the task, else the package's."""
    mine = folder / f"{task}{SUFFIX}"
    return mine if mine.is_file() else bundled_path(task)


def load_prompt(task: str, folder: Path) -> Prompt:
    """The task's template from `folder`, else the one that comes with the package.

    It is tried on small and larger samples at once, so that a broken template fails before
    anything is spent. Raises InputError with the file, the line where known, and what is wrong.
    """
    return read_prompt(task, template_path(task, folder))


def read_prompt(task: str, path: Path) -> Prompt:
    """As `load_prompt` does, from this very file."""
    if not path.is_file():
        raise InputError(f"template {path} is missing: reinstall autointerp or pass --prompts")
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"template {path} cannot be read: {error}") from None
    return _tried(task, path, source)


@lru_cache(maxsize=64)  # stages, judges and estimates each load the same few
def _tried(task: str, path: Path, source: str) -> Prompt:
    """The template of this text, tried on samples. Raises AutointerpError."""
    try:
        tree = ENVIRONMENT.parse(source)
        with bounded():  # constants are worked out here
            template = ENVIRONMENT.from_string(limited(ENVIRONMENT.parse(source)))
    except TemplateSyntaxError as error:
        raise InputError(f"template {path}, line {error.lineno}: {error.message}") from None
    except Exception as error:
        # Jinja works out constants as it compiles: 1 / 0 fails here.
        raise InputError(f"template {path}: {error}") from None
    for name in ("Include", "Extends", "Import", "FromImport"):
        found = tree.find(getattr(nodes, name))
        if found is not None:
            raise InputError(
                f"template {path}, line {found.lineno}: a template cannot include another file"
            )
    missing = [block for block in _BLOCKS if block not in template.blocks]
    if missing:
        raise InputError(f"template {path} has no block {missing[0]!r}")
    digest = hashlib.sha256(source.encode()).hexdigest()
    variables = frozenset(meta.find_undeclared_variables(tree))
    prompt = Prompt(task, path, digest, template, variables, source)
    for sample in samples(task):
        prompt.messages(**sample)
    # A branch that no sample reaches may hold a typing error all the same.
    unknown = sorted(variables - {name for sample in _samples_of(task) for name in sample})
    if unknown:
        raise InputError(f"template {path}: {unknown[0]!r} is undefined")
    return prompt


def samples(task: str) -> Iterator[dict[str, Any]]:
    """Variables to try a template of the task on: one entry in each list, and many."""
    for sample in _samples_of(task):
        yield dict(sample)
        yield _grown(sample)


def _samples_of(task: str) -> Sequence[Mapping[str, Any]]:
    scorer = _scorer_of(task)
    if scorer is not None:
        return scorer.samples[task]
    if task != LABEL:
        raise InputError(f"template {task}: its scorer has no samples to try it on")
    return _LABEL_SAMPLES


def _grown(value: Any) -> Any:
    """The sample with `_MANY` entries in each list, numbered, strengths over their range."""
    if isinstance(value, Mapping):
        return {key: _grown(entry) for key, entry in value.items()}
    if not isinstance(value, list) or not value:
        return value
    entries = [_grown(value[i % len(value)]) for i in range(_MANY)]
    for i, entry in enumerate(entries):
        if isinstance(entry, dict):
            entry.update((k, n) for k, n in (("number", i + 1), ("strength", i % 11)) if k in entry)
    return entries


def keep(run: Run, prompts: Iterable[Prompt]) -> None:
    """Keep the full texts with the run, beside those it has; `run.json` says which are in use."""
    hashes = {}
    for prompt in prompts:
        hashes[prompt.task] = prompt.hash
        path = run.prompts / file_name(prompt.task, prompt.hash)
        path.parent.mkdir(exist_ok=True)
        if not path.is_file():
            with atomic_path(path) as temporary:
                temporary.write_text(masked(prompt.source), encoding="utf-8", newline="")
    if hashes:
        run.update(prompts=run.record().prompts | hashes)


def kept(run: Run) -> dict[str, str]:
    """Task → the full text of the template that the run used last. Raises AutointerpError."""
    texts = {}
    for task, digest in run.record().prompts.items():
        path = run.prompts / file_name(task, digest)
        try:
            texts[task] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"template {path} cannot be read: {error}") from None
    return texts


def file_name(task: str, digest: str) -> str:
    """The name under which a run keeps a template: one for each text that it ever had."""
    return f"{task}-{digest[:12]}{SUFFIX}"


def _line(error: Exception, template: Template) -> str:
    """The template's line in which the error came up, where it can be told."""
    for frame, number in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_globals.get("__jinja_template__") is template:
            return f", line {template.get_corresponding_lineno(number)}"
    return ""
