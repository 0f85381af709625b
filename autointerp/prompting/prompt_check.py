"""What may be wrong with a template that renders: warnings, not errors."""

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jinja2 import meta, nodes

from autointerp.prompting.prompts import ENVIRONMENT, SUFFIX, Prompt, samples

# Without these a model cannot answer, or answers without having seen what it is asked about.
_MATTER = {
    "label",
    "features",
    "windows",
    "number",
    "text",
    "tokens",
    "open_mark",
    "close_mark",
}
# The same in all requests of a run.
_SETTINGS = {"form"}


def stray_files(folder: Path, tasks: Iterable[str]) -> list[str]:
    """Files in a folder of templates that no task reads, in words: most are misspelled."""
    known = [f"{task}{SUFFIX}" for task in tasks]
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name in known or path.name.startswith(".") or not path.is_file():
            continue
        near = difflib.get_close_matches(path.name, known, n=1)
        if near or path.suffix in (SUFFIX, ".j2", ".jinja2"):
            hint = f"did you mean {near[0]}?" if near else f"the templates are {', '.join(known)}"
            found.append(f"{path} is not the template of any task and is ignored: {hint}")
    return found


def warnings_about(prompt: Prompt, reply_keys: Iterable[str]) -> list[str]:
    """What is odd about a template that renders. A reply is read by `reply_keys`."""
    tree = ENVIRONMENT.parse(prompt.source)
    sample = next(samples(prompt.task))
    used = {node.name for node in tree.find_all(nodes.Name)}
    used |= {node.attr for node in tree.find_all(nodes.Getattr)}
    used |= {n.value for n in tree.find_all(nodes.Const) if isinstance(n.value, str)}
    matter = {name for name in _names(sample) if name in _MATTER}
    if "loop" in used:
        # Numbers run from 1, so counting the loop says the same.
        matter.discard("number")
    found = [f"it never uses {name!r}" for name in sorted(matter - used)]
    system = next(block for block in tree.find_all(nodes.Block) if block.name == "system")
    varying = meta.find_undeclared_variables(nodes.Template(system.body, environment=ENVIRONMENT))
    found += [
        f"its system block uses {name!r}, so the prompt cannot be cached"
        for name in sorted(varying - _SETTINGS)
    ]
    if any(_text(node).strip() for node in tree.body if isinstance(node, nodes.Output)):
        found.append("it has text outside its blocks, which is not sent")
    sent = "\n".join(message["content"] for message in prompt.messages(**sample))
    return found + [
        f'it does not ask for "{key}", which the reply must contain'
        for key in reply_keys
        if f'"{key}"' not in sent
    ]


def _names(value: Any) -> Iterator[str]:
    """The names of all entries of a sample, at any depth."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from _names(entry)


def _text(output: nodes.Output) -> str:
    return "".join(n.data if isinstance(n, nodes.TemplateData) else "x" for n in output.nodes)
