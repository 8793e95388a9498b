"""The tuned comparison: its report of hand-made numbers, and the whole command."""

import csv
import json
import os
import pathlib
import re
import subprocess
import sys

import polars as pl
import pytest

from experiments.leaderboard import collect
from experiments.leaderboard import report as leaderboard_report
from experiments.paper.results import COMPARISON_FILES, FILES
from experiments.tuning import search_spaces
from hrnn_jax import errors
from tests.helpers import logs

ROOT = pathlib.Path(__file__).parents[2]
HEADS = {
    name: [name for schema in FILES[name] for name in schema]
    for name in ("data", *COMPARISON_FILES)
}
DATA = {"title": "log.csv", "data": "real", "command": "make it", "trials": "4", "epochs": "7"}


def scores(row, recall, mrr, column="one"):
    """A line for each seed of Recall@5 and MRR@5."""
    return [
        (column, row, seed, metric, 5, value)
        for metric, values in (("recall", recall), ("mrr", mrr))
        for seed, value in enumerate(values)
    ]


def p_values(row, recall, mrr, column="one"):
    return [(column, f"{m}@5", "hrnn_plus", row, p) for m, p in (("recall", recall), ("mrr", mrr))]


@pytest.fixture
def written(tmp_path):
    """Write the report of hand-made CSV files; returns its text."""

    def call(**lines):
        lines = {"data": [("one", key, value) for key, value in DATA.items()], **lines}
        for name, head in HEADS.items():
            with (tmp_path / f"{name}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([head, *lines.get(name, ())])
        return leaderboard_report.write(tmp_path).read_text()

    return call


def line(text, row):
    """The cells of a row's first line."""
    found = next(line for line in text.splitlines() if line.startswith(f"| {row} |"))
    return found.split(" | ")[1:]


def test_the_best_mean_is_bold_and_the_winner_is_named(written):
    text = written(
        scores=[
            *scores("sr", [0.5], [0.3]),
            *scores("rnn", [0.35, 0.45], [0.1, 0.1]),
            *scores("hrnn_plus", [0.5, 0.6], [0.2, 0.3]),
            # Not a rival but a change of hrnn_plus.
            *scores("without repeat and explore", [0.9, 0.9], [0.9, 0.9]),
        ],
        significance=[*p_values("sr", 0.2, 0.00001), *p_values("rnn", 0.01, 0.01)],
    )
    assert line(text, r"hrnn\_plus") == ["**0.5500** ± 0.0707", "0.2500 ± 0.0707 |"]
    assert line(text, "SR") == ["*0.5000*", "**0.3000**▴ |"]  # no significant difference; better
    assert line(text, "RNN") == ["0.4000▾ ± 0.0707", "0.1000▾ ± 0.0000 |"]
    assert (
        r"hrnn\_plus is ahead in Recall@5 alone: Recall@5 0.5500 against 0.5000 of SR (+10" in text
    )
    assert "not significantly, p = 0.2" in text
    assert r"MRR@5 0.2500 against 0.3000 of SR (-16.7%, p \< 0.0001)" in text


def test_a_log_without_repeats_is_ranked_without_the_items_of_the_session(written):
    """Bugs: mark by the tests of the other ranking, or leave out the ranks of all items."""
    of_all = [*scores("sr", [0.7], [0.6]), *scores("hrnn_plus", [0.5], [0.5])]
    of_all += [*scores("sr", [0.3], [0.3], "two"), *scores("hrnn_plus", [0.2], [0.2], "two")]
    without = [*scores("sr", [0.4], [0.3]), *scores("hrnn_plus", [0.5], [0.45])]
    lines = {
        "data": [(log, key, value) for log in ("one", "two") for key, value in DATA.items()],
        "scores": of_all,
        "significance": [*p_values("sr", 0.01, 0.01), *p_values("sr", 0.9, 0.9, "two")],
        "without_session_items": without,
    }
    text = written(**lines)
    first, _, second = text.partition("## All items ranked")
    assert line(first, "SR") == ["0.4000", "0.3000", "**0.3000**", "**0.3000** |"]
    assert "without marks: one." in first
    assert "On one, whose recipe drops repeats, the items that the session has so far" in first
    assert "0.5000 against 0.4000 of SR (+25.0%, not tested)" in first
    assert line(second, "SR") == ["**0.7000**▴", "**0.6000**▴ |"]
    tests = p_values("sr", 0.02, 0.2)
    first, _, second = written(**lines, significance_without_session_items=tests).partition(
        "## All items ranked"
    )
    assert line(first, "SR")[:2] == ["0.4000▾", "*0.3000*"]
    assert "without marks" not in first
    assert line(second, "SR") == ["**0.7000**▴", "**0.6000**▴ |"]
    assert "All items ranked" not in written(**lines | {"without_session_items": []})


def test_rows_that_do_not_differ_from_the_best_are_marked(written):
    """Bugs: mark by the tests against hrnn_plus alone, or what was not tested."""
    against_best = [
        ("one", "recall@5", "sr", "markov", 0.3),
        ("one", "recall@5", "sr", "rnn", 0.01),
    ]
    text = written(
        scores=[
            line
            for row, value in {"sr": 0.6, "markov": 0.58, "rnn": 0.5, "ppop": 0.4}.items()
            for line in scores(row, [value], [value])
        ]
        + scores("hrnn_plus", [0.59], [0.7]),
        significance=[*p_values("sr", 0.2, 0.001), *p_values("rnn", 0.01, 0.2), *against_best],
    )
    assert line(text, "SR") == ["**0.6000**", "0.6000▾ |"]
    assert line(text, "Markov") == ["*0.5800*", "0.5800 |"]
    assert line(text, "RNN") == ["0.5000▾", "*0.5000* |"]
    assert line(text, "PPOP") == ["0.4000", "0.4000 |"]
    assert (
        r"Not tested against hrnn\_plus, and so without marks: PPOP on one, Markov on one." in text
    )
    assert line(text, r"hrnn\_plus") == ["*0.5900*", "**0.7000** |"]
    assert "Not yet run: Item-KNN, V-SKNN," in text
    assert "Not yet run: Item-KNN, SR" not in text


@pytest.mark.parametrize(
    ("sr", "p", "words"),
    [
        (0.1, (), "is ahead in both: "),
        (0.1, (0.01, 0.001), "is ahead in both, significantly: "),
        (0.1, (0.06, 0.001), "is ahead in both, significantly in MRR@5 alone: "),
        (0.1, (0.06, 0.07), "is ahead in both: "),
        (0.9, (0.01, 0.01), "is ahead in neither: "),
        (None, (), "no comparison: no run of another"),
    ],
)
def test_the_verdict_depends_on_the_numbers_and_their_significance(written, sr, p, words):
    others = [] if sr is None else scores("sr", [sr], [sr])
    tests = p_values("sr", *p) if p else []
    text = written(scores=[*scores("hrnn_plus", [0.5], [0.5]), *others], significance=tests)
    assert words in text


def test_the_verdict_names_all_models_that_do_not_differ_significantly(written):
    """Bug: compare with the model of the best mean alone."""
    text = written(
        scores=[x for row, v in (("sr", 0.4), ("rnn", 0.3)) for x in scores(row, [v], [v])]
        + scores("hrnn_plus", [0.5], [0.5]),
        significance=[*p_values("sr", 0.2, 0.01), *p_values("rnn", 0.3, 0.01)],
    )
    assert "ahead in both, significantly in MRR@5 alone" in text
    assert "No significant difference either from RNN in Recall@5." in text


def test_the_ablation_shows_differences_and_marks(written):
    text = written(
        scores=[
            *scores("hrnn_plus", [0.5], [0.4]),
            *scores("without repeat and explore", [0.3], [0.45]),
            *scores("2 layers", [0.45, 0.0], [0.4, 0.0]),  # of the first seed alone
            *scores("a change of old", [0.5], [0.4]),  # CSV files outlive the code's rows
        ],
        significance=p_values("without repeat and explore", 0.049, 0.051),
    )
    assert line(text, "without repeat and explore") == ["-0.2000▾", "+0.0500 |"]
    assert line(text, "2 layers") == ["-0.0500", "+0.0000 |"]
    assert line(text, "a change of old") == ["+0.0000", "+0.0000 |"]
    assert "each change ran with 1 to 2 seeds." in text


def test_cost_stands_beside_accuracy_and_is_relative_to_hrnn_init(written, tmp_path):
    def run(row, rate, seed=0):
        seconds = 1.0 if rate else ""
        return ("one", row, seed, 9, seconds, rate, 9.0, "c0ffee", "a machine", "now", "")

    text = written(
        scores=[x for row in ("sr", "hrnn_init", "hrnn_plus") for x in scores(row, [0.1], [0.1])],
        runs=[
            run("hrnn_init", 2e5),
            run("hrnn_plus", 1e5),
            run("hrnn_plus", 5e4, 1),
            run("sr", ""),
        ],
    )
    [spent] = re.findall(r"## Cost.*?(?=\*\*Training time by event)", text, re.DOTALL)
    assert line(spent, "HRNN Init") == ["**0.1000**", "**0.1000**", "1 s", "9 |"]
    assert line(spent, "SR") == ["**0.1000**", "**0.1000**", "–", "9 |"]
    svg = (tmp_path / "figures" / "cost.svg").read_text()
    for name in ("SR", "HRNN Init", "hrnn_plus"):
        assert f">{name}</text>" in svg
    assert ">RNN</text>" not in svg
    [costs] = re.findall(r"\*\*Training time by event.*?\n## ", text, re.DOTALL)
    assert line(costs, "HRNN Init") == ["5.0", "1.00 |"]
    assert line(costs, r"hrnn\_plus") == ["15.0", "3.00 |"]
    assert "SR" not in costs
    assert "a machine; 4 runs" in text
    assert "commit c0ffee" in text


def test_chosen_settings_are_shown_with_their_budget(written):
    text = written(
        scores=scores("rnn", [0.1], [0.1]),
        chosen=[
            ("one", "rnn", "learning_rate", 4, 0.25, 0.0123456),
            ("one", "rnn", "epochs", 4, 0.25, 3),
        ],
    )
    chosen = next(line for line in text.splitlines() if "learning" in line)
    assert chosen == r"| RNN | learning\_rate 0.0123, epochs 3 | 4 | 0.2500 |"
    assert "4 trials of at most 7 epochs each" in text


def test_a_curve_is_drawn_for_each_network(written, tmp_path):
    lines = [
        ("one", row, 0, epoch, metric, 0.1 * epoch)
        for row in ("rnn", "hrnn_plus")
        for epoch in (1, 2, 3)
        for metric in ("recall@5", "mrr@5")
    ]
    text = written(scores=scores("rnn", [0.1], [0.1]), curves=lines)
    assert "(figures/learning_one.svg)" in text
    svg = (tmp_path / "figures" / "learning_one.svg").read_text()
    assert ">RNN</text>" in svg
    assert ">hrnn_plus</text>" in svg
    assert ">HRNN All</text>" not in svg
    assert "learning_one" not in written(scores=scores("rnn", [0.1], [0.1]))


def test_a_wrong_file_is_named(written):
    with pytest.raises(errors.InputError, match=r"scores\.csv holds no scores"):
        written()
    with pytest.raises(errors.InputError, match=r"chosen\.csv: .* 'column' .*two"):
        written(scores=scores("rnn", [1], [1]), chosen=[("two", "rnn", "epochs", 1, 1, 1)])


@pytest.fixture
def command(tmp_path):
    """Run experiments.comparison; returns (exit code, output, errors).

    A process of its own: its flags are named like those of other commands.
    """

    def call(*argv):
        found = subprocess.run(
            [sys.executable, "-m", "experiments.comparison", *argv],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=600,
        )
        return found.returncode, found.stdout, found.stderr

    return call


@pytest.mark.parametrize("wrong", ["--trials=many", "--epochs=other=8", "--from=nowhere"])
def test_wrong_flags_are_refused_in_one_line_before_anything_is_written(command, wrong, tmp_path):
    code, _, err = command(wrong)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_networks_are_compared_on_their_common_seeds():
    """Bug: compare a mean over five seeds with one over two."""

    def ranks(*of_seeds):
        lines = [
            (seed, session, 1, rank)
            for seed, found in enumerate(of_seeds)
            for session, rank in enumerate(found)
        ]
        names = ["seed", "session", "position", "rank"]
        return pl.DataFrame(lines, schema=names, orient="row")

    found = collect.tests_against_plus(
        {
            "sr": ranks([1, 1, 9, 9]),
            "hrnn_plus": ranks([1, 1, 2, 2], [9, 9, 9, 9]),
            "without repeat and explore": ranks([1, 1, 2, 2]),
        }
    )
    tests = {(metric, b): (statistic, p) for metric, _, b, _, statistic, p in found}
    assert tests["recall@5", "without repeat and explore"] == (0, 1)  # not one case differs
    # By hand: -1/2 twice against SR, which has no seeds, and +1/2 twice: ranks 1 to 4 are all 2.5.
    assert tests["recall@5", "sr"][0] == 5


def test_rows_are_tested_against_the_best_where_that_is_not_hrnn_plus():
    def ranks(*found):
        lines = [(0, session, 1, rank) for session, rank in enumerate(found)]
        names = ["seed", "session", "position", "rank"]
        return pl.DataFrame(lines, schema=names, orient="row")

    rows = {"sr": ranks(1, 1, 9), "hrnn_plus": ranks(1, 9, 9), "rnn": ranks(9, 9, 9)}
    found = {(metric, a, b) for metric, a, b, *_ in collect.tests_against_best(rows)}
    assert found == {("recall@5", "sr", "rnn"), ("mrr@5", "sr", "rnn")}
    assert not list(collect.tests_against_best(rows | {"hrnn_plus": ranks(1, 1, 1)}))


def made():
    found = pathlib.Path("out/comparison").rglob("metrics.json")
    return {str(path.parent): path.stat().st_mtime_ns for path in found}


def test_a_comparison_resumes_and_reports(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.flags").write_text("--dataset=events\n--min_support=1\n--drop_repeats\n")
    log = logs.write(tmp_path / "log.csv")
    argv = ("--rows=sr,vsknn,hrnn_plus,without repeat and explore", "--n_seeds=1", "--jobs=2")
    argv += ("--trials=1", "--epochs=2")
    code, out, err = command(f"--logs=mine={log}:small.flags", *argv)
    assert code == 0, (out, err)
    first = made()
    assert len(first) == 4 + 3 + 1

    def read(name):
        return pl.read_csv(f"out/comparison/results/{name}.csv")

    for folder in first:
        kind, _, row = pathlib.Path(folder).parts[2:5]
        metrics = json.loads(pathlib.Path(folder, "metrics.json").read_text())
        if kind == "curves":
            assert metrics["split"] == "validation"
            # Of two epochs at most: its held-out sessions choose.
            last = read("curves").filter(metric="mrr@5").sort("epoch")["value"][-1]
            assert last == metrics["mean"]["mrr@5"]
        else:
            is_without = kind == "without_session_items"
            assert metrics["exclude_session_items"] == is_without
            mine = (
                read(kind if is_without else "scores")
                .filter(metric="mrr", cutoff=5)
                .filter(pl.col("row").str.replace_all(" ", "_") == row.rpartition("-")[0])
            )
            assert mine["value"].item() == pytest.approx(metrics["mean"]["mrr@5"])
    assert set(read("significance")["b"]) == {"sr", "vsknn", "without repeat and explore"}
    assert set(read("significance_without_session_items")["b"]) == {"sr", "vsknn"}
    assert set(read("without_session_items")["metric"]) == {"recall", "mrr"}
    by = ("row", "seed", "metric", "cutoff")
    both = read("scores").join(read("without_session_items"), on=by)
    assert (both["value"] <= both["value_right"]).all()  # no target is an item of its session
    assert (both["value"] < both["value_right"]).any()
    of_study = pathlib.Path("out/comparison/tune/mine/vsknn/best.flags").read_text()
    assert "--exclude_session_items" in of_study
    assert set(read("chosen")["row"]) == {"vsknn"}  # the others are not tuned
    assert set(read("chosen")["key"]) == {*search_spaces.BY_NAME["vsknn"]}
    report = pathlib.Path("out/comparison/results/comparison.md").read_text()
    assert str(tmp_path) not in report  # nor the place of the log
    assert 'LOGS="mine=log.csv:small.flags"' in report

    # Finished, and the log was moved: nothing is left to do.
    moved = log.rename(tmp_path / "moved.csv")
    code, out, err = command(f"--logs=mine={moved}:small.flags", *argv)
    assert code == 0, (out, err)
    assert made() == first
    again = "3 of 3 runs without the session's items"
    for done in ("1 of 1 studies", "4 of 4 runs", "1 of 1 learning curves", again):
        assert f"{done} were done before" in out

    results = pathlib.Path("out/comparison/results")
    report = (results / "comparison.md").read_text()
    (results / "comparison.md").unlink()
    assert command(f"--from={results}")[0] == 0  # from the CSV files alone
    assert (results / "comparison.md").read_text() == report


SHIPPED = ROOT / "experiments/results/comparison"


def test_the_shipped_report_is_made_from_the_shipped_files(tmp_path):
    for path in SHIPPED.glob("*.csv"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    found = leaderboard_report.write(tmp_path).read_text()
    assert found == (SHIPPED / "comparison.md").read_text()


def test_files_that_were_edited_are_reported_on_or_refused(tmp_path):
    """Bug: a traceback without any Recall or with nan, and a rate of inf."""
    for path in SHIPPED.glob("*.csv"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    scores = tmp_path / "scores.csv"
    lines = scores.read_text().splitlines(keepends=True)
    scores.write_text("".join(line for line in lines if ",recall," not in line))
    assert "; each change ran with" not in leaderboard_report.write(tmp_path).read_text()
    for name, column, value, says in (
        ("runs", "eval_cases_per_second", "0", "eval_cases_per_second is 0.0 in the line"),
        ("runs", "train_events_per_second", "inf", "train_events_per_second is inf in the line"),
        ("runs", "train_seconds", "nan", "train_seconds is nan in the line"),
        ("chosen", "value", None, "value is None in the line"),
        ("chosen", "trials", None, "trials is None in the line"),
        ("significance", "p", "inf", "p is inf in the line"),
    ):
        path = tmp_path / f"{name}.csv"
        frame, whole = pl.read_csv(path, infer_schema=False), path.read_bytes()
        first = pl.int_range(pl.len()) == 0
        frame.with_columns(
            pl.when(first).then(pl.lit(value)).otherwise(column).alias(column)
        ).write_csv(path)
        with pytest.raises(errors.InputError, match=rf"{name}\.csv: {says}"):
            leaderboard_report.write(tmp_path)
        path.write_bytes(whole)
