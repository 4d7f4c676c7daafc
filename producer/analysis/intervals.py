"""How sure a share is, and how values lie: Wilson's interval, quantiles. Pure."""

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

#: Of a normal distribution 95 % lies within so many standard deviations.
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Share:
    """So many of so many, with the 95 % interval of Wilson (1927)."""

    count: int
    of: int

    @property
    def value(self) -> float | None:
        """The share, 0 to 1; None of nothing."""
        return self.count / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where the share lies that these are a sample of, with 95 % confidence."""
        if not self.of:
            return None
        n, p = self.of, self.count / self.of
        middle, half = p + _Z95**2 / (2 * n), _Z95 * math.sqrt(p * (1 - p) / n + _Z95**2 / (4 * n * n))
        low, high = (middle - half) / (1 + _Z95**2 / n), (middle + half) / (1 + _Z95**2 / n)
        return (0.0 if self.count == 0 else low, 1.0 if self.count == n else high)

    def told(self) -> dict[str, Any]:
        """Return it for programs."""
        value, interval = self.value, self.interval
        bounds = None if interval is None else [round(bound, 4) for bound in interval]
        return {"count": self.count, "of": self.of, "share": None if value is None else round(value, 4), "interval_95": bounds}

    def __str__(self) -> str:
        value, interval = self.value, self.interval
        if value is None or interval is None:
            return "-"
        return f"{value:.1%} ({self.count:,} of {self.of:,}; 95 %: {interval[0]:.1%} to {interval[1]:.1%})"


class Values:
    """Numbers that come one after the other, eight bytes each."""

    def __init__(self) -> None:
        self.all = array("d")

    def add(self, value: float | None) -> None:
        """Take one; None is passed over."""
        if value is not None:
            self.all.append(value)

    def quantiles(self, *shares: float) -> list[float]:
        """Return the values below which these shares lie, between neighbours by their distance (NumPy's default)."""
        ordered = sorted(self.all)
        return [_quantile(ordered, share) for share in shares]

    def told(self, digits: int = 1) -> dict[str, Any] | None:
        """Return count, mean, sum and quantiles for programs; None of nothing."""
        if not self.all:
            return None
        names = ("min", "median", "p90", "p99", "max")
        quantiles = dict(zip(names, self.quantiles(0, 0.5, 0.9, 0.99, 1), strict=True))
        figures = {"mean": math.fsum(self.all) / len(self.all)} | quantiles | {"sum": math.fsum(self.all)}
        return {"of": len(self.all)} | {name: round(value, digits) for name, value in figures.items()}

    def above(self, least: float) -> Share:
        """Return which share of them is at least so large."""
        return Share(sum(value >= least for value in self.all), len(self.all))


def histogram(values: Iterable[float], low: float, high: float, bins: int) -> list[int]:
    """Count values in bins of equal width; those beyond the ends count in the last ones."""
    counts = [0] * bins
    width = (high - low) / bins or 1.0
    for value in values:
        counts[min(max(int((value - low) / width), 0), bins - 1)] += 1
    return counts


def _quantile(ordered: list[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
