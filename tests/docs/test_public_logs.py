"""docs/how-to/public_logs.md: its conversions read the published forms, and its hashes are known.

The published files are not here: each test makes a small one of the same form.
"""

import datetime
import pathlib
import re

import polars as pl
import pytest

from experiments.paper.results import read_columns
from hrnn_jax.preprocess.datasets import PUBLIC_LOGS
from hrnn_jax.preprocess.read_log import Columns, Source, read

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "experiments/results/comparison"
PAGE = (ROOT / "docs/how-to/public_logs.md").read_text()


def convert(section: str) -> None:
    """Run the Python code of a section of the page, in the current folder."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(code, section, "exec"), {})


def events(path: str, columns: Columns | None = None) -> list[tuple]:
    """Return (user, item, time in Unix seconds) of each event, as experiments.run reads them."""
    log = read(Source("events", pathlib.Path(path), columns or Columns()))
    frame = log.frame.select("user", "item", pl.col("time").dt.epoch("s"))
    users, items = (log.raw_ids[name] for name in ("user", "item"))
    return [(users[user], items[item], time) for user, item, time in frame.rows()]


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_ebnerd_histories_become_one_log_without_the_views_that_both_have():
    start = datetime.datetime(2023, 5, 1, 12)

    def write(split: str, views: dict[int, list[tuple[int, int]]]) -> None:
        pathlib.Path(split).mkdir()
        rows = {
            "user_id": [*views],
            "impression_time_fixed": [
                [start + datetime.timedelta(seconds=s) for s, _ in of] for of in views.values()
            ],
            "scroll_percentage_fixed": [[None for _ in of] for of in views.values()],
            "article_id_fixed": [[article for _, article in of] for of in views.values()],
            "read_time_fixed": [[1.5 for _ in of] for of in views.values()],
        }
        schema = {
            "user_id": pl.UInt32,
            "impression_time_fixed": pl.List(pl.Datetime("us")),
            "scroll_percentage_fixed": pl.List(pl.Float32),
            "article_id_fixed": pl.List(pl.Int32),
            "read_time_fixed": pl.List(pl.Float32),
        }
        pl.DataFrame(rows, schema=schema).write_parquet(f"{split}/history.parquet")

    write("train", {22: [(0, 900), (5, 901)], 11: [(7, 900)]})
    write("validation", {22: [(5, 901), (9, 902)]})
    convert("EB-NeRD demo")
    noon = 1682942400  # 2023-05-01 12:00 UTC
    expected = [(11, 900, noon + 7), (22, 900, noon), (22, 901, noon + 5), (22, 902, noon + 9)]
    assert events("ebnerd_demo.parquet") == expected


def test_foursquare_lines_become_a_log_of_the_places_with_ten_check_ins():
    def line(user: int, place: str, time: str) -> str:
        return "\t".join([str(user), place, "4bf5", "Café", "40.7", "-74.0", "-240", time])

    often = [line(7, "4b5a", f"Tue May 08 00:0{n}:59 +0000 2012") for n in range(9)]
    lines = [line(12, "4b5a", "Mon May 07 18:00:11 +0000 2012"), *often]
    lines.insert(1, line(12, "4b6b", "Mon May 07 18:00:31 +0000 2012"))  # once: dropped
    pathlib.Path("dataset_TSMC2014_NYC.txt").write_text("\n".join(lines) + "\n", "latin-1")
    convert("Foursquare NYC")
    midnight = 1336435200  # 2012-05-08 00:00 UTC
    expected = [(7, "4b5a", midnight + 60 * n) for n in range(9)]
    assert events("foursquare_nyc.parquet") == [*expected, (12, "4b5a", midnight - 6 * 3600)]


def test_deskdrop_is_read_with_the_conversion_and_with_flags_alike():
    agent = '"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"'
    pathlib.Path("users_interactions.csv").write_text(
        "timestamp,eventType,contentId,personId,sessionId,userAgent,userRegion,userCountry\n"
        "1460000500,VIEW,-2000000000000000002,-1000000000000000001,4000000000000000004,,,\n"
        f"1460000100,LIKE,3000000000000000003,-1000000000000000001,4000000000000000004,{agent},NY,US\n"
    )
    convert("Deskdrop")
    person = -1000000000000000001
    expected = [
        (person, 3000000000000000003, 1460000100),
        (person, -2000000000000000002, 1460000500),
    ]
    assert events("deskdrop.parquet") == expected
    flags = re.search(r"`--events=users_interactions.csv (.*?)`", PAGE, re.DOTALL)
    assert flags is not None
    named = dict(flag.removeprefix("--").split("=") for flag in flags[1].split())
    assert events("users_interactions.csv", Columns(**named)) == expected


@pytest.mark.parametrize("folder", ["comparison", "public_logs"])
def test_shipped_results_on_public_logs_are_of_the_known_events(folder):
    for column in read_columns(RESULTS.parent / folder / "data.csv").values():
        assert column.cells["events_sha256"] in PUBLIC_LOGS
        cells = column.cells
        counts = " | ".join(cells[key] for key in ("users", "items", "sessions", "events"))
        assert f"`{cells['events_sha256']}` | {counts} |" in PAGE, column.key


def test_the_page_has_the_hash_of_each_known_log():
    rows = dict(re.findall(r"^\| ([^|]+) \| `([0-9a-f]{64})` \|", PAGE, re.MULTILINE))
    assert rows == {name: sha256 for sha256, name in PUBLIC_LOGS.items()}


def test_the_shipped_comparison_names_its_logs_and_links_to_the_page():
    text = (RESULTS / "comparison.md").read_text()
    links = re.findall(r"\]\(([^)]*public_logs\.md)\)", text)
    assert [(RESULTS / link).resolve() for link in links] == [ROOT / "docs/how-to/public_logs.md"]
    for column in read_columns(RESULTS / "data.csv").values():
        name = PUBLIC_LOGS[column.cells["events_sha256"]]
        assert f"{column.name} is {name}" in text
        assert f"- {column.label}: {name}. " in text
        note = column.cells["note"]  # stands once, below the table of scores
        assert text.replace("\\", "").count(note) == 1
