"""The claims of single sentences in other pages, in flag files and in the report."""

from __future__ import annotations

import re
from collections.abc import Iterator

import polars as pl

from experiments.bench import record
from experiments.jobs.paper_rows import CODE_2017, EQUATIONS, ROWS

from .claims import (
    BASKETS,
    CHECK_INS,
    METRICS,
    NEWS,
    READING,
    RESULTS,
    Claim,
    all_significant,
    benchmark,
    change,
    comparison,
    none_significant,
    was_run,
)

BEYOND = "docs/concepts/beyond_the_paper.md"
# Numbers that are no results: sections of the paper, versions, constants of a method, addresses.
NO_RESULTS = {
    BEYOND: ("x 0.5^l x log(1 + q(j | i_l) / 0.001)",),
    "docs/concepts/benchmark.md": ("RecBole 1.2.1 needs Python 3.11",),
    "docs/concepts/paper.md": ("p < 0.01; the sample", "own sessions times 1.5"),
    "docs/concepts/preparing.md": ("Section 4.1",),
    "docs/concepts/ranking.md": ("Section 4.3",),
    "docs/concepts/training.md": ("that took 0.1 s or more to compile",),
    "docs/how-to/moving.md": ("with alpha 0.5",),
    "docs/concepts/reproduction.md": ("at most 15% of the shipped mean",),
    "docs/how-to/public_logs.md": ("a 10% sample", "arXiv:2410.03432", "84.51°", "doi:10.32614"),
}
# Measured by hand, and in no shipped file. This list may only become shorter.
WITHOUT_FILE = {
    "docs/concepts/ranking.md": (
        "the histories of hrnn_plus take 1.4 to 1.7 times as long as HRNN Init's, and cases in all "
        "1.0 to 1.3 times",
        "(10 % of a step)",
    ),
    "docs/concepts/reproduction.md": ("1.7 and 1.9 times as fast", "with a peak of 3.8 GB"),
    "docs/concepts/training.md": (
        "| batch 50 | 1.10, 1.03 | 1.55, 1.06 | 2.89, 1.14 | 1.05, 1.02 | 1.06, 1.02 |",
        "| batch 100 | 1.24, 1.04 | 2.28, 1.08 | 5.40, 1.21 | 1.11, 1.02 | 1.16, 1.02 |",
        "took 4.5 s and the next ones 3.8 s, on one core of an Intel Xeon; without them it took "
        "9.2 s. On foursquare_nyc, whose later epochs take 0.3 s, the first took 2.1 s, and 12.4 s "
        "without",
        "4.5 s of it for compiling; the next start takes 1.8 s.",
    ),
    "docs/concepts/tuning.md": (
        "miss the best value by over 2 %",
        "| median, after 3 complete trials, from epoch 2 (the default) | 105, 98 | 1 %, 7 % |",
        "| median, after 3, from epoch 1 | 86, 80 | 12 %, 12 % |",
        "| median, after 3, from epoch 3 | 119, 116 | 1 %, 0 % |",
        "| median, after 5, from epoch 2 | 120, 114 | 1 %, 7 % |",
        "| 92, 91 | 11 %, 12 % |",
        "| 115, 114 | 4 %, 1 % |",
        "| 103, 103 | 19 %, 15 % |",
    ),
    "docs/how-to/gpu.md": ("(4.9 GB)",),
}


def claims() -> Iterator[Claim]:
    """Yield the claims of all these pages."""
    yield from _beyond_the_paper()
    yield from _benchmark()
    yield from _report()
    scores = pl.read_csv(RESULTS / "scores.csv").filter(column=BASKETS, metric="recall", cutoff=5)
    means = dict(scores.group_by("row").agg(pl.col("value").mean()).iter_rows())
    yield Claim(
        "experiments/flags/journey.flags",
        "counting what a household buys (PPOP) does better",
        means["ppop"] > means["hrnn_init_small"],
    )


def _beyond_the_paper() -> Iterator[Claim]:
    row = "cross-entropy of 1000 negatives"
    yield Claim(
        BEYOND,
        f"on Deskdrop, which has {comparison().columns[READING].cells['items']} items, 1,000 drawn "
        "items do not differ significantly from the full softmax.",
        none_significant(row, READING),
    )
    row, logs = "mean over valid lanes", (NEWS, CHECK_INS, READING)
    yield Claim(
        BEYOND,
        "`valid` lowers both metrics significantly on the three logs of the comparison where it "
        "was tried",
        all_significant(row, *logs, metrics=METRICS)
        and max(change(log, row, metric) for log in logs for metric in METRICS) < 0
        and not was_run(BASKETS, row),
    )


def _benchmark() -> Iterator[Claim]:
    rows = record.read(RESULTS / "benchmark.json")
    preprocessing, memory = rows["preprocessing/time"], rows["memory_run"]
    assert isinstance(preprocessing, record.Row)
    assert isinstance(memory, record.Row)
    assert preprocessing.ratio is not None
    yield Claim(
        "docs/concepts/preparing.md",
        f"is read, cut, filtered, split and written in {preprocessing.ratio.median:.2f} times the "
        "time that polars takes to read and sort the file, with a peak of "
        f"{benchmark('preprocessing/memory') / 1e9:.1f} GB",
    )
    yield Claim(
        "docs/concepts/training.md",
        f"whose tables and AdaGrad state take {memory.floor[0] / 1e9:.2f} GB, peaks at "
        f"{benchmark('memory_run') / 1e9:.2f} GB.",
    )


def _report() -> Iterator[Claim]:
    runs = pl.read_csv(RESULTS / "runs.csv", infer_schema=False)
    of_row = runs.group_by("column", "row").agg(pl.col("stopped").fill_null("").max())
    stopped = dict(of_row.select(pl.concat_str("column", "row", separator=" "), "stopped").rows())
    found = []
    for form in (EQUATIONS, CODE_2017):
        large = {key for key, row in ROWS.items() if row.section == f"{form}, large"}
        of_form = [
            bool(text)
            for key, text in stopped.items()
            if (row := key.split()[1]) in large and ROWS[row].is_hrnn
        ]
        found.append(f"{sum(of_form)} of {len(of_form)} by the {form}")
    loss = re.match(r"loss ([\d.]+) in epoch 1", stopped["xing hrnn_init_large"] or "")
    trained = ("xing hrnn_init_2017_large", "video hrnn_init_large", "video hrnn_init_2017_large")
    yield Claim(
        BEYOND,
        "on the simulated XING shape the loss of HRNN Init with 500 units is "
        f"{loss and loss[1]} after the first epoch, above 1, that of constant scores, and with "
        "`--leak=carried` it trains; on the simulated VIDEO shape it trains in both forms.",
        not any(stopped[key] for key in trained),
    )
    yield Claim(
        "experiments/results/report.md",
        f"Of the large HRNNs in these results, these did not train: {', '.join(found)}.",
    )
