"""Columns by role: lists of items in a cell, and fields of objects."""

import json

import polars as pl
import pytest

from tests.helpers.log_files import H, T, events, refusal, write


def items(path, **given):
    return [item for _, item, _ in events(path, **given)]


@pytest.mark.parametrize(
    ("separator", "cell"),
    [("space", "b a  c"), ("|", "b|a|c"), ("|", "b | a | c |"), (";;", "b;;a;;c")],
)
def test_items_of_a_cell_are_events_in_their_order(separator, cell, tmp_path):
    path = write(tmp_path / "log.csv", f"{H}1,{cell},{T}\n2,,{T}\n1,d,{T + 1}\n")
    expected = [(1, "b", T), (1, "a", T), (1, "c", T), (1, "d", T + 1)]
    assert events(path, explode=separator) == expected


def test_lists_of_items_and_times_are_taken_apart_together(tmp_path):
    log = pl.DataFrame({"user_id": [2, 1], "item_id": [["a", "b"], ["c"]], "ts": [[T + 1, T], [T]]})
    write(tmp_path / "log.parquet", log)
    write(tmp_path / "log.jsonl", "".join(f"{json.dumps(row)}\n" for row in log.rows(named=True)))
    for name in ("log.parquet", "log.jsonl"):
        expected = [(1, "c", T), (2, "b", T), (2, "a", T + 1)]
        assert events(tmp_path / name, explode="list") == expected
        assert "several values in a cell: give `explode`=list" in refusal(tmp_path / name)


def test_a_bad_item_of_a_cell_is_named_with_the_row_of_the_cell(tmp_path):
    path = write(tmp_path / "log.csv", f"{H}1,a b c,{T}\n1,d NA,{T}\n")
    assert "row 2: the item id 'NA'" in refusal(path, explode="space")
    path = write(tmp_path / "log.csv", f"{H}1,a b c,{T}\n1,d e,14000\n")
    message = refusal(path, explode="space")
    assert "row 2: time '14000'" in message
    assert items(path, explode="space", on_bad_row="skip") == ["a", "b", "c"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_fields_of_objects_are_columns(suffix, tmp_path):
    rows = [
        {"who": {"id": 7}, "e.f": "right", "e": {"f": "wrong"}, "a": [{"b": {"c": T}}]},
        {"who": {"id": 8}, "e.f": "right", "e": {"f": "wrong"}, "a": [{"b": {"c": T}}]},
    ]
    path = tmp_path / f"log{suffix}"
    if suffix == ".jsonl":
        write(path, "".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        write(path, pl.DataFrame(rows))
    given = {"user_column": "who.id", "item_column": "e.f", "time_column": "a.b.c"}
    assert "holds List" in refusal(path, **given)
    listed = pl.DataFrame(rows).with_columns(pl.concat_list("e.f").alias("e.f"))
    path = write(tmp_path / "lists.parquet", listed)
    assert events(path, **given, explode="list") == [(7, "right", T), (8, "right", T)]
    message = refusal(path, **{**given, "user_column": "who.name", "item_column": "e.f.g"})
    assert "no column 'who.name', 'e.f.g'; name the user column with `user_column`" in message


@pytest.mark.parametrize(
    ("explode", "says"),
    [
        ("list", "`explode`=list needs lists, and column 'item_id' holds String"),
        (None, None),
    ],
)
def test_lists_are_needed_for_lists(explode, says, tmp_path):
    path = write(tmp_path / "log.csv", f"{H}1,a b,{T}\n")
    if says:
        assert says in refusal(path, explode=explode)
    else:
        assert items(path) == ["a b"]


@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize("bad", [[T], [], None])
def test_lists_of_different_lengths_are_refused_by_row_or_dropped(bad, array, tmp_path):
    """Bug: an error of polars without a row, whatever `on_bad_row` is."""
    good = pl.Series([["a", "b"]] * 2, dtype=pl.Array(pl.String, 2) if array else None)
    log = pl.DataFrame({"user_id": [1, 2], "item_id": good, "ts": [[T, T], bad]})
    path = write(tmp_path / "log.parquet", log)
    message = refusal(path, explode="list")
    assert "row 2: lists of different lengths" in message
    assert "`on_bad_row`=skip" in message
    assert events(path, explode="list", on_bad_row="skip") == [(1, "a", T), (1, "b", T)]


def test_lists_without_a_value_are_no_events(tmp_path):
    log = pl.DataFrame(
        {"user_id": [1, 2, 3, 4], "item_id": [["a"], [], None, None], "ts": [[T], None, [], None]}
    )
    assert events(write(tmp_path / "log.parquet", log), explode="list") == [(1, "a", T)]


@pytest.mark.parametrize("first", [{}, {"kind": None, "e": {}}])
def test_a_field_that_occurs_late_in_json_lines_is_read(first, tmp_path):
    """Bug: no column 'kind', and the columns that the file has lack it."""
    rows = [{"user_id": 1, "item_id": "a", "ts": T, "e": {"f": 1}, **first}] * 1_001
    rows.append({"user_id": 1, "item_id": "b", "ts": T, "kind": {"id": 7}, "e": {"g": "x"}})
    path = write(tmp_path / "log.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    given = {"on_bad_row": "skip", "user_column": "kind.id", "item_column": "e.g"}
    assert events(path, **given) == [(7, "x", T)]
