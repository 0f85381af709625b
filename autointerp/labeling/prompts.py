"""Prompt templates: one Jinja2 file a task, the user's copy before the package's."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template, TemplateError, TemplateSyntaxError
from jinja2.meta import find_undeclared_variables

from autointerp.errors import UserError

TASKS = ("label", "detection", "simulation")
_BLOCKS = ("system", "user")
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


# Where settings decide what a template is given, with all of it and with none of it.
_SAMPLES: dict[str, list[dict[str, Any]]] = {
    "label": [_label_sample(["a"]), _label_sample([])],
    "detection": [{"label": "a label", "windows": [{"number": 1, "text": "a"}]}],
    "simulation": [
        {"label": "a label", "windows": [{"number": 1, "length": 1, "tokens": '["a"]'}]}
    ],
}


@dataclass(frozen=True)
class Prompt:
    """A template with a `system` and a `user` block, the hash of its source, and what it uses."""

    task: str
    path: Path
    hash: str
    template: Template
    variables: frozenset[str]

    def messages(self, **variables: Any) -> list[dict[str, str]]:
        """The chat messages for these variables. Raises UserError where the template fails."""
        context = self.template.new_context(variables)
        try:
            texts = {name: "".join(self.template.blocks[name](context)) for name in _BLOCKS}
        except TemplateError as error:
            raise UserError(f"template {self.path}: {error.message}") from None
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise UserError(f"template {self.path}: {error}") from None
        return [{"role": name, "content": texts[name].strip()} for name in _BLOCKS]


def load_prompt(task: str, folder: Path) -> Prompt:
    """The task's template from `folder`, else the one that comes with the package.

    It is tried on small samples at once, so that a broken template fails before anything is
    spent. Raises UserError with the file, the line where known, and what is wrong.
    """
    name = f"{task}.jinja"
    path = folder / name if (folder / name).is_file() else BUNDLED / name
    if not path.is_file():
        raise UserError(f"template {path} is missing: reinstall autointerp or name --prompts")
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"template {path} cannot be read: {error}") from None
    environment = Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=False)
    try:
        template = environment.from_string(source)
        variables = frozenset(find_undeclared_variables(environment.parse(source)))
    except TemplateSyntaxError as error:
        raise UserError(f"template {path}, line {error.lineno}: {error.message}") from None
    missing = [block for block in _BLOCKS if block not in template.blocks]
    if missing:
        raise UserError(f"template {path} has no block {missing[0]!r}")
    digest = hashlib.sha256(source.encode()).hexdigest()
    prompt = Prompt(task, path, digest, template, variables)
    for sample in _SAMPLES[task]:
        prompt.messages(**sample)
    return prompt
