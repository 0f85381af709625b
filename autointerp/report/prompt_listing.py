"""Which templates are in use, whether they are sound, and how they differ."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from autointerp.errors import AutointerpError, InputError
from autointerp.plain_text import line_for_person
from autointerp.prompting.prompt_check import stray_files, warnings_about
from autointerp.prompting.prompts import bundled_path, kept, load_prompt, template_path
from autointerp.runs.directory import Run

_HASH = 12  # digits, as in the names of the files that a run keeps


def listed(folder: Path, templates: Iterable[str]) -> Iterator[str]:
    """A line for each task: whose template it uses, its hash, its file, what it says it is."""
    widest = max(map(len, templates))
    for task in templates:
        path = template_path(task, folder)
        whose = "package" if _is_bundled(task, path) else "yours"
        try:
            prompt = load_prompt(task, folder)
            said = f"{prompt.hash[:_HASH]}  {path}  {_first_comment(prompt.source)}"
        except AutointerpError as error:
            said = f"{'broken':<{_HASH}}  {error}"
        yield line_for_person(f"{task:<{widest}}  {whose:<7}  {said}".rstrip())


def checked(folder: Path, templates: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[bool, str]]:
    """Of each task's template whether it can be used, in a line, and lines of what is odd."""
    for task, reply_keys in templates.items():
        try:
            prompt = load_prompt(task, folder)
        except AutointerpError as error:
            yield False, line_for_person(f"{task}: broken: {error}")
            continue
        yield True, line_for_person(f"{task}: good, {prompt.path}")
        for warning in warnings_about(prompt, reply_keys):
            yield True, line_for_person(f"warning: {prompt.path}: {warning}")
    for stray in stray_files(folder, templates):
        yield True, line_for_person(f"warning: {stray}")


def differences(folder: Path, templates: Iterable[str]) -> Iterator[str]:
    """Lines: how the user's templates differ from the package's."""
    mine = {t: p for t in templates if not _is_bundled(t, p := template_path(t, folder))}
    if not mine:
        yield f"{folder} has no templates of yours: the package's are used"
    for task, path in mine.items():
        theirs = bundled_path(task)
        yield from _difference(task, (str(theirs), _read(theirs)), (str(path), _read(path)))


def differences_of_runs(first: Run, second: Run) -> Iterator[str]:
    """Lines: how the templates that two runs used differ, by what the runs kept of them."""
    one, other = kept(first), kept(second)
    if not one and not other:
        yield "neither run used a template"
    for task in dict.fromkeys([*one, *other]):
        if task in one and task in other:
            yield from _difference(
                task, (f"{first.path}/{task}", one[task]), (f"{second.path}/{task}", other[task])
            )
        else:
            yield f"{task}: only {(first if task in one else second).path} used one"


def _difference(task: str, before: tuple[str, str], after: tuple[str, str]) -> Iterator[str]:
    if before[1] == after[1]:
        yield f"{task}: the same"
        return
    old, new = before[1].splitlines(), after[1].splitlines()
    for line in difflib.unified_diff(old, new, before[0], after[0], lineterm=""):
        # Another's run may hold anything: nothing of it acts on the terminal.
        yield "".join(c if c.isprintable() or c == "\t" else "·" for c in line)


def _is_bundled(task: str, path: Path) -> bool:
    return path.resolve() == bundled_path(task).resolve()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"template {path} cannot be read: {error}") from None


def _first_comment(source: str) -> str:
    """The first line of the comment that a template begins with; empty where there is none."""
    if not source.lstrip().startswith("{#"):
        return ""
    return source.lstrip()[2:].partition("#}")[0].strip().partition("\n")[0].strip()
