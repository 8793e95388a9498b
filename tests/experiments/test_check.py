"""What the check of a fresh Table 3 accepts, refuses and names."""

import pathlib

import polars as pl
import pytest

import experiments
from experiments import check
from experiments.common.text import Spread

SHIPPED = pathlib.Path(experiments.__file__).parent / "results"
STOPPED = "loss 1.0530 in epoch 1"


def table(values, *, titles=(("mine", "journey"),), stopped=()):
    """What a folder has: values by (column, row, metric), one for each of seeds 0, 1, ..."""
    found = {}
    for (column, row, metric), of_seeds in values.items():
        found.setdefault((column, row), {})[metric] = dict(enumerate(of_seeds))
    return check.Table3(dict(titles), found, dict(stopped))


def write(folder, *, scores=(), stopped=(), title="journey", rates=()):
    """Write what `check` reads: scores as (row, seed, recall), stopped as (row, text).

    rates: the learning rates that searches chose, as (row, rate).
    """
    folder.mkdir()
    lines = [("mine", row, seed, "recall", 5, value) for row, seed, value in scores]
    names = ["column", "row", "seed", "metric", "cutoff", "value"]
    pl.DataFrame(lines, schema=names, orient="row").write_csv(folder / "scores.csv")
    pl.DataFrame({"column": ["mine"], "key": ["title"], "value": [title]}).write_csv(
        folder / "data.csv"
    )
    best = [("mine", row, 12, 0.5, "learning_rate", rate) for row, rate in rates]
    names = ["column", "row", "trials", "value", "key", "setting"]
    pl.DataFrame(best, schema=names, orient="row").write_csv(folder / "chosen.csv")
    runs = {
        "column": ["mine"] * len(stopped),
        "row": [row for row, _ in stopped],
        "seed": [0] * len(stopped),
        "stopped": [text for _, text in stopped],
    }
    others = ("cases", "train_seconds", "train_events_per_second", "eval_cases_per_second")
    others += ("commit", "machine", "finished")
    pl.DataFrame(runs | dict.fromkeys(others, [None] * len(stopped))).write_csv(folder / "runs.csv")
    return folder


def test_tolerances_by_hand():
    # Sample std of 0.49, 0.5, 0.51 is 0.01; of two seeds in both: 4 * 0.01 * sqrt(2 / 2) + 0.002.
    assert check.tolerance(0.5, Spread((0.49, 0.5, 0.51)), 2, True) == pytest.approx(0.042)
    assert check.tolerance(0.15, Spread((0.1, 0.2, 0.3)), 2, True) == pytest.approx(0.15 * 0.15)
    assert check.tolerance(0.5, Spread((0.5,)), 1, True) == pytest.approx(0.03)
    assert check.tolerance(0.014, Spread((0.014,)), 1, True) == pytest.approx(0.15 * 0.014)
    assert check.tolerance(0.5, Spread((0.5,)), 1, False) == 0.0005


def test_means_are_over_the_seeds_that_both_have():
    place = ("mine", "rnn_small", "recall")
    shipped = table({place: [0.016, 0.006, 0.014]})
    [cell] = check.compare(shipped, table({place: [0.016, 0.0064]}))
    assert (cell.shipped, cell.fresh, cell.holds) == ("0.0110", "0.0112", True)
    # 0.0120 is the mean of all three shipped seeds: 8% from 0.0130, which is 18% from the mean of
    # the first two.
    [cell] = check.compare(shipped, table({place: [0.016, 0.010]}))
    assert (cell.shipped, cell.fresh, cell.holds) == ("0.0110", "0.0130", False)


def test_a_row_that_trains_with_some_seeds_only_is_named_and_not_compared():
    # Means 0.1, sample standard deviations of two values 2 * d / sqrt(2): 0.0495 and 0.0509.
    settled, loose = ("mine", "rnn_small"), ("mine", "hrnn_all_small")
    values = {settled: [0.065, 0.135], loose: [0.064, 0.136], ("mine", "ppop"): [0.0, 0.2]}
    shipped = table({(*place, "recall"): of for place, of in values.items()})
    assert check.unsettled(shipped) == {loose}
    assert check.comparable(shipped, shipped) == {settled, ("mine", "ppop")}
    assert list(check.not_compared(shipped, shipped)) == [
        "not compared, trains with some of the shipped seeds only: hrnn_all_small (mine)"
    ]


def test_a_tuned_row_is_compared_only_with_one_of_the_same_settings(tmp_path):
    scores = [("rnn_small", 0, 0.5), ("rnn_tuned_large", 0, 0.5)]
    shipped = check.read(write(tmp_path / "a", scores=scores, rates=[("rnn_tuned_large", 0.1)]))
    other = check.read(write(tmp_path / "b", scores=scores, rates=[("rnn_tuned_large", 0.2)]))
    same = {("mine", "rnn_small"), ("mine", "rnn_tuned_large")}
    assert check.comparable(shipped, shipped) == same
    assert check.comparable(shipped, other) == {("mine", "rnn_small")}
    assert list(check.not_compared(shipped, shipped)) == []
    assert list(check.not_compared(shipped, other)) == [
        "not compared, another trial was the best: rnn_tuned_large (mine)"
    ]


def test_a_network_that_learns_nothing_fails_in_every_cell():
    """Against the shipped results, whatever their means are; others than these are named."""
    shipped = check.read(SHIPPED)
    broken = {
        (*place, metric): [0.0] * len(of) if place[1] in check.NETWORKS else list(of.values())
        for place, by_metric in shipped.values.items()
        for metric, of in by_metric.items()
    }
    fresh = table(broken, titles=shipped.titles.items(), stopped=shipped.stopped.items())
    fresh = fresh._replace(chosen=shipped.chosen)
    cells = list(check.compare(shipped, fresh))
    assert {cell.name for cell in cells if not cell.holds} == {
        f"{column} {row}"
        for column, row in shipped.values.keys() - check.unsettled(shipped)
        if row in check.NETWORKS
    }
    assert all(
        cell.holds == (cell.name.split()[1] not in check.NETWORKS)
        for cell in cells
        if cell.metric != "training"
    )
    assert all(cell.holds for cell in check.compare(shipped, shipped))


@pytest.mark.parametrize("one_stopped", [(True, True), (True, False), (False, True)])
def test_a_row_that_did_not_train_agrees_with_such_a_row_alone(one_stopped):
    place = ("mine", "hrnn_init_large")
    folders = [
        table({}, stopped=[(place, f"{STOPPED}{n}")])
        if stopped
        else table({(*place, "recall"): [0.3]})
        for n, stopped in enumerate(one_stopped)
    ]
    [cell] = check.compare(*folders)
    assert cell.holds == all(one_stopped)
    texts = (cell.shipped, cell.fresh)
    for n, (text, stopped) in enumerate(zip(texts, one_stopped, strict=True)):
        assert text == (f"did not train: {STOPPED}{n}" if stopped else "trained: recall@5 0.3000")


def test_a_metric_that_is_missing_does_not_hold():
    shipped = table({("mine", "ppop", "recall"): [0.3], ("mine", "ppop", "mrr"): [0.3]})
    fresh = table({("mine", "ppop", "recall"): [0.3]})
    assert {cell.metric: cell.holds for cell in check.compare(shipped, fresh)} == {
        "recall@5": True,
        "mrr@5": False,
    }


def test_cells_that_are_not_compared_are_named_by_row():
    titles = [("a", "one"), ("b", "two"), ("c", "three")]
    shipped = table(
        {(column, "rnn_small", "recall"): [0.3] for column in "abc"},
        titles=titles,
        stopped=[((column, "hrnn_init_large"), STOPPED) for column in "ab"],
    )
    fresh = table(
        {("a", "rnn_small", "recall"): [0.3], ("c", "sr", "recall"): [0.3]},
        titles=[*titles[:2], ("c", "another log")],
    )
    assert [cell.name for cell in check.compare(shipped, fresh)] == ["a rnn_small"]
    assert list(check.not_compared(shipped, fresh)) == [
        "not compared, other data: c (shipped: three; fresh: another log)",
        "not compared, only shipped: hrnn_init_large (a, b); rnn_small (b)",
    ]


@pytest.mark.parametrize(
    ("fresh", "title", "code", "words"),
    [
        ([0.1], "journey", 0, "2 of 2 cells"),
        ([0.12], "journey", 1, "OUT OF TOLERANCE"),
        ([0.1], "another log", 2, "nothing to check; not compared, other data: mine"),
    ],
)
def test_the_command_fails_on_a_number_out_of_tolerance(call, tmp_path, fresh, title, code, words):
    shipped = write(
        tmp_path / "shipped",
        scores=[*[("rnn_small", n, 0.1 + n / 100) for n in range(3)], ("rnn_large", 0, 0.2)],
        stopped=[("hrnn_init_large", STOPPED)],
    )
    found = write(
        tmp_path / "fresh",
        scores=[("rnn_small", n, value) for n, value in enumerate(fresh)],
        stopped=[("hrnn_init_large", STOPPED)],
        title=title,
    )
    ended, out, err = call(check.main, f"--shipped={shipped}", f"--fresh={found}")
    assert ended == code
    assert words in out + err
    assert ("not compared, only shipped: rnn_large (mine)" in out) == (code != 2)


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"scores\.csv"):
        check.read(tmp_path)
