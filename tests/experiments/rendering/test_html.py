"""The HTML page of a report's Markdown."""

import xml.etree.ElementTree as ElementTree

import pytest

from experiments.rendering.html import to_html
from experiments.rendering.markdown import (
    Cell,
    Figure,
    Table,
    bullets,
    code,
    heading,
    to_markdown,
    warning,
)

SVG = '<svg class="drawing" viewBox="0 0 1 1"><path d="M0 0"/></svg>'
MARKED = "a <script>b</script> & &lt; <u>c</u> *d* _e_ `f` | [g](http://h) \\ </i>"
TABLE = Table(
    caption=f"Table of {MARKED}",
    corner="Model",
    groups={
        "One": {
            "Recall": {1: Cell("1"), 2: Cell("0.5", "†", "± 0.1", italic=True, underlined=True)},
            MARKED: {1: Cell(MARKED)},
        },
        "": {"Words": {1: Cell(note=MARKED)}},
    },
    sections={"": {1: MARKED, 0: "a row without cells"}, "small": {2: "RNN"}},
    commands=[MARKED],
    notes=[MARKED],
)


@pytest.fixture(scope="module")
def page():
    """The page of a report with all kinds of blocks, as an XML tree."""
    blocks = [
        warning(MARKED),
        heading(MARKED),
        TABLE,
        heading("Figures"),
        Figure(caption="Figure 1", name="one", svg=SVG, alt=MARKED),
        bullets({MARKED: MARKED}),
        code([MARKED]),
    ]
    markdown = to_markdown(f"Title of {MARKED}", blocks)
    text = to_html(markdown, {"figures/one.svg": SVG})
    return ElementTree.fromstring(text[text.index("<body>") :].replace("</html>", ""))


def text_of(element):
    return "".join(element.itertext()).strip()


def test_marked_text_is_shown_as_it_is_everywhere(page):
    plain = " ".join(MARKED.split())
    [heading, _] = page.iter("h2")
    [warning] = page.iter("blockquote")
    assert text_of(page.find(".//h1")) == f"Title of {plain}"
    assert text_of(heading) == text_of(warning) == plain
    assert [text_of(code) for code in page.iter("code")] == [MARKED] * 2
    assert [text_of(item) for item in page.iter("li")][-2:] == [plain, f"{plain}: {plain}"]
    assert not {"script", "i", "img"} & {element.tag for element in page.iter()}


def test_every_cell_is_there_under_header_cells(page):
    [table] = page.iter("table")
    rows = [[(cell.tag, text_of(cell)) for cell in row] for row in table.iter("tr")]
    assert rows == [
        [("th", "Model"), ("th", "One: Recall"), ("th", f"One: {MARKED}"), ("th", "Words")],
        [("th", MARKED), ("td", "1"), ("td", MARKED), ("td", f"– {MARKED}")],
        [("th", "small:"), ("td", ""), ("td", ""), ("td", "")],
        [("th", "RNN"), ("td", "0.5† ± 0.1"), ("td", "–"), ("td", "–")],
    ]
    assert {cell.get("scope") for cell in table.find("thead").iter("th")} == {"col"}
    assert {cell.get("scope") for cell in table.find("tbody").iter("th")} == {"row"}


def test_marks_of_significance_are_shown(page):
    [cell] = [cell for cell in page.iter("td") if "†" in text_of(cell)]
    assert text_of(cell.find("em/u")) == "0.5"
    assert [element.tag for element in page.iter("u")] == ["u"]


def test_a_table_scrolls_on_its_own_and_is_named_by_its_caption(page):
    [scroll] = [element for element in page.iter("div") if element.get("class") == "scroll"]
    assert scroll.get("tabindex") == "0"
    [caption] = [p for p in page.iter("p") if p.get("id") == scroll.get("aria-labelledby")]
    assert text_of(caption) == f"Table of {MARKED}"
    assert scroll.find("table").get("aria-labelledby") == caption.get("id")


def test_a_figure_is_inside_the_page_with_its_description(page):
    [svg] = page.iter("svg")
    assert (svg.get("role"), svg.get("aria-label")) == ("img", MARKED)


def test_contents_link_to_the_headings(page):
    links = [link.get("href") for link in page.iter("a")]
    assert links == [f"#{heading.get('id')}" for heading in page.iter("h2")]
