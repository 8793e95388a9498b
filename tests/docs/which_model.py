"""The claims of docs/which_model.md."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import polars as pl

from experiments.leaderboard.grid import NAMES, PEERS, PLUS, TUNED_PLUS
from experiments.leaderboard.tables import ALPHA, paired_means
from experiments.paper.numbers import HEADLINES
from experiments.paper.results import NETWORK_ROWS, read_results, without_session_items
from hrnn_jax.config import BASELINES

from .claims import (
    BASKETS,
    CHECK_INS,
    COMPARED,
    LISTENING,
    LOGS,
    METRICS,
    NEWS,
    ON_GPU,
    OTHERS,
    PAPERS,
    READING,
    RESULTS,
    TITLES,
    Claim,
    best,
    comparison,
    exceptions,
    judged,
    listed,
    mean,
    n_seeds,
    rank_seconds,
)

PAGE = "docs/which_model.md"


def claims() -> Iterator[Claim]:
    """Yield the claims of the page, in its order."""
    for text, holds in (
        *_general(),
        *_in_three_sentences(),
        *_by_kind(),
        *_ablation(),
        *_published(),
        *_settings(),
    ):
        yield Claim(PAGE, text, holds)


def _general() -> Iterator[tuple[str, bool]]:
    columns = comparison().columns
    counts = {
        key: [int(columns[log].cells[key].replace(",", "")) for log in LOGS]
        for key in ("events", "items")
    }
    low, high, few, many = (f(counts[k]) for k in ("events", "items") for f in (min, max))
    yield (
        f"with {low:,} to {high:,} events and {few:,} to {many:,} items",
        {*columns} == {*LOGS},
    )
    seconds = rank_seconds([*BASELINES])
    slow = {
        log: [NAMES[row] for row in BASELINES if seconds.get((log, row), 0) >= 60] for log in LOGS
    }
    of_log = {log: f"{listed(names)} on {TITLES[log]}" for log, names in slow.items() if names}
    yield (
        f"to rank all cases none needed a minute but {listed([*of_log.values()])}.",
        True,
    )
    yield (
        "The recipes of Foursquare and Journey drop repeats",
        {*without_session_items(judged()).columns} == {CHECK_INS, BASKETS},
    )
    budgets = {log: (columns[log].cells["trials"], columns[log].cells["epochs"]) for log in LOGS}
    yield (
        "20 trials of at most 10 epochs on a log",
        budgets == dict.fromkeys(LOGS, ("20", "10")),
    )
    trials = comparison().frames["chosen"].group_by("row", "column").agg(pl.col("trials").first())
    of_peers = trials.filter(pl.col("row").is_in(PEERS.keys()))["trials"]
    others = trials.filter(~pl.col("row").is_in(PEERS.keys()), pl.col("trials") != 20)
    yield (
        f"(64 of Counts on Journey, {of_peers.min()} to {of_peers.max()} of RecTools' rows)",
        others.rows() == [("counts", BASKETS, 64)],
    )
    networks = [*PAPERS, PLUS]
    seeds = {n_seeds(log, row) for log in LOGS for row in networks}
    yield "The networks ran with five seeds.", seeds == {5}

    counting = [*BASELINES]
    yield (
        "on each log some method without training has a higher mean than all of RNN, RNN Concat, "
        "HRNN All and HRNN Init, in both metrics.",
        all(best(log, counting, m) > best(log, PAPERS, m) for log in LOGS for m in METRICS),
    )
    ahead = [mean(log, "hrnn_init") > mean(log, "rnn") for log in LOGS]
    yield (
        "HRNN Init has the higher mean Recall@5 on two of the five logs, RNN on the other three.",
        sum(ahead) == 2,
    )
    yield f"No log of the comparison has more than {many:,} items.", True


KINDS = dict(zip(LOGS, ("news", "check-ins", "reading", "baskets", "listening"), strict=True))
COUNTING = [row for row in BASELINES if row in COMPARED]
TRANSFORMERS = [*PEERS]


def _best_of_counting() -> dict[str, str]:
    """Return the counting row with the best mean Recall@5 on each log."""
    means = {log: judged().means(log, COUNTING, "recall") for log in LOGS}
    return {log: max(of, key=of.__getitem__) for log, of in means.items()}


def _in_three_sentences() -> Iterator[tuple[str, bool]]:
    cells = [(log, metric) for log in LOGS for metric in METRICS]
    chosen = comparison().frames["chosen"].filter(pl.col("row").is_in(TRANSFORMERS))
    of_peers = [(log, metric) for log, metric in cells if log in ON_GPU]
    yield (
        "**hrnn_plus** has the best mean of both metrics on all five logs, significantly ahead of "
        f"every other row of the table (Wilcoxon signed-rank test, p < 0.05){exceptions()}.",
        all(mean(log, PLUS, m) > best(log, OTHERS, m) for log, m in cells),
    )
    parts = [100 * best(log, COUNTING, m) / mean(log, PLUS, m) for log, m in cells]
    rows = _best_of_counting()
    of_row = {row: [KINDS[log] for log in LOGS if rows[log] == row] for row in rows.values()}
    winners = [f"`{row}` on {listed(kinds)}" for row, kinds in of_row.items()]
    ahead = [
        f"{NAMES[row]} in {HEADLINES[m]} on {TITLES[log]}, {mean(log, row, m):.3f} against "
        f"{best(log, COUNTING, m):.3f}"
        for log, row in chosen.select("column", "row").unique(maintain_order=True).iter_rows()
        for m in METRICS
        if mean(log, row, m) > best(log, COUNTING, m)
    ]
    yield (
        f"**Counting** comes next on each of them, with {min(parts):.0f}% to {max(parts):.0f}% of "
        "hrnn_plus' Recall@5 or MRR@5 and no training: by Recall@5 the best of it is "
        f"{', '.join(winners)}. Of the other rows only {listed(ahead)}, is ahead of it.",
        all(best(log, COUNTING, m) > best(log, PAPERS, m) for log, m in cells),
    )
    yield (
        "**The paper's networks** are behind the best counting row on each log in both metrics",
        all(best(log, COUNTING, m) > best(log, PAPERS, m) for log, m in cells),
    )
    of_gpu = chosen.filter(pl.col("column").is_in(ON_GPU))
    trials = of_gpu["trials"]
    parts = [100 * best(log, TRANSFORMERS, m) / mean(log, PLUS, m) for log, m in of_peers]
    yield (
        f"On the first four logs the best of them has {min(parts):.0f}% to {max(parts):.0f}% of "
        "hrnn_plus' Recall@5 or MRR@5. They had one search each there, of at most 230 seconds on a "
        f"shared H100 and {trials.min()} to {trials.max()} trials",
        {*of_gpu.select("column", "row").iter_rows()} == {*itertools.product(ON_GPU, TRANSFORMERS)},
    )
    on_listening = chosen.filter(column=LISTENING)
    of_row = {
        row: dict(on_listening.filter(row=row).select("key", "setting").iter_rows())
        for row in TRANSFORMERS
    }
    epochs = [settings["epochs"] for settings in of_row.values()]
    share = [100 * mean(LISTENING, "sasrec", m) / mean(LISTENING, PLUS, m) for m in METRICS]
    yield (
        f"On 30Music each had an hour of one thread, which is one trial of {listed(epochs)} "
        f"epochs, too few to judge them by; the best there, SASRec, has {share[0]:.0f}% of "
        f"hrnn_plus' Recall@5 and {share[1]:.0f}% of its MRR@5.",
        {*on_listening["trials"]} == {1}
        and {settings["device"] for settings in of_row.values()} == {"one thread"}
        and all(3600 <= int(settings["seconds"]) < 3900 for settings in of_row.values())
        and all(best(LISTENING, TRANSFORMERS, m) == mean(LISTENING, "sasrec", m) for m in METRICS),
    )


def _by_kind() -> Iterator[tuple[str, bool]]:
    rows = _best_of_counting()
    yield (
        f"Of the other rows `counts` has the best Recall@5 on both, {mean(CHECK_INS, 'counts'):.3f}"
        f" and {mean(BASKETS, 'counts'):.3f}, where the best of the paper's networks reach "
        f"{best(CHECK_INS, PAPERS):.3f} and {best(BASKETS, PAPERS):.3f}; Personal Pop (`ppop`), "
        f"which has nothing to tune, has {mean(CHECK_INS, 'ppop'):.3f} and "
        f"{mean(BASKETS, 'ppop'):.3f}.",
        rows[CHECK_INS] == rows[BASKETS] == "counts",
    )
    yield (
        f"STAN needs no training; its Recall@5 is {mean(READING, 'stan'):.3f}, that of hrnn_plus "
        f"{mean(READING, PLUS):.3f}. hrnn_plus ranks the right item higher: MRR@5 "
        f"{mean(READING, PLUS, 'mrr'):.3f} against {mean(READING, 'stan', 'mrr'):.3f}.",
        rows[READING] == "stan" and mean(READING, PLUS, "mrr") > mean(READING, "stan", "mrr"),
    )
    yield (
        f"`counts` reaches {mean(NEWS, 'counts'):.3f} without training, and sequential rules "
        f"(`sr`) {mean(NEWS, 'sr'):.3f}, both ahead of the paper's networks; hrnn_plus reaches "
        f"{mean(NEWS, PLUS):.3f}.",
        min(mean(NEWS, "counts"), mean(NEWS, "sr")) > best(NEWS, PAPERS),
    )


def _ablation() -> Iterator[tuple[str, bool]]:
    alike = (CHECK_INS, READING, BASKETS)
    yield (
        "On Foursquare, Deskdrop and Journey the difference is not significant.",
        not any(_differs(log, TUNED_PLUS, m) for log in alike for m in METRICS),
    )
    yield (
        "On EB-NeRD what is found is significantly worse;",
        all(_differs(NEWS, TUNED_PLUS, m, better=False) for m in METRICS),
    )
    yield (
        "on 30Music it is significantly better.",
        all(_differs(LISTENING, TUNED_PLUS, m, better=True) for m in METRICS),
    )
    yield (
        "Only on Journey is a difference significant, that of MRR@5, which is better without.",
        [(log, m) for log in LOGS for m in METRICS if _differs(log, "without idle gap", m)]
        == [(BASKETS, "mrr")]
        and _differs(BASKETS, "without idle gap", "mrr", better=True),
    )
    yield (
        "On EB-NeRD that is significantly worse.",
        all(_differs(NEWS, "negatives of any time", m, better=False) for m in METRICS),
    )
    yield (
        "On Journey it is significantly better;",
        all(_differs(BASKETS, "negatives of any time", m, better=True) for m in METRICS),
    )
    yield (
        "on Foursquare, Deskdrop and 30Music the difference is not significant.",
        not any(
            _differs(log, "negatives of any time", m)
            for log in (CHECK_INS, READING, LISTENING)
            for m in METRICS
        ),
    )


def _differs(log: str, row: str, metric: str, *, better: bool | None = None) -> bool:
    """Say whether a row differs significantly from hrnn_plus, and in one direction if given."""
    p = comparison().p_value(log, PLUS, row, metric)
    means = paired_means(comparison(), log, row, metric)
    assert p is not None
    assert means is not None
    return p < ALPHA and better in (None, means[1] > means[0])


def _published() -> Iterator[tuple[str, bool]]:
    results = read_results(RESULTS / "public_logs")
    counting = ("ppop", "item_knn", "sr")
    small = [row for row in NETWORK_ROWS if row.endswith("_small")]
    shown = ("hrnn_init", "hrnn_all", "hrnn_all_gates", "rnn", "rnn_concat")
    found = [
        results.score(log, f"{row}_small", "recall") for row in shown for log in (NEWS, CHECK_INS)
    ]
    yield (
        "mean and sample standard deviation over three seeds",
        {score.n if score else 0 for score in found} == {3},
    )
    yield (
        "Methods that count are ahead on both logs.",
        all(
            max(results.means(log, counting, "recall").values())
            > max(results.means(log, small, "recall").values())
            for log in (NEWS, CHECK_INS)
        ),
    )
    large = {
        row: results.score(CHECK_INS, row, "recall")
        for row in (
            "rnn_concat_large",
            "hrnn_init_2017_large",
            "hrnn_all_gates_2017_large",
            "rnn_large",
        )
    }
    a, b, c, d = (f"{of.mean:.3f}" for of in large.values() if of)
    yield (
        f"with one seed each, RNN Concat reaches {a}, HRNN Init {b}, HRNN All with the authors' "
        f"gates {c} and RNN {d};",
        all(of and of.n == 1 for of in large.values()),
    )
    stopped = {row: text for (log, row), text in results.stopped.items() if log == CHECK_INS}
    losses = sorted(f"{float(text.split()[1]):.3f}" for text in stopped.values())
    yield (
        "By the equations neither HRNN Init nor HRNN All trains there with these settings, nor "
        f"HRNN All by Eq. 5 in either form: the loss of the first epoch is {losses[0]} to "
        f"{losses[-1]}, above that of constant scores.",
        {*stopped}
        == {"hrnn_init_large", "hrnn_all_large", "hrnn_all_gates_large", "hrnn_all_2017_large"}
        and all(text.endswith("in epoch 1") for text in stopped.values()),
    )


def _settings() -> Iterator[tuple[str, bool]]:
    frame = comparison().frames["chosen"]
    found = {
        key: frame.filter(pl.col("key") == key, pl.col("row").is_in(PAPERS))["setting"].n_unique()
        for key in ("learning_rate", "epochs")
    }
    yield (
        "their best trials differ in the learning rate and the number of epochs from log to log",
        min(found.values()) > 1,
    )
    yield "hrnn_plus was not tuned", frame.filter(row=PLUS).is_empty()
