"""The claims of docs/how-to/speed.md."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from experiments.bench import record
from experiments.bench.peers.contenders import CONTENDERS
from experiments.bench.service.longest_wait import ATTACKS

from .claims import RESULTS, Claim, benchmark, measured

PAGE = "docs/how-to/speed.md"


def claims() -> Iterator[Claim]:
    """Yield the claims of the page, in its order."""
    for text, holds in (*_runs(), *_peers(), *_service(), *_gpu()):
        yield Claim(PAGE, text, holds)


def _runs() -> Iterator[tuple[str, bool]]:
    seconds = {
        part: [benchmark(f"users/{shape}_{part}") for shape in ("xing", "video")]
        for part in ("training", "evaluation", "whole")
    }
    a, b = seconds["training"]
    yield f"| training, 10 epochs | {a:.0f} s | {b:.0f} s |", True
    a, b = seconds["evaluation"]
    yield (
        f"| ranking all test cases among all items | {a:.1f} s (52,516 cases) | {b:.1f} s (70,052 "
        "cases) |",
        True,
    )
    a, b = seconds["whole"]
    yield f"| the whole command, from a prepared log | {a:.0f} s | {b:.0f} s |", True


def _peers() -> Iterator[tuple[str, bool]]:
    def rate(model: str, what: str = "training") -> str:
        return f"{round(benchmark(f'peers/video/{model}/{what}'), -2):,.0f}"

    yield (
        f"RNN small trains {rate('rnn_softmax')} events/s where RecBole's GRU4Rec trains "
        f"{rate('recbole_gru4rec')}, and hrnn_plus {rate('hrnn_plus')} where RecTools' SASRec "
        f"trains {rate('rectools_sasrec')}; hrnn_plus ranks {rate('hrnn_plus', 'ranking')} "
        f"cases/s, RecTools' SASRec {rate('rectools_sasrec', 'ranking')}.",
        True,
    )

    memory = {
        contender.key: benchmark(f"peers/video/{contender.key}/peak memory")
        for contender in CONTENDERS
    }
    larger = [key for key, value in memory.items() if value > memory["hrnn_plus"]]
    yield (
        f"the largest memory of all but RecBole's SASRec, {memory['hrnn_plus'] / 1e9:.1f} GB",
        larger == ["recbole_sasrec"],
    )


def _service() -> Iterator[tuple[str, bool]]:
    half, most, start = (benchmark(f"serving/{name}") for name in ("p50", "p99", "start"))
    memory = benchmark("serving/growth")
    yield (
        f"half are answered within {1e3 * half:.1f} ms, 99 % within {1e3 * most:.0f} ms",
        True,
    )
    waits = sorted(measured("serving/p99"))
    yield (
        f"({1e3 * waits[3]:.0f} and {1e3 * waits[4]:.0f} ms in the two of five minutes in which",
        len(waits) == 5,
    )
    yield f"{round(memory / 1e6, -1):.0f} MB of memory, ready {start:.1f} s after the start", True
    yield (
        f"get {benchmark('throughput/rate'):,.0f} mixed requests a second, half of them events",
        benchmark("throughput/rate_memory") > benchmark("throughput/rate"),
    )
    yield f"and {benchmark('throughput/rate_memory'):,.0f} with the state file in memory", True
    p90 = 1e3 * benchmark("throughput/p90")
    yield f"with a 90th percentile of {p90:.2f} ms", p90 < 7
    missed = 1 - benchmark("throughput/rate") / 1_000
    yield "on disk it is missed by a twentieth", round(20 * missed) == 1
    index = record.read(RESULTS / "benchmark.json")["index/rate"]
    assert isinstance(index, record.Row)
    yield f"makes {benchmark('index/rate'):,.0f} lists a second of a made catalogue", True
    yield (
        f"all scores make {statistics.median(index.floor):,.0f}, and finds all of the best ten; it "
        f"is made in {benchmark('index/made'):.0f} s",
        benchmark("index/recall") == 1,
    )
    others = ("compiling", "forgetting", "reload")
    waits = [measured(f"longest_wait/{name}") for name in (*ATTACKS, *others)]
    yield (
        "another one waits for less than 50 ms",
        all(statistics.median(each) < 0.05 for each in waits),
    )


def _gpu() -> Iterator[tuple[str, bool]]:
    few, many = (benchmark(f"gpu/small/{batch}") for batch in (50, 4096))
    plus = {part: benchmark(f"gpu/plus_60000/{part}") for part in ("training", "ranking")}
    yield (
        f"HRNN Init small trains {round(few, -3):,.0f} events/s in batches of 50 and "
        f"{many / 1e6:.1f} million in batches of 4,096. hrnn_plus with 512 drawn negatives trains "
        f"{round(plus['training'], -3):,.0f} and ranks {round(plus['ranking'], -3):,.0f} cases/s. "
        f"In batches of 50 the device computes {benchmark('gpu/profile/busy'):.0%} of the time.",
        True,
    )
