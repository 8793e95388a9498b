"""The recipes of former versions are read, or refused in one line."""

import dataclasses
import json
import pathlib

import pytest

from hrnn_jax import errors
from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.files import recipe_formats

OLD = pathlib.Path(__file__).parents[2] / "data" / "run_format_1"


def recipe(name):
    return json.loads((OLD / name / "recipe.json").read_text())


def test_an_old_recipe_gets_all_settings():
    """None is left to a default of the present version, which may change."""
    found = recipe_formats.upgrade_recipe(recipe("hrnn_init"))
    model, training = dict(found["model"]), found["training"]
    assert model.pop("name") == "hrnn_init"
    assert model.keys() == {field.name for field in dataclasses.fields(ModelConfig)}
    assert training.keys() == {field.name for field in dataclasses.fields(TrainConfig)}
    ModelConfig(**model)
    TrainConfig(**training)
    assert (found["format"], found["data"]) == (4, "events-46389046f5c4")
    assert recipe_formats.upgrade_recipe(found) == found
    # And what was written in formats 3 and 2, before there were some of the settings.
    removed = {"past": 0, "neighbours": 0, "neighbours_weight": 0.4}
    model = {"name": "hrnn_init", **model, **removed}
    del model["places"]
    assert recipe_formats.upgrade_recipe({**found, "format": 3, "model": model}) == found
    del model["leak"]
    assert recipe_formats.upgrade_recipe({**found, "format": 2, "model": model}) == found


def test_a_recipe_of_this_format_gets_the_settings_added_to_it():
    """Bug: refuse to go on with a run of yesterday, as its recipe lacks a setting."""
    found = recipe_formats.upgrade_recipe(recipe("hrnn_init"))
    of_model, added = ("residual", "recurrent_dropout"), ("lane_groups", "held_out_patience")
    training = {name: of for name, of in found["training"].items() if name not in added}
    model = {name: of for name, of in found["model"].items() if name not in of_model}
    old = {**found, "model": model, "training": training}
    assert recipe_formats.upgrade_recipe(old) == found


def test_an_old_recipe_keeps_its_values_and_the_defaults_of_then():
    plain = recipe_formats.upgrade_recipe(recipe("hrnn_init"))
    assert (plain["model"]["dropout_user"], plain["model"]["feed_last_item"]) == (0.1, False)
    assert plain["model"]["leak"] == "equation"
    assert (plain["training"]["mean_over"], plain["training"]["negative_alpha"]) == ("valid", 0.75)
    assert plain["model"]["places"] == 0


def test_the_recipe_of_a_baseline_is_unchanged_but_for_its_format():
    assert recipe_formats.upgrade_recipe(recipe("vsknn_br")) == {**recipe("vsknn_br"), "format": 4}


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("model", "past", 64),
        ("model", "init_gate", True),
        ("training", "clip", 1.0),
        ("training", "warmup", 0.5),
    ],
)
def test_a_run_that_needs_a_removed_setting_is_refused(part, name, value):
    old = recipe("hrnn_init")
    old[part][name] = recipe_formats.REMOVED[name]
    assert name not in recipe_formats.upgrade_recipe(old)[part]
    old[part][name] = value
    with pytest.raises(errors.InputError, match=f"{name}={value}, which this version no longer"):
        recipe_formats.upgrade_recipe(old)


def test_a_recipe_of_a_later_format_is_refused():
    with pytest.raises(errors.InputError, match="format 5"):
        recipe_formats.upgrade_recipe({"format": 5})
