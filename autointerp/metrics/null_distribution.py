"""How far a score stands out among nulls, where what a null gets depends on density.

A useless label of a feature that fires often has a higher F1, and one for a rare feature hardly
varies in its correlation, so that a score is to be compared with nulls of like density. Few nulls
have just that, hence two steps: the nulls' location and spread as smooth functions of density are
taken out, and what is left is ranked among the nulls nearest in density.
"""

from dataclasses import dataclass

import numpy as np
from numpy.polynomial.hermite_e import hermevander
from scipy.special import factorial, ndtr, ndtri

_FEW = 40  # nulls, below which nothing is learned of how they depend on density
_MOST = 5000  # nulls, spread over all densities, that stand for more: enough for any rate
_NEAREST, _SHARE = 50, 0.1  # a score is ranked among so many nulls, or so large a share of them
_TOP = 0.1  # of the nearest: above these, excesses are ranked among those of all densities
_WINDOWS = 128  # sets of nearest nulls, at most
_LOCATION, _SPREAD = 3, 2  # degrees of the polynomials in the normal score of density
_WEAK, _FIRM = 0.01, 1.0  # their ridges
_FITTED = (
    50  # over m: the nulls' worth by which p is raised, as a curve fits its own nulls too well
)
_LEAST_SPREAD = 0.01  # of the root mean square residual: where all nulls are equal there is none
_STEPS = 30
_DIGITS = 9  # sums in another order are the same value


@dataclass(frozen=True, slots=True)
class AmongNulls:
    """`p_value` [n]: the share of useless labels of like density that do as well or better;
    `middle` [n]: the median null at that density. NaN where there is no null, and p without value.
    """

    p_value: np.ndarray
    middle: np.ndarray


def among_nulls(
    values: np.ndarray, density: np.ndarray, nulls: np.ndarray, null_density: np.ndarray
) -> AmongNulls:
    """values, density: float [n], the former NaN where missing; nulls, null_density: [m], finite.

    Values and densities count by their ranks, values above all nulls by how far they are. Normal
    scores of the nulls are regressed on those of density, by a cubic; the logarithm of their spread
    above it, which is what counts in the upper tail, by a quadratic. What is left, standardized, is
    ranked among that of the 50 or m / 10 nulls nearest in density. By how much it exceeds the upper
    tenth of these, in units of their distance to the median, is ranked among the excesses of all
    nulls (peaks over a threshold, as of Davison and Smith 1990, with their empirical distribution),
    so that p goes down to about 1 / (1 + m). It is never below the share of the nearest nulls that
    have the very same value. With fewer than 40 nulls p is the plain share of them,
    (1 + as good) / (1 + m) (Phipson and Smyth 2010), whatever the density.
    """
    values, nulls = np.round(values, _DIGITS), np.round(nulls, _DIGITS)
    p_value, middle = np.full(len(values), np.nan), np.full(len(values), np.nan)
    known = ~np.isnan(values)
    m = len(nulls)
    if m == 0:
        return AmongNulls(p_value, middle)
    ordered = np.sort(nulls)
    if m < _FEW:
        as_good = m - np.searchsorted(ordered, values, "left")
        return AmongNulls(
            np.where(known, (1 + as_good) / (1 + m), np.nan), np.full(len(values), np.median(nulls))
        )
    by_density = np.argsort(null_density, kind="stable")
    if m > _MOST:
        by_density = by_density[np.arange(_MOST) * m // _MOST]
        m, ordered = _MOST, np.sort(nulls[by_density])
    nulls, null_density = nulls[by_density], null_density[by_density]
    z_nulls = _normal_scores(null_density, null_density)
    z = _normal_scores(null_density, density).clip(z_nulls[0], z_nulls[-1])
    curve = _fit(z_nulls, _normal_scores(ordered, nulls))
    score = _scores(ordered, np.where(known, values, ordered[0]))
    location, spread = curve.at(z)
    left = (score - location) / spread
    nearest = _nearest(null_density, nulls, curve.residuals)
    places = nearest.of(null_density, density)
    found = nearest.shares(places, left, values)
    p_value[known] = found[known]
    level = ndtr(location + spread * nearest.medians()[places]) * (m + 1) - 1
    middle = np.interp(level, np.arange(m), ordered)
    return AmongNulls(p_value, middle)


def _normal_scores(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Normal quantiles of the values' middle ranks among others, which ascend."""
    below = np.searchsorted(ordered, values, "left")
    up_to = np.searchsorted(ordered, values, "right")
    scores: np.ndarray = ndtri(((below + up_to) / 2 + 0.5) / (len(ordered) + 1))
    return scores


def _scores(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """As `_normal_scores`, but rising further above all others: as from their top tenth to them."""
    m = len(ordered)
    from_rank = m - 1 - round(_TOP * m)
    width = ordered[-1] - ordered[from_rank]
    rise = ndtri(m / (m + 1)) - ndtri((from_rank + 1) / (m + 1))
    above = np.maximum(values - ordered[-1], 0.0)
    return np.asarray(_normal_scores(ordered, values) + above * (rise / width if width > 0 else 1))


def _polynomials(z: np.ndarray, degree: int) -> np.ndarray:
    """Orthonormal under the normal distribution: [n, 1 + degree]."""
    scaled: np.ndarray = hermevander(z, degree) / np.sqrt(factorial(np.arange(degree + 1)))
    return scaled


@dataclass(frozen=True, slots=True)
class _Curve:
    """Location and spread at a normal score of density, and what is left of the nulls [m]."""

    location: np.ndarray
    log_spread: np.ndarray
    residuals: np.ndarray

    def at(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        location = _polynomials(z, _LOCATION) @ self.location
        return location, np.exp(_polynomials(z, _SPREAD) @ self.log_spread)


def _fit(z: np.ndarray, scores: np.ndarray) -> _Curve:
    """Of nulls [m]; each residual is from a curve that is fitted without it."""
    x = _polynomials(z, _LOCATION)
    ridge = _WEAK * np.eye(x.shape[1])
    inverse = np.linalg.inv(x.T @ x + ridge)
    location = inverse @ (x.T @ scores)
    leverage = np.einsum("ni,ij,nj->n", x, inverse, x)
    residuals = (scores - x @ location) / (1 - leverage)
    least = _LEAST_SPREAD * float(np.sqrt(np.mean(residuals**2))) + 1e-9
    x = _polynomials(z, _SPREAD)
    above = residuals > 0
    log_spread = _log_means(x[above], (residuals[above] + least) ** 2) / 2
    return _Curve(location, log_spread, residuals / np.exp(x @ log_spread))


def _log_means(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Coefficients of log E[y | x], y positive: exponential likelihood with a ridge, by Newton."""
    found = np.zeros(x.shape[1])
    if len(y) == 0:
        return found
    found[0] = np.log(y.mean())
    ridge = _FIRM * np.eye(x.shape[1])
    ridge[0, 0] = 1e-6
    for _ in range(_STEPS):
        ratio = y * np.exp(-(x @ found))
        gradient = x.T @ (ratio - 1) - ridge @ found
        step = np.linalg.solve((x * ratio[:, None]).T @ x + ridge, gradient).clip(-1, 1)
        found = found + step
        if np.abs(step).max() < 1e-6:
            break
    return found


@dataclass(frozen=True, slots=True)
class _Nearest:
    """Sets of k nulls nearest in density, the sets in order of it.

    `starts` [sets] among the nulls by density; `residuals` and `values` [sets, k], each ascending;
    `excesses`, ascending: of all nulls over the `top`-th largest of the others of their set, in
    units of how far these others' mean is from the median.
    """

    starts: np.ndarray
    residuals: np.ndarray
    values: np.ndarray
    top: int
    allowance: float
    excesses: np.ndarray

    def of(self, null_density: np.ndarray, density: np.ndarray) -> np.ndarray:
        """The set in whose middle each density is, as nearly as may be: [n]."""
        sides = (np.searchsorted(null_density, density, side) for side in ("left", "right"))
        return _closest(self.starts, sum(sides) / 2 - self.residuals.shape[1] / 2)

    def medians(self) -> np.ndarray:
        return np.asarray(np.median(self.residuals, axis=1))

    def shares(self, places: np.ndarray, left: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The share of useless labels of like density that do as well: [n]."""
        k, m = self.residuals.shape[1], len(self.excesses)
        found = np.empty(len(left))
        for place in np.unique(places):
            rows = np.flatnonzero(places == place)
            residuals, among, mine = self.residuals[place], self.values[place], left[rows] - 1e-9
            share = (1 + k - np.searchsorted(residuals, mine, "left")) / (1 + k)
            largest = residuals[None, k - self.top :]
            over = _excess(mine, largest, np.median(residuals, keepdims=True))
            as_far = m - np.searchsorted(self.excesses, over, "left")
            # As many are over the least of the largest; fewer than `top` - 1 where some are equal.
            exceeding = 1 + int((largest > largest[:, :1]).sum()) + self.allowance
            beyond = exceeding / (1 + k) * (1 + as_far) / (1 + m)
            # What none of the nearest reaches is no likelier than to be first among them.
            beyond = np.where(mine > residuals[-1], np.minimum(beyond, share), beyond)
            tied = np.searchsorted(among, values[rows], "right")
            tied = tied - np.searchsorted(among, values[rows], "left")
            found[rows] = np.maximum(np.where(over > 0, beyond, share), tied / (1 + k))
        return found


def _closest(ascending: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Places of the closest to each."""
    middles = (ascending[1:] + ascending[:-1]) / 2
    return np.asarray(np.searchsorted(middles, wanted))


def _excess(values: np.ndarray, largest: np.ndarray, median: np.ndarray) -> np.ndarray:
    """Over the least of the largest [n, top], in units of how far their mean is from the median.

    [n]; 0 where all of these are equal, so that there is no unit.
    """
    least = largest[:, 0]
    spread = np.where(largest[:, -1] > least, largest.mean(1) - median, 0.0)
    over = np.zeros(np.broadcast_shapes(values.shape, least.shape))
    return np.asarray(np.divide(values - least, spread, out=over, where=spread > 1e-6))


def _nearest(density: np.ndarray, nulls: np.ndarray, residuals: np.ndarray) -> _Nearest:
    """density, nulls, residuals: [m], by density."""
    m = len(nulls)
    k = min(m, max(_NEAREST, round(_SHARE * m)))
    top = max(1, round(_TOP * k))
    starts = np.unique(np.linspace(0, m - k, _WINDOWS).round().astype(int))
    sets = starts[:, None] + np.arange(k)
    sorted_sets = np.sort(residuals[sets], axis=1)
    closest = _closest(starts, np.arange(m) - k / 2)
    own = sorted_sets[closest]
    # Of the others: one that is itself among the largest has one more before it.
    largest = own[:, k - top - 1 :]
    among = residuals >= largest[:, 1]
    # Which of the largest it is does not count where it is none of them.
    mine = np.where(among, (largest < residuals[:, None]).sum(1), 0)
    others = largest[np.arange(top + 1) != mine[:, None]].reshape(m, top)
    excesses = _excess(residuals, others, np.median(sorted_sets, axis=1)[closest])
    excesses = np.sort(excesses[excesses > 0])
    return _Nearest(starts, sorted_sets, np.sort(nulls[sets], axis=1), top, _FITTED / m, excesses)
