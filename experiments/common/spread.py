"""Repeated measurements of one quantity, and the statistics that tables and figures show."""

from __future__ import annotations

import dataclasses
import statistics


@dataclasses.dataclass(frozen=True)
class Spread:
    """The values of one quantity, one per seed or repetition; at least one."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """The number of values."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Their mean."""
        return statistics.fmean(self.values)

    @property
    def median(self) -> float:
        """Their median."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest value."""
        return max(self.values)

    @property
    def std(self) -> float | None:
        """The sample standard deviation (n - 1); None of a single value."""
        return statistics.stdev(self.values) if self.n > 1 else None
