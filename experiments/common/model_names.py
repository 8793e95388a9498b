"""Which models stand in the paper's tables, by the names that `hrnn_jax.presets` gives them.

Nothing here defines a flag, so that reports can use it.
"""

from __future__ import annotations

from hrnn_jax.presets import NAMES

__all__ = ["BEYOND", "NAMES", "PAPER_BASELINES", "PAPER_NETWORKS", "SIZES"]
# The rows of Table 3, in its order.
PAPER_BASELINES = {key: NAMES[key] for key in ("item_knn", "ppop")}
PAPER_NETWORKS = {key: NAMES[key] for key in ("rnn", "rnn_concat", "hrnn_all", "hrnn_init")}
SIZES = ("small", "large")  # of the networks
# Methods that are not in the paper and have a row in its tables here; others are compared tuned.
BEYOND = {key: NAMES[key] for key in ("markov", "sr", "vsknn", "vsknn_br")}
