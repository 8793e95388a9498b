"""Settings stand once: bounds, meanings, needs, and the recipes of former versions."""

import dataclasses
import json
import pathlib

import pytest

from hrnn_jax import config, errors
from hrnn_jax.config import (
    CountsConfig,
    DataConfig,
    EaseConfig,
    EvaluationConfig,
    ItemKnnConfig,
    ModelConfig,
    PopularConfig,
    SessionKnnConfig,
    StanConfig,
    TrainConfig,
)

OLD = pathlib.Path(__file__).parents[1] / "data" / "run_format_1"
CONFIGS = (
    *(DataConfig, ModelConfig, TrainConfig, EvaluationConfig),
    *(ItemKnnConfig, SessionKnnConfig, StanConfig, EaseConfig, PopularConfig, CountsConfig),
)


@pytest.mark.parametrize("cls", CONFIGS)
def test_every_setting_has_a_meaning_and_a_model_that_uses_it(cls):
    meanings = config.meanings(cls)
    assert meanings.keys() >= config.settings(cls).keys()
    for name, setting in config.settings(cls).items():
        assert meanings[name].endswith(".")
        assert set(setting.models) <= {*config.NETWORKS, *config.BASELINES}
        assert setting.models
        assert set(setting.needs) <= {field.name for field in dataclasses.fields(cls)}


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (DataConfig, {"min_support": 0}, "`min_support`=0: give 1 or more"),
        (DataConfig, {"session_gap_minutes": 0}, "`session_gap_minutes`=0: give a number above 0"),
        (DataConfig, {"session_gap_minutes": float("nan")}, "give a finite number"),
        (DataConfig, {"max_user_sessions": 1}, "`max_user_sessions`=1: give 2 or more"),
        (DataConfig, {"split": "train"}, "`split`=train: give test or validation"),
        (ModelConfig, {"n_items": 9, "dropout_init": 1.0}, "`dropout_init`=1.0: .* from 0 to 0.99"),
        (ModelConfig, {"n_items": 9, "neighbours": 3}, "`neighbours`=3 .* without `places`"),
        (
            TrainConfig,
            {"loss": "hinge"},
            "`loss`=hinge: give top1, .* full_softmax or softmax",
        ),
        (TrainConfig, {"log_q": True}, "`log_q`=True .* without `loss`=cross_entropy"),
        (TrainConfig, {"batch_size": 1}, "`batch_size`=1 leaves `loss`=top1 without negatives"),
        (SessionKnnConfig, {"boost": -1.0}, "`boost`=-1.0: give 0 or more"),
        (StanConfig, {"lambda_snh": 0.0}, "`lambda_snh`=0.0: give a number above 0"),
    ],
)
def test_a_bad_value_is_refused_by_its_argument(cls, values, message):
    with pytest.raises(errors.InputError, match=message):
        cls(**values)


def recipe(name):
    return json.loads((OLD / name / "recipe.json").read_text())


def test_an_old_recipe_gets_all_settings():
    """None is left to a default of the present version, which may change."""
    found = config.upgrade_recipe(recipe("hrnn_init"))
    model, training = dict(found["model"]), found["training"]
    assert model.pop("name") == "hrnn_init"
    assert model.keys() == {field.name for field in dataclasses.fields(ModelConfig)}
    assert training.keys() == {field.name for field in dataclasses.fields(TrainConfig)}
    ModelConfig(**model)
    TrainConfig(**training)
    assert (found["format"], found["data"]) == (4, "events-46389046f5c4")
    assert config.upgrade_recipe(found) == found
    # And what was written in formats 3 and 2, before there were some of the settings.
    removed = {"past": 0, "neighbours": 0, "neighbours_weight": 0.4}
    model = {"name": "hrnn_init", **model, **removed}
    del model["places"]
    assert config.upgrade_recipe({**found, "format": 3, "model": model}) == found
    del model["leak"]
    assert config.upgrade_recipe({**found, "format": 2, "model": model}) == found


def test_a_recipe_of_this_format_gets_the_settings_added_to_it():
    """Bug: refuse to go on with a run of yesterday, as its recipe lacks a setting."""
    found = config.upgrade_recipe(recipe("hrnn_init"))
    added = ("lane_groups", "held_out_patience")
    training = {name: of for name, of in found["training"].items() if name not in added}
    assert config.upgrade_recipe({**found, "training": training}) == found


def test_an_old_recipe_keeps_its_values_and_the_defaults_of_then():
    plain = config.upgrade_recipe(recipe("hrnn_init"))
    assert (plain["model"]["dropout_user"], plain["model"]["feed_last_item"]) == (0.1, False)
    assert plain["model"]["leak"] == "equation"
    assert (plain["training"]["mean_over"], plain["training"]["negative_alpha"]) == ("valid", 0.75)
    assert plain["model"]["places"] == 0


def test_the_recipe_of_a_baseline_is_unchanged_but_for_its_format():
    assert config.upgrade_recipe(recipe("vsknn_br")) == {**recipe("vsknn_br"), "format": 4}


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
    old[part][name] = config.REMOVED[name]
    assert name not in config.upgrade_recipe(old)[part]
    old[part][name] = value
    with pytest.raises(errors.InputError, match=f"{name}={value}, which this version no longer"):
        config.upgrade_recipe(old)


def test_a_recipe_of_a_later_format_is_refused():
    with pytest.raises(errors.InputError, match="format 5"):
        config.upgrade_recipe({"format": 5})


def test_softmax_is_full_on_a_small_catalogue_and_estimated_on_a_large_one():
    config = TrainConfig(loss="softmax", extra_negatives=2048, batch_size=30)
    assert config.for_catalogue(20_000) == TrainConfig(loss="full_softmax", batch_size=30)
    assert config.for_catalogue(20_001) == TrainConfig(
        loss="cross_entropy", log_q=True, extra_negatives=2048, batch_size=30
    )
    other = TrainConfig(loss="bpr")
    assert other.for_catalogue(20_001) is other
