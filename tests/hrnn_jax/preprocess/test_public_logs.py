"""Each well-known public log is read, by its name and with the flags of the docs page.

The files are made: a few lines of the form in which the log is published.
"""

import json
import pathlib
import re
import shlex

import polars as pl
import pytest

from hrnn_jax.config import ReadConfig
from hrnn_jax.preprocess import datasets, read_log
from hrnn_jax.preprocess.public_logs import FORMS
from tests.helpers.log_files import T, rows, seconds, write

PAGE = (pathlib.Path(__file__).parents[3] / "docs/how-to/public_logs.md").read_text()
FOURSQUARE = '12\t4b6b\t4bf5\tCaf\xe9 "A"\t40.7\t-74.0\t-240\tTue Apr 03 18:00:09 +0000 2012\n'
MUSIC = {
    "subjects": [{"type": "user", "id": 44}],
    "objects": [
        {"type": "track", "id": 9, "playstart": 0, "playtime": 200, "action": "play"},
        {"type": "track", "id": 8, "playstart": 201, "playtime": 90, "action": "skip"},
    ],
}
EBNERD = pl.DataFrame(
    {
        "impression_id": [1, 2],
        "article_id": [None, None],
        "impression_time": pl.Series([T * 10**6, T * 10**6 + 1]).cast(pl.Datetime("us")),
        "article_ids_inview": [[5, 6, 7], [8]],
        "article_ids_clicked": [[7, 5], []],
        "user_id": pl.Series([3, 3], dtype=pl.UInt32),
        "session_id": pl.Series([1, 1], dtype=pl.UInt32),
    },
    schema_overrides={"article_ids_clicked": pl.List(pl.Int32)},
)
OTTO = {
    "session": 3,
    "events": [
        {"aid": 7, "ts": 1659304800025, "type": "clicks"},
        {"aid": 5, "ts": 1659304904511, "type": "carts"},
    ],
}
GA4 = {
    "event_date": "20140513",
    "event_timestamp": str(T * 10**6),
    "event_name": "view_item",
    "user_pseudo_id": "77.88",
    "items": [{"item_id": "A1", "item_name": "x", "price": 2.5}],
    "event_params": [{"key": "ga_session_id", "value": {"int_value": "5"}}],
}
GA4_OTHER = GA4 | {"event_name": "page_view", "items": []}
# By name: the content of the published file, and the events (user, item, Unix seconds) in it.
LOGS = {
    "xing": (
        f"user_id\titem_id\tinteraction_type\tcreated_at\n1\t2\t1\t{T}\n1\t3\t4\t{T + 1}\n",
        [(1, 2, T), (1, 3, T + 1)],
    ),
    "yoochoose": (
        "1,2014-04-07T10:51:09.277Z,214536502,0\n2,2014-04-07T13:56:37.614Z,214662742,S\n",
        [
            (1, 214536502, seconds(2014, 4, 7, 10, 51, 9) + 0.277),
            (2, 214662742, seconds(2014, 4, 7, 13, 56, 37) + 0.614),
        ],
    ),
    "diginetica": (
        "sessionId;userId;itemId;timeframe;eventdate\n1;NA;9;100;2016-05-09\n2;7;8;526309;2016-05-09\n"
        "2;7;9;1031018;2016-05-09\n",
        [(7, 8, seconds(2016, 5, 9) + 526.309), (7, 9, seconds(2016, 5, 9) + 1031.018)],
    ),
    "retailrocket": (
        "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n1433224214164,992329,transaction,248676,4000\n",
        [(257597, 355908, 1433221332.117), (992329, 248676, 1433224214.164)],
    ),
    "lastfm_1k": (
        'user_000001\t2009-05-04T23:08:57Z\tf1\tDeep "Dish\ta2\tOne\n'
        "user_000001\t2009-05-04T23:08:57Z\tf1\tA\ta1\tTwo\n"
        "user_000001\t2009-05-04T13:54:10Z\ta7\tUnderworld\t\tBoy\n",
        [
            ("user_000001", "a1", seconds(2009, 5, 4, 23, 8, 57)),
            ("user_000001", "a2", seconds(2009, 5, 4, 23, 8, 57)),
        ],
    ),
    "30music": (
        "".join(
            f'event.session\t287144\t{T}\t{{"numtracks":2,"playtime":290}}{between}{json.dumps(MUSIC)}\n'
            for between in (" ", "\t")
        ),
        [(44, 9, T), (44, 9, T), (44, 8, T + 201), (44, 8, T + 201)],
    ),
    "mind": (
        "1\tU1\t11/11/2019 9:05:58 AM\tN5 N6\tN7-0 N8-1 N9-1\n"
        "2\tU1\t11/12/2019 6:11:30 PM\t\tN1-0\n",
        [
            ("U1", "N8", seconds(2019, 11, 11, 9, 5, 58)),
            ("U1", "N9", seconds(2019, 11, 11, 9, 5, 58)),
        ],
    ),
    "ebnerd": (EBNERD, [(3, 7, T), (3, 5, T)]),
    "taobao": (
        "1,22,333,pv,1511544070\n1,23,333,buy,1511561733\n1,24,333,pv,-1818\n2,22,333,pv,2122867355\n",
        [(1, 22, 1511544070), (1, 23, 1511561733)],
    ),
    "otto": (json.dumps(OTTO) + "\n", [(3, 7, 1659304800.025), (3, 5, 1659304904.511)]),
    "foursquare": (FOURSQUARE.encode("latin-1"), [(12, "4b6b", seconds(2012, 4, 3, 18, 0, 9))]),
    "online_retail": (
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        '536365,85123A,"HANGING, 5"" HEART",6,12/1/2010 8:26,2.55,17850.0,United Kingdom\n'
        "536414,22139,,56,12/1/2010 11:52,0,,United Kingdom\n",
        [(17850, "85123A", seconds(2010, 12, 1, 8, 26))],
    ),
    "ga4": (f"{json.dumps(GA4)}\n{json.dumps(GA4_OTHER)}\n", [("77.88", "A1", T)]),
    "sequences": ("1 5 3 5\n2 3\n", [(1, 5, 0), (1, 3, 1), (1, 5, 2), (2, 3, 0)]),
}


def test_every_form_is_made_here():
    assert LOGS.keys() == FORMS.keys()


@pytest.mark.parametrize("name", LOGS)
def test_a_public_log_is_read_by_its_name(name, tmp_path):
    content, expected = LOGS[name]
    path = write(tmp_path / FORMS[name].file, content)
    log = read_log.read(datasets.source(name, tmp_path, events=path))
    assert rows(log) == expected


def flags_of(name: str) -> dict[str, str] | None:
    """Return the flags of a log's row in the page's table, "" for none."""
    [cell] = re.findall(rf"^\| `{name}` \|.*\| ([^|]*) \|$", PAGE, re.MULTILINE)
    given = re.fullmatch(r"`(.*)`", cell.strip())
    if given is None:
        return None
    words = [word.removeprefix("--").partition("=") for word in shlex.split(given[1])]
    return {flag: value for flag, _, value in words}


@pytest.mark.parametrize("name", LOGS)
def test_a_public_log_is_read_with_the_flags_of_the_page(name, tmp_path):
    given = flags_of(name)
    content, expected = LOGS[name]
    if given is None:
        assert name in ("30music", "mind", "sequences")  # no flags take their lines apart
        return
    columns = {flag: of for flag, of in given.items() if flag.endswith("_column")}
    reading = {flag: of for flag, of in given.items() if flag not in columns}
    for flag in ("columns", "null_values"):
        if flag in reading:
            reading[flag] = reading[flag].split(",")
    for flag in ("no_header", "descending"):
        if flag in reading:
            reading[flag] = True
    path = write(tmp_path / FORMS[name].file, content)
    source = read_log.Source("events", path, read_log.Columns(**columns), ReadConfig.of(reading))
    if name == "diginetica":  # without the milliseconds of a session
        expected = [(user, item, seconds(2016, 5, 9)) for user, item, _ in expected]
    assert rows(read_log.read(source)) == expected


def test_a_file_of_another_form_is_refused(tmp_path):
    path = write(tmp_path / "train-item-views.csv", f"user_id;item_id;ts\n1;2;{T}\n")
    with pytest.raises(ValueError, match="has not the columns of this data set"):
        read_log.read(datasets.source("diginetica", tmp_path, events=path))


@pytest.mark.parametrize("name", sorted(FORMS))
def test_a_public_log_without_its_file_is_named_with_it(name, tmp_path):
    with pytest.raises(ValueError, match=re.escape(FORMS[name].file)):
        datasets.source(name, tmp_path)
