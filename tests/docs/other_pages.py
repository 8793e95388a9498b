"""The claims of single sentences in other pages, in flag files and in the report."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping

import polars as pl

from experiments.bench import record
from experiments.jobs.paper_rows import CODE_2017, EQUATIONS, ROWS
from experiments.paper.results import read_results

from . import published
from .claims import BASKETS, CHECK_INS, RESULTS, Claim, benchmark, measured

BEYOND = "docs/concepts/beyond_the_paper.md"
# Numbers that are no results: sections of the paper, versions, constants of a method, addresses.
NO_RESULTS = {
    "README.md": ("Apache License 2.0",),
    "docs/concepts/benchmark.md": ("RecBole 1.2.1",),
    "docs/concepts/live.md": ("version 0.1.0",),
    "docs/concepts/paper.md": ("p < 0.01; the sample", "own sessions times 1.5"),
    "docs/how-to/privacy.md": ("version 0.1.0",),
    "docs/concepts/training.md": ("that took 0.1 s or more to compile",),
    "docs/tutorial/minimal_loop.md": ("to expect is 0.81",),  # 0.8 + 0.2 x 5 / 100
    "docs/how-to/moving.md": ("with alpha 0.5",),
    "docs/concepts/reproduction.md": ("at most 15% of the shipped mean",),
    "docs/how-to/public_logs.md": ("a 10% sample", "arXiv:2410.03432", "84.51°", "doi:10.32614"),
}


def claims() -> Iterator[Claim]:
    """Yield the claims of all these pages."""
    yield from _benchmark()
    yield from _report()
    yield from _flag_files()
    yield from _scaling()
    beauty = published.over_users(published.read(RESULTS / "protocols/beauty.csv"))
    of_sr = beauty.filter(row="SR", trains_on_validation=True)["ndcg@10"].item()
    yield Claim(
        "docs/concepts/protocols.md",
        "SR then has a larger NDCG@10 than every published row.",
        (beauty.filter(origin="published")["ndcg@10"] < of_sr).all(),
    )
    [plus] = beauty.filter(row="hrnn_plus").iter_rows(named=True)
    rivals = beauty.filter(origin="published")
    trained = [int(epochs) for epochs in plus["trained"].split()]
    yield Claim(
        "docs/concepts/protocols.md",
        "By NDCG@10 it is ahead of every published row of the table, by Recall@10 behind two.",
        (rivals["ndcg@10"] < plus["ndcg@10"]).all()
        and (rivals["recall@10"] > plus["recall@10"]).sum() == 2,
    )
    yield Claim(
        "docs/concepts/protocols.md",
        f"of at most {plus['epochs']} its held-out events chose {min(trained)} to {max(trained)}.",
        max(trained) < plus["epochs"] and plus["seeds"] == 5,
    )
    as_published = beauty.filter(trains_on_validation=False)
    [residual] = as_published.filter(row="hrnn_plus, with a residual connection").iter_rows(
        named=True
    )
    yield Claim(
        "docs/concepts/protocols.md",
        f"a dropout of 0.5 and {residual['epochs']} epochs it is ahead of every published row by "
        "both.",
        all((rivals[metric] < residual[metric]).all() for metric in published.METRICS)
        and residual["command"].count("=0.5") == 2
        and residual["seeds"] == 5,
    )
    whole_states = "hrnn_plus, with a residual connection, without recurrent dropout"
    [whole] = as_published.filter(row=whole_states).iter_rows(named=True)
    yield Claim(
        "docs/concepts/protocols.md",
        "Without [recurrent dropout](beyond_the_paper.md#the-other-options) both metrics are "
        "higher again",
        all(whole[metric] > residual[metric] for metric in published.METRICS)
        and whole["seeds"] == 5,
    )
    toys = published.over_users(published.read(RESULTS / "protocols/toys.csv"))
    [rival] = toys.filter(origin="published").iter_rows(named=True)
    ours = toys.filter(pl.col("row").str.starts_with("hrnn_plus"))
    of_beauty = [row["command"].replace("Beauty", "Toys_and_Games") for row in (residual, whole)]
    yield Claim(
        "docs/concepts/protocols.md",
        "hrnn_plus is ahead of the published row by both metrics in each of its rows.",
        all((ours[metric] > rival[metric]).all() for metric in published.METRICS)
        and ours["seeds"].to_list() == [5, 5, 5]
        and ours["command"].to_list()[1:] == of_beauty,
    )
    of_row = dict(beauty.filter(trains_on_validation=False).select("row", "recall@10").iter_rows())
    yield Claim(
        "docs/concepts/protocols.md",
        "Nearest neighbours do badly without it",
        of_row["VSTAN"] < of_row["VSTAN, without the user's items"]
        and max(of_row[name] for name in ("STAN", "V-SKNN", "V-SKNN_BR")) < of_row["Markov"],
    )
    scores = pl.read_csv(RESULTS / "scores.csv").filter(column=BASKETS, metric="recall", cutoff=5)
    means = dict(scores.group_by("row").agg(pl.col("value").mean()).iter_rows())
    yield Claim(
        "experiments/flags/journey.flags",
        "counting what a household buys (PPOP) does better",
        means["ppop"] > means["hrnn_init_small"],
    )


def _flag_files() -> Iterator[Claim]:
    shipped, public = (read_results(RESULTS / folder).stopped for folder in ("", "public_logs"))
    loss = float(public[CHECK_INS, "hrnn_all_2017_large"].split()[1])
    yield Claim(
        "experiments/flags/hrnn_all_large.flags",
        "With Eq. 5 whole # (--user_input=full) these settings do not train there either: the loss "
        f"of the first epoch is {loss:.2f}, above # that of constant scores (one seed).",
        (CHECK_INS, "hrnn_all_gates_large") in public
        and (CHECK_INS, "hrnn_all_gates_2017_large") not in public,
    )
    yield Claim(
        "experiments/flags/hrnn_init_large.flags",
        "these settings train on some logs only: on the VIDEO # shape, but not on the XING shape "
        "and check-ins in New York",
        ("xing", "hrnn_init_large") in shipped
        and ("video", "hrnn_init_large") not in shipped
        and (CHECK_INS, "hrnn_init_large") in public,
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
    yield from _benchmark_notes(rows)
    cold, warm = benchmark("start/cold"), benchmark("start/warm")
    yield Claim(
        "docs/concepts/training.md",
        f"a first start on the prepared VIDEO shape takes {cold:.1f} s to the end of the first "
        f"chunk, and the next one {warm:.1f} s",
    )
    jobs = rows["seeds/jobs"]
    assert isinstance(jobs, record.Row)
    assert jobs.ratio is not None
    yield Claim(
        "docs/concepts/reproduction.md",
        "On two cores, two runs with one thread each are "
        f"{jobs.ratio.median:.2f} times as fast as one after the other",
    )
    yield Claim(
        "docs/concepts/training.md",
        f"whose tables and AdaGrad state take {memory.floor[0] / 1e9:.2f} GB, peaks at "
        f"{benchmark('memory_run') / 1e9:.2f} GB.",
    )


def _benchmark_notes(rows: Mapping[str, record.Row | record.Sweep]) -> Iterator[Claim]:
    def claim(text: str, holds: bool = True) -> Claim:
        return Claim("experiments/results/benchmark_notes.md", text, holds)

    def curve(sweep: str, panel: str, name: str) -> dict[float, float]:
        found = rows[sweep]
        assert isinstance(found, record.Sweep)
        return {x: statistics.median(values) for x, values in found.panels[panel][name]}

    ranking, schedule = rows["evaluation/ranking"], rows["schedule"]
    assert isinstance(ranking, record.Row)
    assert isinstance(schedule, record.Row)
    assert ranking.ratio is not None
    assert schedule.ratio is not None
    yield claim(f"**Ranking** is at {ranking.ratio.median:.2f} times its floor with one thread")
    yield claim(
        f"**The schedule** costs {schedule.ratio.median:.0f} times as much as copying its arrays: "
        f"{benchmark('schedule'):.1f} s for an epoch of two minutes."
    )
    step = curve("scaling_items", "microseconds a step", "a training step")
    yield claim(
        f"Between 1,000 and 380,000 items this costs about {step[380_000] - step[1_000]:.0f} us, "
        "most of it before 60,000 items: from there on no row is in the cache anyway. 1,000,000 "
        f"items cost {100 * (step[1_000_000] / step[60_000] - 1):.0f} % more than 60,000.",
        step[60_000] - step[1_000] > step[380_000] - step[60_000],
    )
    case = curve("scaling_items", "microseconds a test case", "evaluation, histories included")
    yield claim(f"({case[380_000]:,.0f} us at 380,000, {case[1_000_000]:,.0f} us at 1,000,000)")
    lane = curve("scaling_batch", "microseconds a lane", "a training step")
    falling = [lane[width] for width in (25, 50, 100, 200, 400)]
    yield claim(
        "up to 400 lanes, a lane costs less the more lanes there are. At 800 a lane costs more",
        falling == sorted(falling, reverse=True) and lane[800] > lane[400],
    )
    whole, products = (
        curve("scaling_units", "microseconds a step", name)
        for name in ("a training step", "its matrix products")
    )
    a, b, c = (f"{whole[units] / products[units]:.1f}" for units in (50, 200, 500))
    yield claim(
        f"The step is {a} times as long as they are at 50 units and {b} times at 200; at 500 it "
        f"is {c} times"
    )
    seconds = curve("scaling_events", "seconds", "schedule")
    yield claim(
        f"The schedule takes {seconds[10_000_000] / seconds[3_300_000]:.0f} times as long at 10 "
        "million events as at 3.3 million"
    )
    waits = ", ".join(f"{1e3 * wait:.1f}" for wait in measured("serving/p99")[:4])
    last = f"{1e3 * measured('serving/p99')[4]:.1f}"
    yield claim(f"The 99th percentiles of the five windows were {waits} and {last} ms")


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


def _scaling() -> Iterator[Claim]:
    """Yield what docs/scaling.md says was measured on one H100."""
    few, many = (benchmark(f"gpu/small/{lanes}") for lanes in (50, 4096))
    yield Claim("docs/scaling.md", f"a step takes {50 / few * 1e6:.0f} microseconds beside")
    yield Claim(
        "docs/scaling.md",
        f"One H100 by itself took {4096 / many * 1e6:.0f} microseconds for 4,096 lanes, measured "
        f"with 60,000 items: {many / 1e6:.1f} million events a second.",
    )
