"""The paper's test of significance (Section 4.3): Wilcoxon signed-rank, two-sided."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats


def signed_rank(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return the statistic (the smaller sum of ranks) and p of paired samples x, y [N].

    Pairs without a difference are left out (Wilcoxon's own way). If there is no other pair, the
    samples are the same: p = 1.
    """
    # Means over seeds of the same hits may differ in the last bit: that is no difference.
    difference = np.round(x - y, 12)
    if not difference.any():
        return 0.0, 1.0
    found: Any = stats.wilcoxon(difference, zero_method="wilcox")
    return float(found.statistic), float(found.pvalue)
