"""Whether one of two runs wins on a feature."""

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

LEVEL = 0.05


def outcomes(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs with columns `p_adjusted` and `outcome`: win, tie or loss of the second run.

    Where a paired test has a p value, that is adjusted for the features that one metric has of them
    (Benjamini and Hochberg 1995: of the wins and losses at most one in twenty is expected to be
    none); the second run wins where it is at most .05 and its value is the higher. Elsewhere it
    wins where its interval lies wholly above the first's; null where an interval is missing.
    """
    tested = pairs["p"].notna()
    adjusted = pd.Series(np.nan, pairs.index)
    for _, p in pairs.loc[tested].groupby(["scorer", "metric"])["p"]:
        adjusted[p.index] = false_discovery_control(p.to_numpy())
    ends = [f"ci_{end}_{run}" for run in "ab" for end in ("low", "high")]
    known = tested | pairs[ends].notna().all(axis=1)
    sure = tested & (adjusted <= LEVEL)
    above = ~tested & (pairs["ci_low_b"] > pairs["ci_high_a"])
    below = ~tested & (pairs["ci_high_b"] < pairs["ci_low_a"])
    win = above | (sure & (pairs["difference"] > 0))
    loss = below | (sure & (pairs["difference"] < 0))
    said = pd.Series(np.select([win, loss], ["win", "loss"], "tie"), pairs.index)
    kinds = pd.CategoricalDtype(["win", "tie", "loss"])
    return pairs.assign(p_adjusted=adjusted, outcome=said.where(known).astype(kinds))
