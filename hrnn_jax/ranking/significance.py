"""The paper's test of significance (Section 4.3): Wilcoxon signed-rank, two-sided."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats


def signed_rank(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Test whether paired samples differ, by Wilcoxon's signed ranks.

    Pairs without a difference are left out, as Wilcoxon did: however many there are, they change
    nothing. p is exact for up to 13 others, and for up to 50 if no two differ by the same amount.

    Args:
        x: [N], for example each test case's recall under one model.
        y: [N], the same under another model.

    Returns:
        The statistic, which is the smaller sum of ranks, and p; (0, 1) if no pair differs.
    """
    # Means over seeds of the same hits may differ in the last bit by rounding.
    difference = np.round(x - y, 12)
    difference = difference[difference != 0]  # scipy would choose its method by the zeros too
    if not len(difference):
        return 0.0, 1.0
    result: Any = stats.wilcoxon(difference)
    return float(result.statistic), float(result.pvalue)
