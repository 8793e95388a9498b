"""What the models are called, and which of them stand in the paper's tables.

The models themselves are listed in `hrnn_jax.config`. Nothing here defines a flag, so that reports
can use it.
"""

from __future__ import annotations

from hrnn_jax.config import BASELINES, NETWORKS

NAMES = {
    "rnn": "RNN",
    "rnn_concat": "RNN Concat",
    "hrnn_init": "HRNN Init",
    "hrnn_all": "HRNN All",
    "ppop": "PPOP",
    "item_knn": "Item-KNN",
    "markov": "Markov",
    "sr": "SR",
    "vsknn": "V-SKNN",
    "vsknn_br": "V-SKNN_BR",
}
assert list(NAMES) == [*NETWORKS, *BASELINES]
# The rows of Table 3, in its order.
PAPER_BASELINES = {key: NAMES[key] for key in ("item_knn", "ppop")}
PAPER_NETWORKS = {key: NAMES[key] for key in ("rnn", "rnn_concat", "hrnn_all", "hrnn_init")}
SIZES = ("small", "large")  # of the networks
# Methods that are not in the paper.
BEYOND = {key: NAMES[key] for key in BASELINES if key not in PAPER_BASELINES}
