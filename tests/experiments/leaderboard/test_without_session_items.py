"""Which runs of a leaderboard are ranked a second time, and in which folders."""

import pathlib

import pytest

from experiments.jobs import grid as jobs_grid
from experiments.jobs.paper_rows import Row
from experiments.leaderboard import without_session_items


@pytest.mark.parametrize(
    ("drops", "types", "expected"),
    [(True, None, ["one"]), (False, None, []), (True, "kind", [])],  # of each type an event stays
)
def test_a_log_is_without_repeats_by_its_recipe_and_types(drops, types, expected):
    about = {"recipe": {"drop_repeats": drops}, "columns": {"type": types}}
    assert without_session_items.logs_without_repeats({"one": about}) == expected


def test_weights_are_copied_once_without_what_was_ranked(tmp_path):
    """Bugs: rank a copy with the results of the other ranking as done, or copy over it again."""
    columns = [jobs_grid.Column(key, ("--dataset=events",)) for key in ("one", "two")]
    rows = [
        Row("sr", None, ("--model=sr",)),
        Row("rnn", "small", ("--model=rnn", "--epochs=1")),
        Row("2 layers", "small", ("--model=rnn", "--epochs=1", "--layers=2")),
    ]
    cells = [(column, row) for column in columns for row in rows]
    runs = jobs_grid.ordered_runs(tmp_path, cells, 1, {"one": "a", "two": "b"})
    for run in runs:
        run.folder.mkdir(parents=True)
        for name in ("recipe.json", "metrics.json", "ranks.parquet"):
            (run.folder / name).write_text(name)
    again = without_session_items.ranked_anew(tmp_path, runs, ["two"])
    assert [(run.column.key, run.row.key) for run in again] == [("two", "sr"), ("two", "rnn")]
    for run in again:
        assert "--exclude_session_items" in run.argv("prepared")
        assert run.folder.parts[-4:-2] == ("without_session_items", "two")
    assert all("--noexclude_session_items" in run.argv("prepared") for run in runs)
    without_session_items.copy_weights(tmp_path, again)
    sr, rnn = (run.folder for run in again)
    assert not sr.exists()  # it counts again
    assert [path.name for path in rnn.iterdir()] == ["recipe.json"]
    pathlib.Path(rnn, "recipe.json").write_text("ranked")
    without_session_items.copy_weights(tmp_path, again)
    assert pathlib.Path(rnn, "recipe.json").read_text() == "ranked"
