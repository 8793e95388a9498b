"""The numbers that the paper prints in Tables 2, 3 and 5; statistics.PAPER has Tables 1 and 4."""

from __future__ import annotations

from ..jobs.paper_rows import ROWS

METRICS = {"recall": "Recall@5", "mrr": "MRR@5", "precision": "Precision@5"}
HEADLINES = {metric: METRICS[metric] for metric in ("recall", "mrr")}  # Precision@5 is Recall@5 / 5
ALPHA = 0.01  # of the Wilcoxon signed-rank test under Table 3

# Table 2, tuned on XING, and what Section 4.2 says about every model. Dropout is that of the
# user-level GRU, the session-level GRU and the initialisation.
_DROPOUT = ("dropout_user", "dropout_session", "dropout_init")
TABLE2 = {
    "item_knn": {"neighbours": "300"},
    **{
        f"{model}_{size}": {
            "hidden_units": {"small": "100", "large": "500"}[size],
            "batch_size": batch_size,
            **dict(zip(_DROPOUT, dropout, strict=True)),
            "learning_rate": learning_rate,
            "momentum": momentum,
            "loss": "top1",
            "optimizer": "adagrad",
            "epochs": "10",
            **({"user_input": "full"} if model == "hrnn_all" else {}),  # Eq. 5
        }
        for model, size, batch_size, dropout, learning_rate, momentum in (
            ("rnn", "small", "100", ("0", "0.2", "0"), "0.1", "0.1"),
            ("rnn", "large", "100", ("0", "0.2", "0"), "0.1", "0"),
            ("rnn_concat", "small", "100", ("0", "0.2", "0"), "0.1", "0.1"),
            ("rnn_concat", "large", "100", ("0", "0.2", "0"), "0.1", "0"),
            ("hrnn_all", "small", "100", ("0.1", "0.1", "0.2"), "0.1", "0.2"),
            ("hrnn_all", "large", "50", ("0", "0.2", "0.2"), "0.05", "0.3"),
            ("hrnn_init", "small", "50", ("0", "0.1", "0"), "0.1", "0"),
            ("hrnn_init", "large", "100", ("0.1", "0.2", "0.2"), "0.1", "0.1"),
        )
    },
}

# Tables 3 (XING, VIDEO) and 5 (VIDEOXXL, ranked among the 50,000 most supported items, one run):
# Recall@5, MRR@5, Precision@5.
SCORES = {
    shape: {row: dict(zip(METRICS, values, strict=True)) for row, values in rows.items()}
    for shape, rows in {
        "xing": {
            "item_knn": (0.0697, 0.0406, 0.0139),
            "ppop": (0.1326, 0.0939, 0.0265),
            "rnn_small": (0.1292, 0.0799, 0.0258),
            "rnn_concat_small": (0.1358, 0.0844, 0.0272),
            "hrnn_all_small": (0.1334, 0.0842, 0.0267),
            "hrnn_init_small": (0.1337, 0.0832, 0.0267),
            "rnn_large": (0.1317, 0.0796, 0.0263),
            "rnn_concat_large": (0.1467, 0.0878, 0.0293),
            "hrnn_all_large": (0.1482, 0.0925, 0.0296),
            "hrnn_init_large": (0.1473, 0.0901, 0.0295),
        },
        "video": {
            "item_knn": (0.4192, 0.2916, 0.0838),
            "ppop": (0.3887, 0.3031, 0.0777),
            "rnn_small": (0.4639, 0.3366, 0.0928),
            "rnn_concat_small": (0.4682, 0.3656, 0.0936),
            "hrnn_all_small": (0.5272, 0.3663, 0.1054),
            "hrnn_init_small": (0.5421, 0.4119, 0.1084),
            "rnn_large": (0.5551, 0.3886, 0.1110),
            "rnn_concat_large": (0.5582, 0.4333, 0.1116),
            "hrnn_all_large": (0.5191, 0.3877, 0.1038),
            "hrnn_init_large": (0.5947, 0.4433, 0.1189),
        },
        "videoxxl": {
            "rnn_small": (0.3415, 0.2314, 0.0683),
            "rnn_concat_small": (0.3459, 0.2368, 0.0692),
            "hrnn_all_small": (0.3621, 0.2658, 0.0724),
            "hrnn_init_small": (0.4362, 0.3261, 0.0872),
        },
    }.items()
}


def paper_score(shape: str, row: str, metric: str) -> float | None:
    """Return the paper's number for a row on one of its data sets, or None if it prints none.

    The forms of an HRNN, see `paper_rows`, have one number, and a tuned row none.
    """
    if ROWS[row].tuned:
        return None
    return SCORES.get(shape, {}).get(ROWS[row].printed, {}).get(metric)


def paper_gain(shape: str, row: str, over: str, metric: str) -> float | None:
    """Return the paper's relative gain of one row over another, from its printed numbers."""
    ours, base = (paper_score(shape, name, metric) for name in (row, over))
    return None if ours is None or base is None else ours / base - 1
