"""Settings stand once: bounds, meanings, needs."""

import dataclasses

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


def test_softmax_is_full_on_a_small_catalogue_and_estimated_on_a_large_one():
    config = TrainConfig(loss="softmax", extra_negatives=2048, batch_size=30)
    assert config.for_catalogue(20_000) == TrainConfig(loss="full_softmax", batch_size=30)
    assert config.for_catalogue(20_001) == TrainConfig(
        loss="cross_entropy", log_q=True, extra_negatives=2048, batch_size=30
    )
    other = TrainConfig(loss="bpr")
    assert other.for_catalogue(20_001) is other
