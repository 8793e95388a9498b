"""The page about the library: all its code, run in the order of the page on a small log."""

import pathlib
import re

import pytest

import hrnn_jax
from tests.helpers import logs

PAGE = pathlib.Path(__file__).parents[2] / "docs/how-to/library.md"


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Run the page; returns the names that its code defines."""
    folder = tmp_path_factory.mktemp("library")
    logs.write(folder / "my_log.csv")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    defined = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), defined)
    return defined


def test_its_code_gives_what_its_comments_say(names):
    top = names["top"]
    assert top.columns == ["user", "item", "score", "rank"]
    assert set(top["user"]) == {"u1", "u2"}
    assert repr(names["same"]) == "HRNN(variant='all', hidden_units=32, leak='carried')"
    assert names["network"].epochs_ == 3
    assert "mrr@5" in names["network"].history_.columns
    assert len(names["losses"]) == 2
    assert isinstance(names["model"], hrnn_jax.HRNN)


def test_it_names_every_model_and_callback():
    text = PAGE.read_text()
    models = ["HRNN", "HRNNPlus", "RNN", "RNNConcat", "PPOP", "ItemKNN", "Markov", "SR"]
    for name in [
        *models,
        "VSKNN",
        "VSKNNBR",
        "STAN",
        "VSTAN",
        "EASE",
        "Popular",
        "Counts",
        "UVSTAN",
    ]:
        assert f"`{name}(" in text
        assert name in hrnn_jax.__all__
    for name in re.findall(r"callbacks\.(\w+)\(", text):
        assert callable(getattr(hrnn_jax.callbacks, name))
