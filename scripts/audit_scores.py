"""Audits the scores: do intervals cover the truth, are values unbiased, are p-values p-values?

    python scripts/audit_scores.py             # the long form, which docs/audit.md holds
    python scripts/audit_scores.py --short     # fixed seeds, a minute or two; run by the tests

Every experiment simulates judges whose truth is known, or compares scores with the exhaustive
truth on the demo, and states claims. The exit status is 1 where a claim does not hold.
"""

import argparse
import importlib
import pkgutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import audit
from audit.findings import Findings

Experiment = Callable[[bool, int], list[Findings]]


def experiments() -> dict[str, Experiment]:
    """Name → `audit(short, seed)` of every module in `audit/` that has one."""
    names = sorted(m.name for m in pkgutil.iter_modules(audit.__path__))
    modules = {name: importlib.import_module(f"audit.{name}") for name in names}
    return {name: m.audit for name, m in modules.items() if hasattr(m, "audit")}


def main() -> None:
    known = experiments()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--short", action="store_true", help="fewer repetitions")
    parser.add_argument("--only", help=f"comma-separated: {', '.join(known)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(known)
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"error: --only {','.join(unknown)}: the experiments are {', '.join(known)}")
    parts: list[str] = []
    failed = 0
    for name in names:
        began = time.monotonic()
        found = known[name](options.short, options.seed)
        failed += sum(not claim.holds for one in found for claim in one.claims)
        parts += [one.markdown() for one in found]
        print("\n".join(one.markdown() for one in found), flush=True)
        print(f"({name}: {time.monotonic() - began:.0f} s)\n", flush=True)
    if options.out is not None:
        options.out.write_text("\n".join(parts), encoding="utf-8")
    sys.exit(f"{failed} claims do not hold" if failed else 0)


if __name__ == "__main__":
    main()
