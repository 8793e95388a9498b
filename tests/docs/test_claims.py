"""What the pages say about results is what the shipped files hold, table by table and sentence by
sentence; a number with decimals that is in neither is refused."""

import json
import re

import pytest

from hrnn_jax.files.recipe_formats import RECIPE_FORMAT
from tests.docs import other_pages, published, sentences, tables
from tests.docs.claims import ROOT

CLAIMS = [claim for page in sentences.PAGES for claim in page.claims()]
NUMBER = re.compile(r"(?<![\w.=])[+-]?(?:\d+\.\d+|\d+(?= ?%))")
# What is no prose: comments, made tables, code in fences, in blocks and in lines, link targets; and
# numbers that name a section, a version or an address of a machine.
NO_PROSE = re.compile(
    r"<!--.*?-->(?:\n\n(?:\|[^\n]*\n)*)?|```.*?```|^ {4}[^\n]*$|`[^`\n]*`|\]\([^)]*\)"
    r"|Section [\d.]+\d|Python [\d.]+\d|\b\d+\.\d+\.\d+\.\d+\b",
    re.DOTALL | re.MULTILINE,
)


def one_line(text: str) -> str:
    return " ".join(text.split())


def prose(text: str) -> str:
    return one_line(NO_PROSE.sub(" ", text))


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_tables_of_a_page_are_those_of_the_files(page):
    text = page.read_text()
    assert tables.fill(text) == text, "python -m tests.docs.tables makes them anew"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.page}: {claim.text[:40]}")
def test_a_claim_stands_on_its_page_and_is_true(claim):
    assert one_line(claim.text) in one_line((ROOT / claim.page).read_text())
    assert claim.holds


@pytest.mark.parametrize("path", tables.PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_number_with_decimals_is_part_of_a_claim(path):
    page = str(path.relative_to(ROOT))
    text = prose(path.read_text())
    excepted = other_pages.NO_RESULTS.get(page, ())
    for known in (*excepted, *(claim.text for claim in CLAIMS if claim.page == page)):
        assert prose(known) in text, known
        text = text.replace(prose(known), " ")
    assert NUMBER.findall(text) == []


def test_a_number_outside_tables_and_code_is_found():
    text = "Above 0.5.\n\n    run --a=0.1\n\n<!-- table\n-->\n\n| 0.2 |\n\nBelow `0.3` -0.25.\n"
    assert NUMBER.findall(prose(text)) == ["0.5", "-0.25"]


def test_a_table_is_made_of_the_means_over_seeds(tmp_path, monkeypatch):
    (tmp_path / "scores.csv").write_text(
        "column,row,seed,metric,cutoff,value\n"
        "a,x,0,recall,5,0.5\na,x,1,recall,5,0.7\na,x,0,recall,10,0.9\na,ppop,0,recall,5,0.25\n"
    )
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    mark = (
        "<!-- table\nfile: scores.csv\nmetrics: recall\ncolumns: a = Log A, b\nrows: ppop, x = X\n"
        "spread: yes\n-->\n\n"
    )
    made = "| Recall@5 | Log A | b |\n| --- | ---: | ---: |\n| PPOP | 0.250 | – |\n"
    made += "| X | **0.600** ± 0.141 | – |\n"
    assert tables.fill(f"before\n{mark}| old |\nafter\n") == f"before\n{mark}{made}\nafter\n"


def test_published_figures_stand_beside_ours_over_all_users(tmp_path, monkeypatch):
    """One of two users has a target that is not known: it is missed. Bug: leave it out."""
    head = "row,trains_on_validation,origin,cases,users,recall@10,ndcg@10,recall@10 sd,ndcg@10 sd"
    sr = "SR, without the user's items"
    old = f'"{sr}",true,measured,2,2,0.9,0.9,,,1,0,,old,run'
    lines = ("Peer,,published,2,2,0.25,0.5,,,,,,,", old)
    lines = (f"{head},seeds,epochs,trained,commit,command", *lines)
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    about = {"name": "SR", "users": 2, "epochs": 0, "exclude_session_items": True}
    about["made"] = {"commit": "abc"}
    runs = []
    for seed, recall in enumerate([0.5, 0.3]):
        of_seed = {"seed": seed, "cases": 1, "recall@10": recall, "ndcg@10": 0.25}
        runs.append(tmp_path / f"run_{seed}")
        runs[-1].mkdir()
        (runs[-1] / "metrics.json").write_text(json.dumps(about | {"per_seed": [of_seed]}))
        flags = ("--model=sr", "--events=logs/log.txt", "--train_on_validation")
        (runs[-1] / "flags").write_text("\n".join(flags))
        recipe = {"format": RECIPE_FORMAT, "model": {"name": "sr"}}
        (runs[-1] / "recipe.json").write_text(json.dumps(recipe))
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    text = "<!-- table\nkind: published\nfile: log.csv\n-->\n\n"
    rows = {1: "**0.2500** / **0.1250**", 2: "**0.2000** ± 0.0707 / **0.1250** ± 0.0000"}
    for n_seeds, cell in rows.items():
        published.main(tmp_path / "log.csv", runs[:n_seeds])
        assert tables.fill(text).split("\n")[5:-2] == [
            f"| Recall@10 / NDCG@10 | {' | '.join(published.ORIGINS.values())} |",
            "| --- | ---: | ---: | ---: |",
            "| Peer | **0.2500** / **0.5000** | – | – |",
            f"| {sr} | – | – | {cell} |",
        ]
    command = (
        ".venv/bin/python -m experiments.run --model=sr --dataset=sequences --events=log.txt "
        "--cutoffs=5,10 --train_on_validation --exclude_session_items --seeds=0,1"
    )
    assert (tmp_path / "log.csv").read_text().endswith(f',"{command}"\n')


def test_the_numbers_of_a_sentence_are_put_into_its_page():
    page = "Before 0.1.\n\nRecall@5 falls by\n0.107 on 3 logs, to 1,250.\n"
    text = "Recall@5 falls by 0.2 on 4 logs, to 12,500."
    assert sentences.fill(page, text) == page.replace("0.107 on 3", "0.2 on 4").replace(
        "1,250", "12,500"
    )
    assert sentences.fill(page, "Recall@5 rises by 0.2 on 4 logs, to 12,500.") is None
    assert sentences.fill(page + page, text) is None
