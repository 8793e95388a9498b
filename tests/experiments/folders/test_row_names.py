"""The names of the rows of a comparison."""

import dataclasses
import json

import pytest

from experiments.folders.row_names import row_names
from hrnn_jax.config import (
    EvaluationConfig,
    ItemKnnConfig,
    ModelConfig,
    TrainConfig,
    settings,
)
from hrnn_jax.files.recipe_formats import RECIPE_FORMAT
from hrnn_jax.presets import HRNN_PLUS


@pytest.fixture
def runs(tmp_path):
    """Make a run folder of each set of values; returns the folders and their metrics.json."""

    def make(*wanted):
        folders, metrics = [], []
        for number, (name, values) in enumerate(wanted):
            given = dict(values)
            of_run = {"epochs": given.pop("epochs", 10), "seeds": given.pop("seeds", [0])}
            ranked = {key: given.pop(key) for key in [*given] if key in settings(EvaluationConfig)}
            recipe = {"format": RECIPE_FORMAT, "data": "log-1"}
            if name == "Item-KNN":
                recipe["model"] = {"name": "item_knn", **vars(ItemKnnConfig(**given))}
            else:
                trained = {key: given.pop(key) for key in [*given] if key in settings(TrainConfig)}
                variant = {"HRNN Init": "hrnn_init", "hrnn_plus": "hrnn_init", "RNN": "rnn"}[name]
                config = ModelConfig(n_items=5, variant=variant, **given)
                recipe["model"] = {"name": variant, **dataclasses.asdict(config)}
                recipe["training"] = dataclasses.asdict(TrainConfig(**trained))
            folder = tmp_path / str(number)
            folder.mkdir()
            (folder / "recipe.json").write_text(json.dumps(recipe))
            folders.append(folder)
            about = {"name": name, "ties": "against", "candidates": None}
            metrics.append({**about, **of_run, **ranked})
        return folders, metrics

    return make


# Where the usual settings differ from the defaults of the configs.
RNN = {"batch_size": 100, "dropout_session": 0.2, "momentum": 0.1}
HRNN = {"dropout_session": 0.1}


def test_rows_say_what_is_not_usual_whatever_stands_first(runs):
    """Bug: compare with the first row."""
    wanted = {
        "HRNN Init --loss=bpr --learning_rate=0.05": {**HRNN, "loss": "bpr", "learning_rate": 0.05},
        "HRNN Init": HRNN,
        "HRNN Init --dropout_session=0 --idle_gap": {"idle_gap": True, "epochs": 3},
        "RNN": RNN,
        "RNN --batch_size=50": {**RNN, "batch_size": 50},
        "Item-KNN": {},
        "Item-KNN --neighbours=7": {"neighbours": 7},
        "Item-KNN --ties=for": {"ties": "for"},
    }
    model = {name: name.partition(" --")[0] for name in wanted}
    names = row_names(*runs(*((model[name], values) for name, values in wanted.items())))
    assert names == [f"{number} {name}" for number, name in enumerate(wanted, start=1)]


def test_rows_of_one_name_say_epochs_seeds_or_folders(runs):
    same = ("HRNN Init", {**HRNN, "idle_gap": True})
    folders, metrics = runs(
        *(("RNN", RNN), ("RNN", {**RNN, "epochs": 3}), ("RNN", {**RNN, "epochs": 3, "seeds": [7]})),
        *(same, same, ("Item-KNN", {})),
    )
    assert row_names(folders, metrics) == [
        "1 RNN --epochs=10",
        "2 RNN --epochs=3 --seeds=0",
        "3 RNN --epochs=3 --seeds=7",
        "4 HRNN Init --idle_gap in 3",
        "5 HRNN Init --idle_gap in 4",
        "6 Item-KNN",
    ]


def test_numbers_have_three_digits_unless_rows_would_be_equal_or_look_usual(runs):
    rates = [0.0512345678901, 0.0512345678902, 0.0345678901234, 0.0345678901234, 0.1000001]
    assert row_names(*runs(*(("RNN", {**RNN, "learning_rate": rate}) for rate in rates))) == [
        "1 RNN --learning_rate=0.0512345678901",
        "2 RNN --learning_rate=0.0512345678902",
        "3 RNN --learning_rate=0.0346 in 2",
        "4 RNN --learning_rate=0.0346 in 3",
        "5 RNN --learning_rate=0.1000001",  # usual is 0.1
    ]


def test_hrnn_plus_is_called_so_however_it_was_asked_for(runs):
    """By its name, or before it had one by its flag file; its flags differ from the preset's."""
    names = row_names(
        *runs(
            ("HRNN Init", HRNN),
            ("hrnn_plus", HRNN_PLUS),
            ("HRNN Init", {**HRNN_PLUS, "learning_rate": 0.002}),
            ("HRNN Init", {**HRNN, "places": 64}),
        )
    )
    assert names == [
        "1 HRNN Init",
        "2 hrnn_plus",
        "3 hrnn_plus --learning_rate=0.002",
        "4 HRNN Init --places=64",
    ]


def test_no_difference_is_left_out(runs):
    changed = {"layers": 2, "places": 3, "loss": "bpr", "momentum": 0.5, "batch_size": 7}
    [name] = row_names(*runs(("RNN", {**RNN, **changed})))
    assert name == "1 RNN --layers=2 --places=3 --loss=bpr --momentum=0.5 --batch_size=7"


def test_edits_of_one_registered_loss_are_told_apart_by_their_code(runs):
    """Bug: name them by their folders, which say nothing."""
    folders, metrics = runs(*[("RNN", RNN)] * 3)
    for folder, source in zip(folders[:2], ("0123456789ab", "fedcba987654"), strict=True):
        recipe = json.loads((folder / "recipe.json").read_text())
        (folder / "recipe.json").write_text(json.dumps(recipe | {"source": source}))
    names = row_names(folders, metrics)
    assert names == ["1 RNN with code 012345", "2 RNN with code fedcba", "3 RNN"]
