"""The report: hand-made CSV files in, Markdown and one HTML page out."""

import csv
import html.parser
import math
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

import experiments
from experiments.common.model_names import PAPER_NETWORKS
from experiments.paper import report, tables
from experiments.paper.figures import figure, figure_table
from experiments.paper.numbers import SCORES, paper_gain
from experiments.paper.results import ROW_NAMES, ROW_SECTIONS, read_results
from experiments.paper.size_table import compare_sizes, size_table
from experiments.rendering.markdown import Cell
from hrnn_jax import errors

HEADS = {
    "data": "column,key,value",
    "hyper": "column,row,key,value",
    "runs": "column,row,seed,cases,epochs,train_seconds,train_events_per_second,"
    "eval_cases_per_second,commit,machine,finished,stopped",
    "failed": "column,row,seed,reason",
    "chosen": "column,row,trials,value,key,setting",
    "scores": "column,row,seed,metric,cutoff,value",
    "history": "column,row,seed,group,sessions,recall,mrr",
    "position": "column,row,seed,group,cases,recall,mrr",
    "significance": "column,metric,a,b,cases,statistic,p",
}
VOID = {"meta", "link", "br", "img", "hr", "input"}


def write_csv(folder, **lines):
    """Write all files, those not given with a header only."""
    folder.mkdir(exist_ok=True)
    for name, head in HEADS.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([head.split(","), *lines.get(name, ())])
    return folder


def data(key="xing", *, kind="simulated", shape="xing", own="", **cells):
    cells = {"title": f"title of {key}", "data": kind, "shape": shape, "paper": own, **cells}
    return [(key, name, value) for name, value in {"command": f"make {key}", **cells}.items()]


def scores(row, recalls, mrrs=None, column="xing"):
    """Recall@5 and MRR@5 by seed, and Precision@5, which is Recall@5 / 5."""
    lines = []
    for seed, (recall, mrr) in enumerate(zip(recalls, mrrs or recalls, strict=True)):
        for metric, value in (("recall", recall), ("mrr", mrr), ("precision", recall / 5)):
            lines.append((column, row, seed, metric, 5, value))
    return lines


def compared(a, b, *, recall, mrr):
    return [
        ("xing", metric, a, b, 9, 1.0, p) for metric, p in (("recall@5", recall), ("mrr@5", mrr))
    ]


@pytest.fixture
def read(tmp_path):
    """Read lines as the findings of a results folder."""

    def call(**lines):
        return read_results(write_csv(tmp_path / "csv", **{"data": data(), **lines}))

    return call


@pytest.fixture
def written(tmp_path):
    """Write a report; returns (Markdown, HTML)."""

    def call(out="out", **lines):
        folder = write_csv(tmp_path / "csv", **{"data": data(), **lines})
        report.write(folder, tmp_path / out)
        return [(tmp_path / out / f"report.{kind}").read_text("utf-8") for kind in ("md", "html")]

    return call


def table3(found, rows=ROW_NAMES):
    """Table 3 as {row key: its cells}, in the order of the columns."""
    table = tables.score_table(found, [*found.columns.values()], rows, "")
    keys = [row for names in ROW_SECTIONS.values() for row in names if row in rows]
    return dict(zip(keys, [cells for *_, cells in table.rows()], strict=True))


# --- numbers


def test_mean_and_sample_deviation_by_hand(read):
    cell, *_, n = table3(read(scores=scores("rnn_small", [0.1, 0.2, 0.6])))["rnn_small"]
    assert cell.text == "0.3000"
    assert cell.note == f"± {math.sqrt((0.04 + 0.01 + 0.09) / 2):.4f}"
    assert n.text == "3"


def test_one_seed_has_no_deviation_and_a_missing_row_is_a_dash(read):
    cells = table3(read(scores=scores("ppop", [0.25])))
    assert [(cell.text, cell.note) for cell in cells["ppop"]] == [
        *[("0.2500", ""), ("0.2500", ""), ("0.0500", ""), ("1", "")]
    ]
    assert {cell.text for cell in cells["rnn_large"]} == {"–"}


def test_each_row_states_its_own_number_of_seeds(read):
    cells = table3(read(scores=[*scores("rnn_small", [0.1] * 3), *scores("hrnn_all_small", [0.1])]))
    assert [cells[row][-1].text for row in ("rnn_small", "hrnn_all_small")] == ["3", "1"]


def test_a_score_that_is_not_a_number_is_left_out(read):
    lines = [*scores("rnn_small", [0.2, 0.4]), *[("xing", "rnn_small", 2, "recall", 5, "nan")]]
    cell = table3(read(scores=lines))["rnn_small"][0]
    assert (cell.text, cell.note[:4]) == ("0.3000", "± 0.")


# --- marks


def test_the_best_of_all_rows_and_ties_as_printed_are_bold(read):
    cells = table3(
        read(
            scores=[
                *scores("ppop", [0.30001], [0.1]),
                *scores("hrnn_init_small", [0.29999], [0.2]),
                *scores("vsknn", [0.2998], [0.3]),
            ]
        )
    )
    bold = {(row, n) for row in cells for n, cell in enumerate(cells[row]) if cell.bold}
    # Precision is a fifth of the recalls: all three print 0.0600.
    assert bold == {
        *[("ppop", 0), ("hrnn_init_small", 0), ("vsknn", 1)],
        *[("ppop", 2), ("hrnn_init_small", 2), ("vsknn", 2)],
    }


ALL_SMALL = [line for model in PAPER_NETWORKS for line in scores(f"{model}_small", [0.2, 0.3])]


def marks(found):
    """{row: (italic, underlined, mark) of Recall, MRR, Precision}."""
    return {
        row: [(cell.italic, cell.underlined, cell.mark) for cell in cells[:3]]
        for row, cells in table3(found).items()
    }


def test_without_a_test_there_is_no_mark(read):
    assert {mark for row in marks(read(scores=ALL_SMALL)).values() for mark in row} == {
        (False, False, "")
    }


def test_a_network_that_differs_from_rnn_is_italic(read):
    significance = [
        *compared("rnn_concat_small", "rnn_small", recall=0.0099, mrr=0.01),
        *compared("hrnn_all_small", "rnn_small", recall=0.5, mrr=1e-9),
    ]
    found = marks(read(scores=ALL_SMALL, significance=significance))
    assert [italic for italic, _, _ in found["rnn_concat_small"]] == [True, False, True]
    assert [italic for italic, _, _ in found["hrnn_all_small"]] == [False, True, False]
    assert not any(italic for italic, _, _ in found["rnn_small"])
    assert not any(underlined for row in found.values() for _, underlined, _ in row)


def test_an_hrnn_that_differs_from_rnn_concat_is_underlined(read):
    significance = [
        *compared("hrnn_init_small", "rnn_concat_small", recall=1e-5, mrr=0.2),
        # Of RNN Concat and RNN, neither may be underlined.
        *compared("rnn_concat_small", "rnn_small", recall=1e-5, mrr=1e-5),
    ]
    found = marks(read(scores=ALL_SMALL, significance=significance))
    assert [u for _, u, _ in found["hrnn_init_small"]] == [True, False, True]
    assert not any(u for row in found if row != "hrnn_init_small" for _, u, _ in found[row])


def test_an_hrnn_all_that_does_not_differ_from_hrnn_init_has_a_dagger(read):
    significance = [
        *compared("hrnn_all_small", "hrnn_init_small", recall=0.01, mrr=0.0099),
        *compared("rnn_concat_small", "rnn_small", recall=0.9, mrr=0.9),
    ]
    found = marks(read(scores=ALL_SMALL, significance=significance))
    for row, cells in found.items():
        expected = ["†", "", "†"] if row == "hrnn_all_small" else [""] * 3
        assert [mark for _, _, mark in cells] == expected, row


def test_rows_without_p_do_not_differ(read):
    significance = compared("hrnn_init_small", "hrnn_all_small", recall="", mrr="nan")
    found = marks(read(scores=ALL_SMALL, significance=significance))
    assert [mark for _, _, mark in found["hrnn_all_small"]] == ["†"] * 3


def test_networks_that_do_not_differ_from_a_baseline_are_named(written):
    same = compared("rnn_small", "ppop", recall=0.25, mrr=1e-9)
    text, _ = written(scores=ALL_SMALL, significance=same)
    assert "RNN (small) from PPOP in Recall@5 (p = 0.2500)." in text
    text, _ = written(
        scores=ALL_SMALL, significance=compared("rnn_small", "ppop", recall=0, mrr=1e-9)
    )
    assert "every network tested differs significantly from the baselines" in text


# --- rows that did not train


def run_line(row, seed=0, stopped="", column="xing"):
    rest = (9, 10, 1.0, 1.0, 1.0, "abc1234", "one core", "2026-01-01", stopped)
    return (column, row, seed, *rest)


def test_a_row_that_did_not_train_has_no_number_no_mark_and_no_gain(read, written):
    rows = ("rnn_large", "rnn_concat_large", "hrnn_init_large", "hrnn_init_2017_large")
    lines = {
        # The best of all, as a number would say.
        "scores": [
            line for n, row in enumerate(rows) for line in scores(row, [[0.2, 0.9][n == 2]])
        ],
        "runs": [
            run_line(row, stopped="loss 1.0530 in epoch 1" * (n == 2)) for n, row in enumerate(rows)
        ],
        "significance": [
            line
            for base in rows[:2]
            for line in compared("hrnn_init_large", base, recall=1e-9, mrr=1e-9)
        ],
        "history": [("xing", row, 0, "short", 5, 0.1, 0.1) for row in rows],
    }
    found = read(**lines)
    cells = table3(found)
    assert {tuple(cells["hrnn_init_large"][:3])} == {(Cell("did not train"),) * 3}
    assert cells["rnn_large"][0].bold
    assert cells["hrnn_init_2017_large"][0].text == "0.2000"
    assert found.gain("xing", "hrnn_init_large", "rnn_large", "recall") is None
    assert ("xing", "hrnn_init_large", "recall", "short") not in found.spreads["history"]
    text, _ = written(**lines)
    assert "HRNN Init (equations, large), loss 1.0530 in epoch 1." in text
    assert "0.9000" not in text


def test_seeds_that_did_not_train_are_named(written):
    runs = [run_line("hrnn_init_small", n, "loss 1.1000 in epoch 2" * (n != 1)) for n in range(3)]
    text, _ = written(scores=ALL_SMALL, runs=runs)
    named = "seed 0: loss 1.1000 in epoch 2; seed 2: loss 1.1000 in epoch 2"
    assert f"HRNN Init (equations, small), {named}." in text


def test_runs_of_an_older_version_name_no_stop(read, tmp_path):
    read(scores=ALL_SMALL, runs=[run_line("rnn_small")])
    path = tmp_path / "csv" / "runs.csv"
    lines = list(csv.reader(path.read_text().splitlines()))
    place = lines[0].index("stopped")
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(line[:place] + line[place + 1 :] for line in lines)
    assert read_results(tmp_path / "csv").stopped == {}


# --- small and large networks


@pytest.mark.parametrize(
    ("large", "p", "verdict"),
    [
        ([0.4], 1e-9, "larger"),
        ([0.1], 1e-9, "smaller"),
        ([0.4], 0.02, "no significant difference"),
        ([0.29], 1e-9, "no significant difference"),  # as one of the small network's seeds
        ([0.4], None, None),  # not tested
    ],
)
def test_the_verdict_on_a_large_network(read, large, p, verdict):
    lines = [*scores("rnn_small", [0.2, 0.3]), *scores("rnn_large", large)]
    tests = compared("rnn_large", "rnn_small", recall=p, mrr=p) if p else []
    found = read(scores=lines, significance=tests)
    assert compare_sizes(found, "xing", "rnn_large", "recall") == verdict
    [(title, name, cells)] = size_table(found, found.columns["xing"]).rows()
    assert (title, name) == ("equations, large", "RNN")
    small, big, difference, paper, answer = cells[:5]
    assert (small.text, small.note) == ("0.2500", "(2 seeds)")
    assert (big.text, big.note) == (f"{large[0]:.4f}", "(1 seed)")
    assert difference.text == f"{large[0] / 0.25 - 1:+.1%}"
    assert paper.text == "+1.9%"  # 0.1317 / 0.1292
    assert answer.text == (verdict or "–")


def test_a_large_network_that_did_not_train_is_named_in_the_answer(read):
    lines = [*scores("hrnn_init_small", [0.2]), *scores("hrnn_init_large", [0.1])]
    lines += [*scores("hrnn_init_2017_small", [0.2]), *scores("hrnn_init_2017_large", [0.3])]
    found = read(
        scores=lines,
        runs=[run_line("hrnn_init_large", stopped="loss 1.1000 in epoch 1")],
        significance=compared("hrnn_init_2017_large", "hrnn_init_2017_small", recall=0, mrr=0.5),
    )
    table = size_table(found, found.columns["xing"])
    assert table.notes[0] == (
        "Recall@5 of the large network. Larger: HRNN Init (code of 2017). "
        "Did not train: HRNN Init (equations)."
    )
    [(_, _, equations), (_, _, code)] = table.rows()
    assert [cell.text for cell in equations[:5]] == [
        *("0.2000", "did not train", "–", "+10.2%", "did not train")
    ]
    assert code[9].text == "no significant difference"


# --- the paper's numbers


def test_the_papers_gains_follow_from_its_tables():
    # By hand, from Table 3: 0.5421 / 0.4639, 0.4119 / 0.3366, 0.0925 / 0.0939; and from Table 5:
    # 0.3261 / 0.2314.
    for arguments, percent in {
        ("video", "hrnn_init_small", "rnn_small", "recall"): 16.857,
        ("video", "hrnn_init_small", "rnn_small", "mrr"): 22.371,
        ("xing", "hrnn_all_large", "ppop", "mrr"): -1.491,
        ("videoxxl", "hrnn_init_small", "rnn_small", "mrr"): 40.925,
    }.items():
        assert paper_gain(*arguments) == pytest.approx(percent / 100, abs=1e-5)
    assert paper_gain("videoxxl", "hrnn_init_small", "ppop", "mrr") is None


def test_the_papers_precision_is_a_fifth_of_its_recall():
    for rows in SCORES.values():
        for row, values in rows.items():
            assert values["precision"] == pytest.approx(values["recall"] / 5, abs=1.01e-4), row


def test_gains_stand_beside_the_papers_where_it_has_such_data(read):
    columns = [*data("video", shape="video"), *data("journey", kind="real", shape="")]
    lines = [
        line
        for column in ("video", "journey")
        for row, value in (("rnn_small", 0.4), ("hrnn_init_small", 0.5), ("ppop", 0.8))
        for line in scores(row, [value, value], column=column)
    ]
    found = read(data=columns, scores=lines)
    table = tables.gain_table(found, [*found.columns.values()], "", tables.ROW_NAMES)
    assert [[*heads] for heads in table.groups.values()] == [
        ["Recall@5, paper", "Recall@5, here", "MRR@5, paper", "MRR@5, here"],
        ["Recall@5, here", "MRR@5, here"],
    ]
    small = {
        name: [cell.text for cell in cells]
        for title, name, cells in table.rows()
        if title == "equations, small"
    }
    assert small["HRNN Init over RNN"] == ["+16.9%", "+25.0%", "+22.4%", "+25.0%", *["+25.0%"] * 2]
    assert small["HRNN Init over PPOP"][1] == "-37.5%"
    assert small["HRNN All, Eq. 5 over RNN"] == ["+13.6%", "–", "+8.8%", "–", "–", "–"]


def test_a_gain_over_zero_is_none(read):
    found = read(scores=[*scores("rnn_small", [0.0]), *scores("hrnn_init_small", [0.1])])
    assert found.gain("xing", "hrnn_init_small", "rnn_small", "recall") is None


@pytest.mark.parametrize(("kind", "own"), [("real", "yes"), ("real", ""), ("simulated", "")])
def test_the_papers_absolute_numbers_stand_only_beside_its_own_data(written, kind, own):
    texts = written(data=data(kind=kind, own=own), scores=ALL_SMALL)
    for text in texts:
        for printed in ("0.1337", "0.0832", "0.1482"):  # HRNN Init small, HRNN All large on XING
            assert (printed in text) == (own == "yes")
        assert ("SIMULATED" in text) == (kind == "simulated")


def test_every_table_of_simulated_numbers_says_so_in_its_head(written):
    lines = [("xing", "rnn_small", seed, "short", 5, 0.1, 0.1) for seed in (0, 1)]
    _, page = written(scores=ALL_SMALL, history=lines, position=[])
    heads = re.findall(r"<thead>.*?</thead>", page, flags=re.DOTALL)
    assert len(heads) > 5
    assert [head for head in heads if "SIMULATED" not in head and ">Batch size<" not in head] == []


def test_table_5_has_the_scale_and_only_the_gains_of_the_paper(written):
    columns = [*data(), *data("videoxxl", shape="videoxxl", users="81,000")]
    lines = [*ALL_SMALL, *scores("rnn_small", [0.2], column="videoxxl")]
    text, _ = written(data=columns, scores=lines)
    before, table5 = text.split("## Large-scale data")
    assert "81,000 users (paper 810k)" in table5
    assert "+27.7%" in table5  # HRNN Init over RNN, 0.4362 / 0.3415
    assert "0.4362" not in text
    assert "VIDEOXXL (SIMULATED): Recall@5" not in before


# --- tuned rows


TUNED = {
    "data": [*data(), *data("journey", kind="real", shape="")],
    "scores": [
        *scores("hrnn_init_2017_large", [0.2]),
        *scores("rnn_large", [0.25]),
        *scores("rnn_tuned_large", [0.4], column="journey"),
        *scores("hrnn_init_tuned_large", [0.5], column="journey"),
    ],
    "chosen": [
        ("journey", "hrnn_init_tuned_large", 12, 0.4321, "momentum", 0.3),
        ("journey", "hrnn_init_tuned_large", 12, 0.4321, "batch_size", 50),
    ],
}


def test_tuned_rows_stand_in_their_section_with_their_search(written):
    text, _ = written(**TUNED)
    assert "HRNN Init (tuned, large) on journey (real data): Recall@5 0.4321" in text
    assert text.count("the best of 12 trials") == 1
    assert "random search on the validation split" in text
    table = text.split("**Table 3")[1].split("\n**")[0]
    section = table[table.index("tuned, large:") :].splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in section[1:3]] == ["RNN", "HRNN Init"]
    assert "HRNN Init over RNN, tuned, large: Recall@5 +25.0%" in text
    assert "random search" not in written(out="none", **{**TUNED, "chosen": []})[0]


def test_the_papers_numbers_and_gains_are_not_of_tuned_rows(written):
    """The log has the paper's shape, and XING's Table 3 has HRNN Init large 0.1473."""
    own = data(kind="real", own="yes")
    found = scores("hrnn_init_tuned_large", [0.5])
    assert "0.1473" not in written(data=own, scores=found)[0].split("tuned, large")[1]
    assert paper_gain("xing", "hrnn_init_tuned_large", "rnn_large", "recall") is None


# --- settings


def test_settings_differ_from_the_papers_as_numbers_and_by_data(read):
    columns = [*data(), *data("video", shape="video")]
    hyper = [
        *[
            ("xing", "hrnn_init_small", "batch_size", "50"),
            ("xing", "rnn_small", "momentum", "0.10"),
        ],
        *[("video", "hrnn_init_small", "batch_size", "64")],
        *[("xing", "rnn_small", "learning_rate", "0.1"), ("xing", "vsknn", "sample_size", "500")],
        *[("xing", "hrnn_all_small", "user_input", "gates")],
    ]
    table = tables.settings_table(read(data=columns, scores=ALL_SMALL, hyper=hyper))
    cells = {name: cells for _, name, cells in table.rows()}
    heads = [*table.groups[""]]
    batch = cells["HRNN Init (equations, small)"][heads.index("Batch size")]
    assert (batch.text, batch.note) == ("50 (XING); 64‡ (VIDEO)", "(paper: 50)")
    rate = cells["RNN (small)"][heads.index("Learning rate / momentum")]
    assert (rate.text, rate.note) == ("0.1/0.1", "")
    assert cells["V-SKNN"][-1].text == "sample_size 500"
    assert cells["HRNN All, Eq. 5 (equations, small)"][-1].text == "user_input gates‡ (paper: full)"


# --- figures


def test_points_are_medians_and_bars_reach_from_least_to_greatest(read):
    lines = [
        ("xing", "rnn_small", seed, "short", 5, recall, 0.1)
        for seed, recall in enumerate([0.1, 0.2, 0.9])
    ]
    table = figure_table(
        found := read(scores=ALL_SMALL, history=lines), found.columns["xing"], "history"
    )
    [(_, name, cells)] = table.rows()
    assert name == "RNN"
    assert (cells[0].text, cells[0].note) == ("0.2000", "(0.1000 to 0.9000)")
    assert cells[1] == Cell()  # no long histories


def bars(svg):
    """Count error bars: vertical strokes of their width."""
    return len(re.findall(r"stroke-width: 1\.6", svg))


def test_a_single_seed_and_an_empty_group_have_no_bar(read):
    one = [
        ("xing", "rnn_small", 0, "short", 5, 0.1, 0.1),
        ("xing", "rnn_small", 0, "long", 0, "", ""),
    ]
    three = [("xing", "rnn_small", seed, "short", 5, 0.1 + seed, 0.1 + seed) for seed in range(3)]
    drawn = {}
    for name, lines in (("one", one), ("three", three), ("none", [])):
        found = read(scores=ALL_SMALL, history=lines)
        drawn[name] = figure(found, found.columns["xing"], "history")
    assert bars(drawn["one"].svg) == 0
    assert bars(drawn["three"].svg) == 2  # Recall, MRR
    assert "large" not in drawn["one"].svg
    assert drawn["none"] is None


def test_figures_are_xml_in_the_readers_colours(read):
    lines = [("xing", f"{m}_small", 0, "5+", 5, 0.1, 0.1) for m in PAPER_NETWORKS]
    found = read(scores=ALL_SMALL, position=lines)
    svg = figure(found, found.columns["xing"], "position").svg
    ElementTree.fromstring(svg)
    assert "prefers-color-scheme: dark" in svg
    drawing = svg[svg.index("</style>") :]
    assert re.findall(r"#[0-9a-fA-F]{6}\b", drawing) == []
    for network in PAPER_NETWORKS:
        assert f"var(--{network})" in drawing


# --- pages


FULL = {
    "scores": [*ALL_SMALL, *scores("vsknn_br", [0.4])],
    "runs": [
        ("xing", "rnn_small", 0, 1000, 10, 100.0, 50.0, 100.0, "abc1234", "one core", "2026", ""),
        ("xing", "vsknn_br", 0, 1000, "", "", "", 100.0, "def5678", "one core", "2027", ""),
    ],
    "failed": [("xing", "hrnn_all_large", 7, "loss <nan> | at step 3\nof *epoch* 2")],
    "history": [("xing", "rnn_small", 0, "short", 5, 0.1, 0.1)],
    "position": [("xing", "rnn_small", 0, "5+", 5, 0.1, 0.1)],
}


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.ids, self.tags = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href")]
        self.ids += [v for k, v in attrs if k == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_complete_and_needs_no_other_file(written):
    _, text = written(**FULL)
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert {link for link in page.links if not link.startswith("#")} == set()
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert "url(http" not in text
    assert "@import" not in text
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe"}
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    labels = [attributes.get("aria-label") for tag, attributes in page.tags if tag == "svg"]
    assert len(labels) == 2
    assert all(labels)


def test_rows_of_a_table_are_as_long_as_its_head(written):
    text, _ = written(**FULL)
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(tables) > 5
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_markup_in_a_text_is_escaped(written):
    text, page = written(**FULL)
    assert r"loss \<nan\> \| at step 3 of \*epoch\* 2" in text
    assert "loss &lt;nan&gt; | at step 3" in page


def test_markdown_names_figures_that_are_there(written, tmp_path):
    text, _ = written(**FULL)
    names = re.findall(r"!\[[^\]]+\]\((figures/[^)]+)\)", text)
    assert names == ["figures/history_xing.svg", "figures/position_xing.svg"]
    assert all((tmp_path / "out" / name).is_file() for name in names)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_table_names_its_command_machine_and_commits(written):
    text, _ = written(**FULL)
    above, below = text.split("**Table 3:")
    assert above.rstrip().endswith("```\nmake xing\n```")
    # 100 seconds of training, and twice 1,000 cases at 100 a second.
    source = (
        "one core; 2 runs, 2 min 0 s of training and evaluation in all; commit abc1234, def5678"
    )
    assert source in below[: below.index("```")]


def test_the_same_files_give_the_same_bytes(written, tmp_path):
    written(out="a", **FULL)
    # Another process: hashes of strings differ there.
    command = [
        sys.executable,
        "-m",
        "experiments.report",
        str(tmp_path / "csv"),
        str(tmp_path / "b"),
    ]
    subprocess.run(command, check=True)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 4
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_size_or_a_column_not_run_leaves_dashes_not_errors(written):
    columns = [*data(), *data("journey", kind="real", shape="")]
    text, _ = written(data=columns, scores=scores("hrnn_init_large", [0.5]))
    assert "nan" not in text
    assert "journey (real data): Recall@5" not in text  # nothing to show of it


# --- errors


@pytest.mark.parametrize("name", HEADS)
def test_a_missing_file_is_named(tmp_path, name):
    folder = write_csv(tmp_path / "csv", data=data(), **FULL)
    (folder / f"{name}.csv").unlink()
    with pytest.raises(errors.InputError, match=rf"{name}\.csv"):
        read_results(folder)


def test_a_missing_column_is_named(tmp_path):
    folder = write_csv(tmp_path / "csv", data=data(), **FULL)
    (folder / "scores.csv").write_text("column,row,seed,metric,value\n")
    with pytest.raises(errors.InputError, match=r"scores\.csv: unable to find column \"cutoff\""):
        read_results(folder)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ({"scores": []}, "no scores"),
        ({"scores": scores("gru9", [0.1])}, "column 'row'.*gru9"),
        (
            {"scores": scores("ppop", [0.1], column="x")},
            "column 'column'.*x",
        ),
        (
            {"scores": [("xing", "ppop", 0, "recall", 5, "much")]},
            "column 'value'.*much",
        ),
        ({"scores": scores("ppop", [0.1]) * 2}, "two lines of"),
        ({"data": data(kind="dreamt")}, "'real' or 'simulated'"),
        ({"data": data(command="")}, "no 'command'"),
        ({"data": data("../x")}, "letters, digits"),
        (
            {"history": [("xing", "ppop", 0, "medium", 1, 0.1, 0.1)]},
            "column 'group'.*medium",
        ),
    ],
)
def test_a_wrong_value_in_a_file_is_named(read, lines, words):
    with pytest.raises(errors.InputError, match=words):
        read(**{"scores": ALL_SMALL, **lines})


def test_an_error_of_the_command_is_one_line(tmp_path):
    command = [sys.executable, "-m", "experiments.report"]
    for arguments, words in (([], "results folder"), ([str(tmp_path)], "data.csv")):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert words in done.stderr


def test_the_shipped_report_is_made_of_the_shipped_files(tmp_path):
    shipped = pathlib.Path(experiments.__file__).parent / "results"
    report.write(shipped, tmp_path)
    assert (tmp_path / "report.md").read_bytes() == (shipped / "report.md").read_bytes()
    figures = sorted(path.name for path in (tmp_path / "figures").iterdir())
    kept = sorted(path.name for path in (shipped / "figures").iterdir())
    assert figures == [name for name in kept if not name.startswith("benchmark_")]
