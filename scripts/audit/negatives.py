"""Which non-activating windows to judge: how much narrower F1's interval gets for the same tokens.

Judges who read a label raise alarms on windows that are like it. Features are judged once by the
former design (near misses, tokens of the feature, others; the same number for every feature), and
once by the present one (windows like the label as well, and more of them for rare features). Both
judge as many windows in all.
"""

from collections.abc import Callable, Mapping

import numpy as np

from audit.findings import Claim, Findings
from audit.population_judges import BANDS, Array
from autointerp.metrics.estimates import Counts
from autointerp.metrics.population import MAX_WIDTH, population
from autointerp.scoring.strata import windows_for

_ACTIVATING = 20
_SHARES = {"similar": 0.05, "same_token": 0.08, "label": 0.06, "other": 0.81}
_FORMER = {"similar": 0.2, "same_token": 0.2, "other": 0.6}  # of the windows judged
_PRESENT = {"similar": 0.2, "same_token": 0.2, "label": 0.2, "other": 0.4}
# How judges are deceived: by words of the label as by tokens of the feature, or by nothing more.
_WORLDS: dict[str, Callable[[np.random.Generator, int, Array], Mapping[str, Array]]] = {
    "alarms follow the label": lambda rng, n, _: {
        "similar": rng.beta(1, 4, n),
        "same_token": rng.beta(1, 4, n),
        "label": rng.beta(1, 3, n),
        "other": rng.beta(0.3, 150, n),
    },
    "they fall with density": lambda rng, n, density: {
        "similar": np.minimum(rng.beta(1, 4, n) * density / 0.05, 0.9),
        "same_token": np.minimum(rng.beta(1, 4, n) * density / 0.05, 0.9),
        "label": np.minimum(rng.beta(1, 3, n) * density / 0.05, 0.9),
        "other": np.minimum(rng.beta(0.3, 150, n) * density / 0.05, 0.9),
    },
    "they do not follow the label": lambda rng, n, _: {
        "similar": rng.beta(1, 4, n),
        "same_token": rng.beta(1, 4, n),
        "label": (rate := rng.beta(0.3, 15, n)),
        "other": rate,
    },
}


def audit(short: bool, seed: int) -> list[Findings]:
    """Width and coverage of F1's interval by world, design and band of density."""
    features = 500 if short else 4000
    rows: list[tuple[object, ...]] = []
    claims = []
    for name, world in _WORLDS.items():
        rng = np.random.default_rng([seed, features])
        density = 10 ** rng.uniform(-5, np.log10(0.3), features)
        hits, rates = rng.beta(6, 2, features), world(rng, features, density)
        false = np.asarray(sum(_SHARES[s] * rates[s] for s in _SHARES)) * (1 - density)
        true = hits * density
        f1 = 2 * true / (2 * true + false + (1 - hits) * density)
        asked = np.array([windows_for(float(q), _ACTIVATING) for q in density])
        same = np.full(features, round(asked.mean()))
        ends = {}
        for design, quota, windows in (("former", _FORMER, same), ("present", _PRESENT, asked)):
            counts = _answers(density, hits, rates, quota, windows, rng)
            found = [e["f1"] for e in population(counts, seed)]
            ends[design] = np.array([(e.ci_low, e.ci_high) for e in found])
        for low, high in BANDS:
            inside = (density >= low) & (density < high)
            widths = {d: (e[:, 1] - e[:, 0])[inside] for d, e in ends.items()}
            row: list[object] = [name, f"{low:g} to {high:g}", float(asked[inside].mean())]
            for d, e in ends.items():
                held = (e[:, 0] <= f1) & (f1 <= e[:, 1])
                row += [float(widths[d].mean()), float((widths[d] > MAX_WIDTH).mean())]
                row.append(float(held[inside].mean()))
            rows.append(tuple(row))
        held = (ends["present"][:, 0] <= f1) & (f1 <= ends["present"][:, 1])
        claims.append(Claim(f"{name}: covered", float(held.mean()), 0.92, 1.0))
        means = {d: float((e[:, 1] - e[:, 0]).mean()) for d, e in ends.items()}
        ratio = means["present"] / means["former"]
        most = 1.0 if name == "alarms follow the label" else 1.1
        claims.append(Claim(f"{name}: width, times the former", ratio, 0.0, most))
    about = " ".join((__doc__ or "").split("\n\n")[1].split())
    asked_of = ("judges", "density", "windows")
    columns = (
        *asked_of,
        *(f"{design} {what}" for design in ends for what in ("width", "unknown", "covered")),
    )
    return [Findings("Which non-activating windows are judged", about, columns, rows, claims)]


def _answers(
    density: Array,
    hits: Array,
    rates: Mapping[str, Array],
    quota: Mapping[str, float],
    windows: Array,
    rng: np.random.Generator,
) -> list[Counts]:
    """What the judges say of `windows` non-activating windows of each feature, by quota."""
    shares = dict(_SHARES)
    rates = dict(rates)
    if "label" not in quota:  # these windows are then among the others
        total = shares["label"] + shares["other"]
        # Of each window drawn it is a matter of chance which kind it is of.
        mixed = shares["label"] * rates["label"] + shares["other"] * rates["other"]
        rates["other"], shares["other"] = mixed / total, total
        del shares["label"], rates["label"]
    asked = {s: np.round(windows * quota[s]).astype(int) for s in shares}
    hit = rng.binomial(_ACTIVATING, hits)
    alarms = {s: rng.binomial(asked[s], rates[s]) for s in shares}
    return [
        Counts(
            float(density[i]),
            shares,
            {"fires": int(hit[i]), **{s: int(alarms[s][i]) for s in shares}},
            {"fires": _ACTIVATING, **{s: int(asked[s][i]) for s in shares}},
        )
        for i in range(len(density))
    ]
