"""Files of items: what is read, what is refused, and what is said of it."""

import polars as pl
import pytest

from experiments.serving import item_catalogue
from hrnn_jax.errors import InputError

TABLE = pl.DataFrame(
    {
        "price": [1.5, 2.5, 3.5, 4.5],
        "item_id": ["7", "b", "c", "d"],
        "title": ['Tea, "green"\n  and loose', None, " ", "<b>שלום</b>"],
        "image": ["https://img.example/7.png", "http://b.example:81/b.png", None, ""],
        "url": ["https://shop.example/7?a=1&b=2", None, None, None],
    }
)
KNOWN = {
    "7": {
        "title": 'Tea, "green" and loose',
        "image": "https://img.example/7.png",
        "url": "https://shop.example/7?a=1&b=2",
    },
    "b": {"image": "http://b.example:81/b.png"},
    "c": {},
    "d": {"title": "<b>שלום</b>"},
}


def write(folder, table, kind=".parquet"):
    path = folder / f"items{kind}"
    table.write_csv(path) if kind == ".csv" else table.write_parquet(path)
    return path


@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_a_file_of_items_is_read_in_both_formats(tmp_path, kind):
    catalogue = item_catalogue.read(write(tmp_path, TABLE, kind))
    assert {item: catalogue.of(item) for item in KNOWN} == KNOWN
    assert catalogue.of(7) == KNOWN["7"]  # a run may have integers for ids
    assert catalogue.of("none") == {}


@pytest.mark.parametrize("dtype", [pl.Int32, pl.UInt64, pl.Categorical])
def test_ids_of_other_types_are_those_of_the_run(tmp_path, dtype):
    table = pl.DataFrame({"item_id": pl.Series(["1", "2"]).cast(pl.Int64), "title": [10, 20]})
    if dtype == pl.Categorical:
        table = table.with_columns(pl.col("item_id").cast(pl.String))
    catalogue = item_catalogue.read(write(tmp_path, table.cast({"item_id": dtype})))
    assert [catalogue.of(item) for item in (1, "2")] == [{"title": "10"}, {"title": "20"}]


def test_a_title_is_one_line_of_bounded_length(tmp_path):
    """Bug: cut a title that looks like an address never."""
    for title in ("a" * 300, "https://" + "a" * 300):
        table = pl.DataFrame({"item_id": ["1"], "title": [title]})
        found = item_catalogue.read(write(tmp_path, table)).of("1")["title"]
        assert found == title[:255] + "…"
    table = pl.DataFrame({"item_id": ["1"], "title": ["a\x00\u2028b\t c"]})
    assert item_catalogue.read(write(tmp_path, table)).of("1") == {"title": "a b c"}


TWO = {"item_id": ["a", "b"], "title": ["A", "B"]}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"item": ["a"], "title": ["A"]}, "no column item_id; the file has item, title"),
        ({"x": ["a"], "y": ["A"]}, "no column item_id, title; the file has x, y"),
        (TWO | {"item_id": ["a", "a"]}, "row 2: item_id 'a' is in row 1 too: keep one"),
        (TWO | {"item_id": ["3.0", "3"]}, "row 2: item_id '3' is in row 1 too"),
        (TWO | {"item_id": ["a", None]}, "row 2: there is no item_id"),
        (TWO | {"item_id": ["a", "b" * 257]}, "row 2: item_id 'bbbb"),
        (TWO | {"item_id": [1.5, 2.0]}, "item_id is of type Float64; give integers or texts"),
        (TWO | {"item_id": [True, False]}, "item_id is of type Boolean"),
        (TWO | {"title": [["A"], ["B"]]}, "title is of type List(String); give texts"),
        (TWO | {"image": [b"A", b"B"]}, "image is of type Binary; give texts"),
        (TWO | {"url": [1, 2]}, "url is of type Int64; give texts"),
        (TWO | {"url": [None, "javascript:alert(1)"]}, "row 2: url 'javascript:alert(1)': give an"),
        (TWO | {"image": ["a.png", None]}, "row 1: image 'a.png': give an address that begins"),
        (TWO | {"image": ["https://[", None]}, "row 1: image 'https://[': give an address"),
        (TWO | {"image": ["//x/a.png", None]}, "row 1: image '//x/a.png'"),
        (TWO | {"image": ["https://x:abc/a.png", None]}, "row 1: image 'https://x:abc/a.png'"),
        (TWO | {"image": ["https://x:99999/a.png", None]}, "row 1: image 'https://x:99999/a.png'"),
        (TWO | {"url": ["https://x/" + "a" * 2048, None]}, "at most 2,048 characters"),
    ],
)
def test_an_invalid_file_is_refused_in_one_line(tmp_path, columns, said):
    path = write(tmp_path, pl.DataFrame(columns))
    with pytest.raises(InputError) as raised:
        item_catalogue.read(path)
    assert said in str(raised.value)
    assert str(raised.value).startswith(f"--items={path}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, "there is no such file"),
        (".csv", b"", "give a .csv or a .parquet file"),
        ("items.xlsx", b"", "give a .csv or a .parquet file"),
        ("items.csv", b"", "cannot be read"),
        ("items.csv", b"item_id,title\n1,a,b\n", "cannot be read"),
        ("items.csv", b"item_id,title,title\n1,a,b\n", "two columns are called title: keep one"),
        ("items.csv", b"item_id,title\n1,caf\xe9\n", "it is not written in UTF-8"),
        ("items.parquet", b"PAR1 and no more", "cannot be read"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_one_line(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as raised:
        item_catalogue.read(tmp_path / name)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_a_file_lacks_or_has_in_vain_is_said(tmp_path):
    path = write(tmp_path, TABLE)
    catalogue = item_catalogue.read(path)
    assert catalogue.lines([7, "b", "c", "d"], ["img.example", "b.example:81"]) == [
        f"2 of 4 items have a title in {path}"
    ]
    assert catalogue.lines(["d", "e"], ["*.example"]) == [
        f"1 of 2 items have a title in {path}",
        f"warning: 3 items of {path} are none of the model's, such as '7'",
        "warning: --image_hosts does not name the hosts of some pictures, which the page does not "
        "show: 1, such as one of b.example:81",
    ]
    assert item_catalogue.ItemCatalogue().lines(["a"], []) == []


@pytest.mark.parametrize(
    ("host", "admitted"),
    [
        ("img.example", True),
        ("a.b.cdn.example", True),
        ("cdn.example", False),
        ("evilcdn.example", False),
        ("img.example:81", False),
        ("img.example.evil", False),
    ],
)
def test_hosts_are_admitted_as_a_content_policy_does(host, admitted):
    hosts = item_catalogue.check_hosts(["IMG.example", "*.cdn.example"])
    assert item_catalogue.is_admitted(host, hosts) == admitted


@pytest.mark.parametrize("host", ["", "*", "a b", "a;script-src *", "https://a", "a/b", "'self'"])
def test_what_is_no_host_is_refused(host):
    """Bug: let a flag add another rule to the content policy."""
    with pytest.raises(InputError, match="--image_hosts="):
        item_catalogue.check_hosts([host])


def test_items_are_found_by_id_and_by_title(tmp_path):
    table = pl.DataFrame({"item_id": ["1", "2", "12"], "title": ["Green TEA", "Tea 12", "1 Cup"]})
    catalogue = item_catalogue.read(write(tmp_path, table))
    items = [1, 2, 12, 3]
    assert catalogue.find("1", items, 9) == [1, 12, 2]
    assert catalogue.find("tea", items, 9) == [1, 2]
    assert catalogue.find("tea", items, 1) == [1]
    assert catalogue.find("", items, 3) == [1, 2, 12]
    assert item_catalogue.ItemCatalogue().find("1", items, 9) == [1, 12]
