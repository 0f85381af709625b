"""Tables on endpoints, from the doctor and the journal, for a terminal."""

from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.text import Text

from autointerp.llm.journal.journal_file import info
from autointerp.llm.probe import Probe
from autointerp.plain_text import line_for_person
from autointerp.report.sources import print_facts


def print_probes(probes: list[tuple[str, Probe]], console: Console) -> bool:
    """What each endpoint can do; True where something is wrong."""
    wrong = False
    for url, found in probes:
        dropped = ", ".join(found.dialect.dropped)
        limits = ", ".join(
            f"{value} {name.rpartition('-')[2]} a minute" for name, value in found.limits.items()
        )
        print_facts(
            console,
            {
                "endpoint": url,
                "model": found.model,
                "sent with": found.dialect.describe(),
                "not supported": dropped or "nothing",
                "JSON": f"{found.items_read} of {found.items_asked} items could be read",
                "thinks": "yes, which costs tokens (--thinking, --extra-body)"
                if found.thinks
                else "no",
                "usage": "reported" if found.reports_usage else "not reported: costs are estimates",
                "logprobs": ", ".join(found.logprobs) or "none",
                "simulation": f"by {found.logprobs[0]}" if found.logprobs else "as JSON",
                "rate limits": limits or "unknown",
            },
        )
        if found.items_read < found.items_asked:
            wrong = True
            said = f"warning: the model at {url} could not copy a list of three items into JSON"
            console.print(Text(line_for_person(said)), style="yellow", soft_wrap=True)
    return wrong


def print_journal(path: Path, console: Console) -> None:
    """Raises AutointerpError where there is no journal, or none that can be read."""
    found = info(path)
    cached = found.cached_tokens / max(1, found.prompt_tokens)
    dates = [
        datetime.fromtimestamp(at).isoformat(" ", "seconds")
        for at in (found.first_at, found.last_at)
        if at is not None
    ]
    unconfirmed = None
    if found.unconfirmed:
        unconfirmed = (
            f"{found.unconfirmed:,} requests without a recorded outcome "
            f"(at most ${found.worst_usd:,.4f})"
        )
    facts = {
        "journal": f"{path}, {found.bytes / 1e6:,.1f} MB",
        "replies": f"{found.replies:,}",
        "models": ", ".join(f"{name} {n:,}" for name, n in found.models) or None,
        "unreadable": f"{found.unreadable:,} replies" if found.unreadable else None,
        "tokens": f"{found.prompt_tokens:,} prompt ({cached:.0%} cached), "
        f"{found.completion_tokens:,} completion",
        "cost": f"${found.cost_usd:,.4f}",
        "unconfirmed": unconfirmed,
        "received": " to ".join(dates) or None,
    }
    print_facts(console, {name: value for name, value in facts.items() if value is not None})
