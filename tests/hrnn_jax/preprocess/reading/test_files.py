"""Paths: one file whatever its name, folders, lists, patterns and partitions."""

import json
import os
import pathlib

import polars as pl
import pytest

from hrnn_jax import errors
from hrnn_jax.config import DataConfig
from hrnn_jax.preprocess import prepared
from hrnn_jax.preprocess.reading import files
from tests.helpers.log_files import H, T, events, refusal, source, write


def csv(path, *items):
    return write(path, H + "".join(f"1,{item},{T}\n" for item in items))


def items(path, **given):
    return [item for _, item, _ in events(path, **given)]


@pytest.mark.parametrize("indent", [None, 1])
def test_one_json_array_is_refused_in_words_of_its_own(tmp_path, indent):
    """Bug: say that the file may be truncated."""
    events = [{"user_id": "u", "item_id": "i", "ts": 1_700_000_000}] * 3
    (tmp_path / "log.jsonl").write_text(json.dumps(events, indent=indent))
    assert "log.jsonl: is a JSON array; write an object" in refusal(tmp_path / "log.jsonl")


@pytest.mark.parametrize("name", ["log[1]", "log*", "log?", "l{1}", "a,b"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".jsonl.gz", ".parquet"])
def test_a_file_is_read_whatever_its_name(name, suffix, tmp_path):
    """Bug: log[1].jsonl beside log1.jsonl reads the latter, under the former's name."""
    import gzip

    for stem, item in ((name, "right"), ("log1", "wrong"), ("l1", "wrong"), ("a", "wrong")):
        log, path = pl.DataFrame({"user_id": [1], "item_id": [item], "ts": [T]}), tmp_path / "tmp"
        {".c": log.write_csv, ".j": log.write_ndjson, ".p": log.write_parquet}[suffix[:2]](path)
        content = path.read_bytes()
        write(tmp_path / f"{stem}{suffix}", gzip.compress(content) if "gz" in suffix else content)
    assert items(tmp_path / f"{name}{suffix}") == ["right"]


def test_prepared_folders_are_read_whatever_their_name(tmp_path):
    rows = "".join(
        f"{u},i{n},{T + 90_000 * s + n}\n" for u in (1, 2) for s in (0, 1) for n in (0, 1)
    )
    recipe = DataConfig(min_support=1, min_session_events=2, min_user_sessions=2)
    log = source(write(tmp_path / "log.csv", H + rows))
    for name in ("r1", "r[12]"):
        folder = prepared.prepare(log, recipe, tmp_path / name)
        assert prepared.load_items(folder) == ["i0", "i1"]
        assert len(prepared.load(folder)) == 8
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(errors.InputError, match="is missing or damaged"):
        prepared.load_items(folder)


def test_folders_lists_and_patterns_are_read_in_their_order(tmp_path):
    csv(tmp_path / "logs/b.csv", "b")
    csv(tmp_path / "logs/a.csv", "a")
    csv(tmp_path / "logs/deep/c.tsv.bak", "no")
    csv(tmp_path / "logs/_SUCCESS.csv", "no")
    csv(tmp_path / "logs/.hidden/d.csv", "no")
    parquet = pl.DataFrame({"user_id": ["1"], "item_id": ["p"], "ts": [T]})
    write(tmp_path / "logs/deep/p.parquet", parquet)
    logs = tmp_path / "logs"
    assert items(logs) == ["a", "b", "p"]
    assert items(pathlib.Path(f"{logs}/b.csv,{logs}/a.csv")) == ["b", "a"]
    assert items(logs / "*.csv") == ["_SUCCESS.csv" and "no", "a", "b"]
    assert items(logs / "[ab].csv") == ["a", "b"]
    assert "none of that pattern" in refusal(logs / "x*.csv")
    assert "no such file" in refusal(logs / "x.csv")
    with pytest.raises(errors.InputError, match=r"x\.csv: no such file"):
        events(pathlib.Path(f"{logs}/a.csv,{logs}/x.csv"))


def test_a_file_that_a_list_or_a_pattern_repeats_is_read_once(tmp_path):
    """Bug: a recursive pattern has folders and the files in them, which are read again."""
    csv(tmp_path / "logs/a/x.csv", "x")
    csv(tmp_path / "logs/b/y.csv", "y")
    logs = tmp_path / "logs"
    for path in ("/**", "/**/*", "/*/*.csv", f",{logs}/a/x.csv", f"/a/../b/y.csv,{logs}/**"):
        assert sorted(items(pathlib.Path(f"{logs}{path}"))) == ["x", "y"], path
    assert items(pathlib.Path(f"{logs}/b/y.csv,{logs}")) == ["y", "x"]


def test_an_empty_path_of_a_list_is_refused(tmp_path):
    """Bug: it is the working directory, all files of which are read."""
    file = csv(tmp_path / "a.csv", "a")
    for path in (f"{file},", f"{file}, ,{file}", f",{file}"):
        assert "a path of this list is empty" in refusal(pathlib.Path(path))


def test_a_list_longer_than_a_file_name_is_read(tmp_path, monkeypatch):
    """Bug: the operating system's error, 'File name too long'."""
    monkeypatch.chdir(tmp_path)
    names = [f"events-of-day-{day:02}.csv" for day in range(20)]
    for name in names:
        csv(tmp_path / name, name)
    assert items(pathlib.Path(",".join(names))) == names
    assert "no such file" in refusal(pathlib.Path("x" * 300))


def test_a_name_that_is_no_utf_8_is_refused(tmp_path):
    """Bug: a TypeError of polars."""
    path = csv(tmp_path / "logs" / os.fsdecode(b"caf\xe9.csv"), "a")
    for log in (path, path.parent):
        with pytest.raises(errors.InputError, match=r"caf\\xe9\.csv: the name is not .* UTF-8"):
            events(log)


def test_ids_of_files_of_different_types_are_the_same_where_their_texts_are(tmp_path):
    for name, ids in (
        ("a.parquet", pl.Series([7], dtype=pl.Int16)),
        ("b.parquet", pl.Series(["7"])),
    ):
        write(tmp_path / "logs" / name, pl.DataFrame({"user_id": ids, "item_id": [1], "ts": [T]}))
    assert events(tmp_path / "logs") == [(7, 1, T), (7, 1, T)]


def test_partitions_are_columns(tmp_path):
    for day in ("2014-05-13", "2014-05-14"):
        log = pl.DataFrame({"user_id": [1], "item_id": ["a"], "ts": [T]})
        write(tmp_path / f"log/day={day}/country=a%20b/part-0.parquet", log)
    assert items(tmp_path / "log", user_column="country") == ["a", "a"]
    given = {"time_column": "day", "user_column": "country"}
    assert {(user, time) for user, _, time in events(tmp_path / "log", **given)} == {
        ("a b", T - T % 86_400),
        ("a b", T - T % 86_400 + 86_400),
    }


def test_a_bad_row_of_several_files_is_named_with_its_file(tmp_path):
    csv(tmp_path / "logs/a.csv", "a")
    bad = csv(tmp_path / "logs/b.csv", "b", "")
    with pytest.raises(errors.InputError, match=f"^{bad}, row 2: no item id"):
        events(tmp_path / "logs")


def test_the_digest_of_several_files_changes_with_each_and_their_order(tmp_path):
    a, b = csv(tmp_path / "logs/a.csv", "a"), csv(tmp_path / "logs/b.csv", "b")
    of = [tmp_path / "logs", a, b, pathlib.Path(f"{b},{a}")]
    assert len({files.digest(path) for path in of}) == 4
    assert files.digest(pathlib.Path(f"{a},{b}")) == files.digest(tmp_path / "logs")
    csv(b, "c")
    assert files.digest(pathlib.Path(f"{a},{b}")) != files.digest(a)
