"""Each example stands in a page of the docs, from its file."""

import pytest

from tests.docs import examples

NAMES = sorted(path.name for path in examples.FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_the_file(name):
    # In a fence that ruff does not take for Python and format.
    shown = f'``` {{ .python }}\n--8<-- "examples/{name}"\n```\n'
    pages = [path.read_text() for path in examples.FOLDER.parent.rglob("*.md")]
    assert sum(shown in page for page in pages) == 1
