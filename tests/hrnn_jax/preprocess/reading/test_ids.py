"""Ids: one definition for logs of all formats, the words that stand for none, and live events."""

import decimal
import json

import polars as pl
import pytest

from hrnn_jax import errors
from hrnn_jax.ids_and_times import NO_ID, id_text
from hrnn_jax.preprocess import read_log
from tests.helpers.log_files import H, T, events, refusal, source, write


def frame(users, items=(1, 2)):
    return pl.DataFrame({"user_id": users, "item_id": list(items), "ts": [T, T + 1]})


def csv(path, *users):
    rows = "".join(f"{user},i{n},{T + n}\n" for n, user in enumerate(users))
    return write(path / "log.csv", H + rows)


@pytest.mark.parametrize("word", NO_ID)
def test_words_for_a_missing_id_are_refused_with_their_number_and_dropped_on_request(
    word, tmp_path
):
    """As in Diginetica, where most users are NA. Bug: they become one user."""
    path = csv(tmp_path, "1", word, "2", word, word, "3", "4")
    message = refusal(path)
    assert f"row 2: the user id '{word}'" in message
    assert "as in 2 more rows" in message
    assert f"`null_values`={word} " in message
    kept = events(path, null_values=("x", word))
    assert [user for user, _, _ in kept] == [1, 2, 3, 4]
    assert {user for user, _, _ in events(path, null_values=())} == {"1", "2", "3", "4", word}


def test_an_integral_float_is_its_integer_in_every_format(tmp_path):
    expected = [(3, 1, T), (3, 2, T + 1)]
    lines = [{"user_id": 3.0, "item_id": 1, "ts": T}, {"user_id": "3", "item_id": 2, "ts": T + 1}]
    contents = {
        "log.csv": f"{H}3.0,1,{T}\n3,2.00,{T + 1}\n",
        "log.jsonl": "".join(f"{json.dumps(line)}\n" for line in lines),
        "float.parquet": frame([3.0, 3.0]),
        "float32.parquet": frame(pl.Series([3.0, 3.0], dtype=pl.Float32)),
        "decimal.parquet": frame([decimal.Decimal("3.00"), decimal.Decimal("3.00")]),
        "binary.parquet": frame([b"3", b"3.0"]),
        "text.parquet": frame(["3.0", "3"]),
    }
    for name, content in contents.items():
        assert events(write(tmp_path / name, content)) == expected, name
    assert id_text("user", 3.0) == id_text("user", "3.0") == id_text("user", 3) == "3"


@pytest.mark.parametrize("text", ["3.5", "03.0", "3.0.0", "v3.0", "3.", "1.10"])
def test_other_texts_with_a_point_stay_as_they_are(text, tmp_path):
    assert events(csv(tmp_path, text)) == [(text, "i0", T)]
    assert id_text("user", text) == text


def test_merged_texts_are_numbered_in_their_order(tmp_path):
    path = csv(tmp_path, "b", "2.0", "10", "a", "2", "10.0", "c")
    log = read_log.read(source(path))
    assert log.raw_ids["user"].to_list() == ["10", "2", "a", "b", "c"]
    assert log.frame["user"].to_list() == [0, 0, 1, 1, 2, 3, 4]


@pytest.mark.parametrize("value", [2.0**53, 1e300, 0.5, -0.25])
def test_floats_that_are_no_integer_are_refused_by_row(value, tmp_path):
    path = write(tmp_path / "log.parquet", frame([1.0, value]))
    assert "row 2: the user id" in refusal(path)
    with pytest.raises(errors.InputError):
        id_text("user", value)


def test_digits_that_a_spreadsheet_cut_are_refused(tmp_path):
    assert "row 1: the user id '1.23E+12', from which" in refusal(csv(tmp_path, "1.23E+12"))


@pytest.mark.parametrize(
    ("id_", "says"),
    [
        ("", "no item id"),
        ("x" * 257, "ids have at most 256 bytes"),
        ("é" * 129, "ids have at most 256 bytes"),
        *((f"a{chr(code)}b", "a control character") for code in (0, 9, 10, 127, 128, 159)),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_an_id_that_cannot_be_served_is_not_read(id_, says, suffix, tmp_path):
    """Bug: it is trained on, and stops the import of the history."""
    log = frame([1, 1], ["a", id_])
    path = tmp_path / f"log{suffix}"
    {".csv": log.write_csv, ".jsonl": log.write_ndjson, ".parquet": log.write_parquet}[suffix](path)
    message = refusal(path)
    assert "row 2: " in message
    assert says in message
    with pytest.raises(errors.InputError):
        id_text("item", id_)
    assert events(path, on_bad_row="skip") == [(1, "a", T)]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("true", "row 2: the user id true"),
        ('{"a": 1}', 'row 2: the user id {"a": 1}'),
        ("[1]", "row 2: the user id [1]"),
        ("1.5", None),
        ('"true"', None),
        ('"[1]"', None),
    ],
)
def test_json_values_that_are_no_ids_are_refused(value, says, tmp_path):
    lines = [f'{{"user_id":{user},"item_id":1,"ts":{T}}}\n' for user in ('"a"', value)]
    path = write(tmp_path / "log.jsonl", "\n".join(lines))  # with a blank line between
    if says:
        assert says.replace("row 2", "row 3") in refusal(path)
        assert events(path, on_bad_row="skip") == [("a", 1, T)]
    else:
        assert len(events(path)) == 2


@pytest.mark.parametrize("value", ["true", '{"a": 1}', "[1]"])
def test_json_columns_without_ids_are_refused(value, tmp_path):
    line = f'{{"user_id":{value},"item_id":1,"ts":{T}}}\n'
    assert "user" in refusal(write(tmp_path / "log.jsonl", line))


def test_binary_ids_that_are_no_text_are_refused(tmp_path):
    path = write(tmp_path / "log.parquet", frame([b"a", b"\xff"]))
    assert "has bytes that are no text" in refusal(path)


def test_null_is_no_id_in_any_type(tmp_path):
    for users in (pl.Series([None, None]), pl.Series([1.0, float("nan")]), pl.Series(["a", None])):
        assert ": no user id" in refusal(write(tmp_path / "log.parquet", frame(users)))


def test_another_bad_row_is_counted_in_the_singular(tmp_path):
    assert "as in 1 more row;" in refusal(csv(tmp_path, "1", "NA", "NA"))
