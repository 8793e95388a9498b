"""What a comparison says of the test cases, and which runs it refuses to compare."""

import dataclasses
import json
import pathlib

import pytest

from experiments import compare
from hrnn_jax.config import DataConfig
from hrnn_jax.errors import InputError
from hrnn_jax.files.recipe_formats import RECIPE_FORMAT


@pytest.fixture
def run_of(tmp_path):
    """Make the folder of a finished run on a log that was prepared with some settings."""

    def make(name, **settings):
        folder = tmp_path / name
        folder.mkdir()
        data = dataclasses.asdict(DataConfig(**settings))
        metrics = {
            "name": "PPOP",
            "data": "events",
            "title": "log.csv",
            "split": data["split"],
            "mean": {"cases": 7, "recall@5": 0.5, "mrr@5": 0.25},
            "std": {},
        }
        recipe = {"format": RECIPE_FORMAT, "data": f"log-{name}", "model": {"name": "ppop"}}
        files = {"metrics.json": metrics, "recipe.json": recipe, "data.json": {"recipe": data}}
        for file, content in files.items():
            (folder / file).write_text(json.dumps(content))
        return str(folder)

    return make


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "7 test cases, the next item in each user's last session\n"),
        ({"task": "last_item"}, "7 test cases, each user's last item in each user's last session"),
        ({"protocol": "leave_one_out"}, "7 test cases, each user's last event\n"),
        ({"protocol": "global_time", "test_days": 2.0}, "the next item in the last 2 days\n"),
        ({"protocol": "given"}, "7 test cases, the next item in the test part of the log\n"),
        ({"split": "validation"}, "7 validation cases, the next item in each user's last session,"),
    ],
)
def test_the_headline_says_what_was_held_out(run_of, capsys, settings, says):
    """Bug: call all test cases the next items in each user's last session."""
    compare.main([run_of("run", **settings)])
    assert says in capsys.readouterr().out


@pytest.mark.parametrize(
    "settings", [{"protocol": "leave_one_out"}, {"split": "validation"}, {"task": "last_item"}]
)
def test_runs_of_other_test_cases_are_refused_for_equal_counts_too(run_of, settings):
    """Bug: tell test cases apart by their number."""
    folders = [run_of("one"), run_of("other", **settings)]
    with pytest.raises(InputError, match=r"^these runs have different test cases: "):
        compare.main(folders)


def test_a_run_without_the_cutoffs_of_the_first_one_is_named_with_its_own(run_of, capsys):
    """Bug: a row of dashes, and no word of why."""
    folders = [run_of("one"), run_of("other")]
    path = pathlib.Path(folders[1], "metrics.json")
    path.write_text(path.read_text().replace("@5", "@10"))
    compare.main(folders)
    out = capsys.readouterr().out
    assert f"1: {folders[0]}\n" in out
    assert f"2: {folders[1]}, ranked with --cutoffs=10 where the first has 5\n" in out


def test_logs_that_were_prepared_with_different_settings_are_named(run_of, capsys):
    compare.main([run_of("one"), run_of("other", min_support=2)])
    said = "their logs were prepared with different settings: --min_support=10 or --min_support=2\n"
    assert said in capsys.readouterr().out


def test_a_run_whose_log_is_gone_is_compared_without_its_settings(run_of, tmp_path, capsys):
    folder = run_of("run")
    (tmp_path / "run" / "data.json").unlink()
    compare.main([folder])
    assert "log.csv: 7 test cases\n" in capsys.readouterr().out
