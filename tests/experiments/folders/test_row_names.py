"""The names of the rows of a comparison."""

import dataclasses
import json

import pytest

from experiments.folders.row_names import row_names
from hrnn_jax.config import (
    RECIPE_FORMAT,
    EvaluationConfig,
    ItemKnnConfig,
    ModelConfig,
    TrainConfig,
    settings,
)
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


def test_rows_say_what_differs_from_the_first_and_none_are_equal(runs):
    names = row_names(
        *runs(
            ("HRNN Init", {}),
            ("HRNN Init", {"loss": "bpr", "learning_rate": 0.05}),
            ("HRNN Init", {}),
            ("HRNN Init", {"idle_gap": True, "epochs": 3, "seeds": [0, 1]}),
            ("RNN", {"batch_size": 100}),
            ("Item-KNN", {"neighbours": 7}),
            ("Item-KNN", {"ties": "for"}),
        )
    )
    assert names == [
        "1 HRNN Init",
        "2 HRNN Init --loss=bpr --learning_rate=0.05",
        "3 HRNN Init",
        "4 HRNN Init --idle_gap --epochs=3 --seeds=0,1",
        "5 RNN --batch_size=100",
        "6 Item-KNN",
        "7 Item-KNN --neighbours=300 --ties=for",
    ]


def test_hrnn_plus_is_called_so_however_it_was_asked_for(runs):
    """By its name, or before it had one by its flag file; its flags differ from the preset's."""
    names = row_names(
        *runs(
            ("HRNN Init", {}),
            ("hrnn_plus", HRNN_PLUS),
            ("HRNN Init", {**HRNN_PLUS, "learning_rate": 0.002}),
            ("HRNN Init", {"past": 64}),
        )
    )
    assert names == [
        "1 HRNN Init",
        "2 hrnn_plus",
        "3 hrnn_plus --learning_rate=0.002",
        "4 HRNN Init --past=64",
    ]


def test_many_differences_are_counted(runs):
    changed = {"layers": 2, "past": 3, "loss": "bpr", "momentum": 0.5, "batch_size": 7}
    names = row_names(*runs(("RNN", {}), ("RNN", changed)))
    assert names[1] == "2 RNN --layers=2 --past=3 --loss=bpr --momentum=0.5 and 1 more"
