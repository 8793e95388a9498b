"""Text tables: quotes, separators, headers, blank and bad lines, encodings."""

import gzip

import pytest

from hrnn_jax.preprocess import read_log
from tests.helpers.log_files import H, T, events, refusal, source, write

TITLES = (
    '1\t1\t1400000001\t"Heroes\n1\t2\t1400000002\tx\n1\t3\t1400000003\tLow"\n1\t4\t1400000004\tz\n'
)


def items(path, **given):
    return [item for _, item, _ in events(path, **given)]


def test_quotes_in_unused_columns_swallow_no_rows(tmp_path):
    path = write(tmp_path / "log.tsv", "user_id\titem_id\tts\ttitle\n" + TITLES)
    assert items(path) == items(path, quote_char="") == [1, 2, 3, 4]


def test_a_pair_of_quotes_far_apart_swallows_no_rows(tmp_path):
    rows = [f"1\t{n}\t{T + n}\tx\n" for n in range(20_000)]
    rows[9] = f'1\t9\t{T + 9}\t"Heroes\n'
    rows[15_000] = f'1\t15000\t{T + 15_000}\tLow"\n'
    path = write(tmp_path / "log.tsv", "user_id\titem_id\tts\ttitle\n" + "".join(rows))
    assert items(path) == list(range(20_000))


def test_an_inch_mark_is_a_character(tmp_path):
    text = f'user_id,item_id,ts,title\n1,1,{T},12" disc\n1,2,{T},x\n1,3,{T},"7" single"\n'
    assert items(write(tmp_path / "log.csv", text)) == [1, 2, 3]


def test_quoted_values_may_hold_separators_quotes_and_lines(tmp_path):
    text = (
        "title,user_id,item_id,ts\n"
        f'"a, b",1,"x,y",{T}\n"two\nlines, ""quoted""",1,"say ""so""",{T + 1}\n'
        f'12" disc,1,z,{T + 2}\n'
    )
    assert items(write(tmp_path / "log.csv", text)) == ["x,y", 'say "so"', "z"]


@pytest.mark.parametrize("title", ["two\nlines", "a\n\nb", "x\ny, z", "1,2,3\nq"])
def test_a_value_of_several_lines_may_end_a_row(title, tmp_path):
    """Its first line alone has as many values as a row. Bug: take it for a row."""
    text = f'user_id,item_id,ts,title\n1,a,{T},"{title}"\n1,b,{T},x\n1,c,{T},"{title}"\n'
    assert items(write(tmp_path / "log.csv", text)) == ["a", "b", "c"]


def test_without_a_quote_character_quotes_are_part_of_ids(tmp_path):
    path = write(tmp_path / "log.csv", f'{H}1,"a",{T}\n')
    assert items(path) == ["a"]
    assert items(path, quote_char="") == ['"a"']
    assert items(write(tmp_path / "l.csv", f"{H}1,'a,b',{T}\n"), quote_char="'") == ["a,b"]


@pytest.mark.parametrize("separator", [";", "|", "tab", "\t", "space", "::", ", ", "\\t"])
def test_any_separator_is_read(separator, tmp_path):
    between = {"tab": "\t", "\\t": "\t", "space": " "}.get(separator, separator)
    text = "".join(between.join(row) + "\n" for row in (H.strip().split(","), ("1", "a", f"{T}")))
    for name in ("log.csv", "log.dat"):
        assert events(write(tmp_path / name, text), separator=separator) == [(1, "a", T)]


def test_spaces_after_separators_are_no_part_of_names_and_ids(tmp_path):
    path = write(tmp_path / "log.csv", f"user_id, item_id, ts\n1, a, {T}\n 2, b b, {T}\n")
    assert events(path) == [(1, "a", T), (2, "b b", T)]


def test_a_table_without_a_header_keeps_its_first_row(tmp_path):
    path = write(
        tmp_path / "clicks.dat",
        f"7,2014-04-07T10:51:09.277Z,21,0\n8,{'2014-04-07T10:51:10.000Z'},22,S\n",
    )
    given = {"separator": ",", "no_header": True}
    read = events(path, **given, columns=("user", "time", "item", "_"))
    assert [(user, item) for user, item, _ in read] == [(7, 21), (8, 22)]
    named = events(
        path,
        **given,
        columns=("s", "t", "i", "c"),
        user_column="s",
        item_column="i",
        time_column="t",
    )
    assert named == read
    message = refusal(path, **given, columns=("user", "item", "time"))
    assert "row 1: has 4 values" in message
    assert "`columns` 3 names" in message


def test_blank_lines_are_no_rows_and_count_as_lines(tmp_path):
    path = write(tmp_path / "log.csv", f"{H}1,a,{T}\n\n1,b,{T}\n   \n1,c,{T}\n\n\n")
    assert items(path) == ["a", "b", "c"]
    path = write(tmp_path / "bad.csv", f"{H}1,a,{T}\n\n1,,{T}\n")
    assert "row 3: no item id" in refusal(path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-8"])
def test_the_encodings_of_unicode_are_found_out(encoding, suffix, tmp_path):
    text = f"{H}1,é,{T}\n" if suffix == ".csv" else f'{{"user_id":1,"item_id":"é","ts":{T}}}\n'
    for name, content in (
        (f"log{suffix}", text.encode(encoding)),
        (f"log{suffix}.gz", gzip.compress(text.encode(encoding))),
    ):
        assert events(write(tmp_path / name, content)) == [(1, "é", T)]


def test_another_encoding_is_named(tmp_path):
    path = write(tmp_path / "log.csv", f"{H}1,é,{T}\n".encode("latin-1"))
    assert "give its `encoding`, such as latin-1" in refusal(path)
    assert items(path, encoding="latin-1") == ["é"]
    assert "give its `encoding`" in refusal(path, encoding="utf-8")
    with pytest.raises(ValueError, match="`encoding`=klingon: there is no encoding"):
        events(path, encoding="klingon")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "utf-16-be"])
def test_zstd_is_to_be_unpacked_where_it_holds_another_encoding(encoding, tmp_path):
    """Bug: the advice is to give the encoding, which was given."""
    content = f"{H}1,é,{T}\n".encode(encoding)
    # A block of bytes as they are: magic number, frame of one segment and its size, block header.
    head = bytes([0x20, len(content)]) + (len(content) << 3 | 1).to_bytes(3, "little")
    path = write(tmp_path / "log.csv.zst", b"\x28\xb5\x2f\xfd" + head + content)
    for given in ({}, {"encoding": encoding}):
        assert "run `zstd -d` on it" in refusal(path, **given)


@pytest.mark.parametrize("line_end", ["\r\n", "\r"])
def test_line_ends_of_other_systems_are_read(line_end, tmp_path):
    text = f"{H}1,a,{T}\n1,b,{T}\n".replace("\n", line_end)
    assert items(write(tmp_path / "log.csv", text.encode())) == ["a", "b"]


def test_zeros_after_a_gzip_file_are_passed_over(tmp_path):
    content = gzip.compress(f"{H}1,a,{T}\n".encode()) + bytes(512)
    assert items(write(tmp_path / "log.csv.gz", content)) == ["a"]


def test_bad_rows_are_dropped_and_counted_on_request(tmp_path, caplog):
    text = f"{H}1,a,{T}\n1,b,x\n1,c,{T},9,9\n,d,{T}\n1,e,{T}\n1,f\n1,g,14000\n"
    path = write(tmp_path / "log.csv", text)
    assert "row 2: time 'x'" in refusal(path)
    log = read_log.read(source(path, on_bad_row="skip"))
    assert log.raw_ids["item"].to_list() == ["a", "e"]
    assert log.skipped.bad == 5
    shown = [row.removeprefix(f"{path}, ") for row in log.skipped.first]
    assert [row.partition(":")[0] for row in shown] == ["row 2", "row 3", "row 4"]
    assert "has 5 values, and the table 3 columns" in shown[1]
    assert "5 bad rows dropped" in caplog.text


def test_bad_lines_of_json_are_refused_by_row_or_dropped(tmp_path):
    good = '{"user_id":1,"item_id":"a","ts":1400000000}\n'
    path = write(tmp_path / "log.jsonl", f"{good}\n{{broken\n[1]\n{good}")
    assert "row 3: is no JSON" in refusal(path)
    assert items(path, on_bad_row="skip") == ["a", "a"]


def test_columns_of_one_name_are_refused_where_they_are_needed(tmp_path):
    path = write(tmp_path / "log.csv", f"user_id,item_id,ts,user_id,x,x\n1,a,{T},2,3,4\n")
    assert "has several columns 'user_id'" in refusal(path)
    path = write(tmp_path / "log.csv", f"user_id,item_id,ts,x,x\n1,a,{T},3,4\n")
    assert items(path) == ["a"]
    path = write(tmp_path / "log.jsonl", f'{{"user_id":1,"user_id":2,"item_id":"a","ts":{T}}}\n')
    assert "has several columns 'user_id'" in refusal(path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_column_name_is_no_pattern(suffix, tmp_path):
    import polars as pl

    log = pl.DataFrame({"^i.*$": ["right"], "item_id": ["wrong"], "user_id": [1], "ts": [T]})
    path = tmp_path / f"log{suffix}"
    {".csv": log.write_csv, ".jsonl": log.write_ndjson, ".parquet": log.write_parquet}[suffix](path)
    assert items(path, item_column="^i.*$") == ["right"]


def test_of_a_log_that_is_newest_first_events_of_one_time_are_reversed(tmp_path):
    path = write(tmp_path / "log.csv", f"{H}1,c,{T + 1}\n1,b,{T}\n1,a,{T}\n")
    assert items(path) == ["b", "a", "c"]
    assert items(path, descending=True) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (
            "log.csv",
            f"1,a,{T}\n",
            "give `no_header` with the 3 names of `columns`, as in user,item,time",
        ),
        ("log.csv", f"user_id;item_id;ts\n1;a;{T}\n", "give `separator`=';'"),
        ("log.csv", f"user_id\titem_id\tts\n1\ta\t{T}\n", "give `separator`='tab'"),
        ("log.csv", b"PAR1\x15\x04\x15", "is a Parquet file: its name must end in .parquet"),
        ("log.csv", b"PK\x03\x04\x15", "a workbook of Excel"),
        ("log.csv", gzip.compress(b"x", mtime=0), "its name must end in .gz"),
        ("log.txt", H, "give the `separator`"),
    ],
)
def test_what_a_file_is_and_the_flag_that_mends_it_are_said(name, text, says, tmp_path):
    assert says in refusal(write(tmp_path / name, text))
