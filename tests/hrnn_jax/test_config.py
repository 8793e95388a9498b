"""Settings stand once: bounds, meanings, needs."""

import dataclasses
import json

import numpy as np
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
    ReadConfig,
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
        (DataConfig, {"min_support": "5"}, "`min_support`='5': give a whole number"),
        (DataConfig, {"min_support": 2.5}, "`min_support`=2.5: give a whole number"),
        (DataConfig, {"min_support": True}, "`min_support`=True: give a whole number"),
        (DataConfig, {"min_support": np.int64(0)}, "`min_support`=0: give 1 or more"),
        (DataConfig, {"max_user_sessions": "9"}, "`max_user_sessions`='9': give a whole number"),
        (DataConfig, {"test_days": "7"}, "`test_days`='7': give a number"),
        (DataConfig, {"drop_repeats": "no"}, "`drop_repeats`='no': give True or False"),
        (DataConfig, {"drop_types": "44"}, r"`drop_types`='44': give a list, as in \['a', 'b'\]"),
        (DataConfig, {"drop_types": (44,)}, r"`drop_types`=\(44,\): give a list"),
        (ReadConfig, {"separator": 5}, "`separator`=5: give a text"),
        (EvaluationConfig, {"cutoffs": 5}, r"`cutoffs`=5: give a list, as in \[5, 20\]"),
        (ModelConfig, {"n_items": "9"}, "`n_items`='9': give a whole number"),
        (DataConfig, {"min_support": 0}, "`min_support`=0: give 1 or more"),
        (DataConfig, {"session_gap_minutes": 0}, "`session_gap_minutes`=0: give a number above 0"),
        (DataConfig, {"session_gap_minutes": float("nan")}, "give a finite number"),
        (DataConfig, {"max_user_sessions": 1}, "`max_user_sessions`=1: give 2 or more"),
        (DataConfig, {"split": "train"}, "`split`=train: give test or validation"),
        (DataConfig, {"split": None}, "`split`=None: give test or validation"),
        (EvaluationConfig, {"ties": None}, "`ties`=None: give against or for"),
        (ReadConfig, {"on_bad_row": None}, "`on_bad_row`=None: give error or skip"),
        (
            ModelConfig,
            {"n_items": 9, "hidden_units": 10**9},
            "`hidden_units`=.* to 100000",
        ),
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


def test_equal_values_are_kept_alike_whatever_their_types():
    """Bug: keep 45 and 45.0 as they come, of which folders get different names."""
    one = DataConfig(
        session_gap_minutes=45, min_support=np.int64(3), drop_types=["a"], protocol="global_time"
    )
    two = DataConfig(
        session_gap_minutes=45.0, min_support=3, drop_types=("a",), protocol="global_time"
    )
    assert json.dumps(dataclasses.asdict(one)) == json.dumps(dataclasses.asdict(two))
    default = DataConfig.session_gap_minutes
    assert repr(DataConfig(session_gap_minutes=float(default))) == repr(DataConfig())
    assert isinstance(StanConfig(boost=np.float32(0.25)).boost, float)


def test_softmax_is_full_on_a_small_catalogue_and_estimated_on_a_large_one():
    config = TrainConfig(loss="softmax", extra_negatives=2048, batch_size=30)
    assert config.for_catalogue(20_000) == TrainConfig(loss="full_softmax", batch_size=30)
    assert config.for_catalogue(20_001) == TrainConfig(
        loss="cross_entropy",
        log_q=True,
        mask_false_negatives=True,
        extra_negatives=2048,
        batch_size=30,
    )
    other = TrainConfig(loss="bpr")
    assert other.for_catalogue(20_001) is other
