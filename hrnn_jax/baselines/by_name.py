"""The baselines by the names that commands, run folders and estimators give them."""

from __future__ import annotations

from collections.abc import Callable

from hrnn_jax.baselines import counting, counts, ease, popular, session_knn, sparse_ranking, stan
from hrnn_jax.baselines.sparse_ranking import Scorer
from hrnn_jax.config import (
    MODELS,
    CountsConfig,
    EaseConfig,
    EvaluationConfig,
    ItemKnnConfig,
    PopularConfig,
    SessionKnnConfig,
    StanConfig,
)
from hrnn_jax.errors import InputError
from hrnn_jax.event_log import EventLog
from hrnn_jax.files import registered_code
from hrnn_jax.presets import NAMES
from hrnn_jax.ranking.metrics import Ranking

Config = ItemKnnConfig | SessionKnnConfig | StanConfig | EaseConfig | PopularConfig | CountsConfig
Settings = Config | None  # None of a method without any
CONFIGS: dict[str, type[Config]] = {
    "item_knn": ItemKnnConfig,
    "vsknn": SessionKnnConfig,
    "vsknn_br": SessionKnnConfig,
    "stan": StanConfig,
    "vstan": StanConfig,
    "u_vstan": StanConfig,
    "ease": EaseConfig,
    "popular": PopularConfig,
    "counts": CountsConfig,
}
# Settings that a baseline has whatever its caller says: V-SKNN and VSTAN do not know the user, and
# STAN is VSTAN without what that adds.
_NO_USER = {"boost": 0.0, "remind_weight": 0.0}
FIXED = {
    "vsknn": _NO_USER,
    "vstan": {**_NO_USER, "extend": 0},
    "stan": {**_NO_USER, "extend": 0, "lambda_ipw": 0.0, "lambda_idf": 0.0},
}
_registered: dict[str, Callable[[EventLog], Scorer]] = {}


def register(name: str, scorer: Callable[[EventLog], Scorer], *, title: str) -> None:
    """Add a model that scores test cases, which `model` then names.

    Register it before the commands are imported, as their flags are made of the names.

    Args:
        name: that of no other model.
        scorer: takes a log, whose training events it may count or train on, and returns what scores
            the test cases, see `sparse_ranking.Scorer`. The score of a case may depend on the
            user's events before its target.
        title: what tables call the model.

    Raises:
        InputError: there is a model of this name.
    """
    if name in NAMES:
        raise InputError(f"`name`={name}: there is a model of this name, choose another")
    _registered[name], NAMES[name] = scorer, title
    registered_code.note("model", name, scorer)
    MODELS.append(name)


def scorer(name: str, log: EventLog, settings: Settings) -> Scorer:
    """Return what scores the test cases of a log.

    Args:
        name: one of `config.BASELINES`, or registered.
        log: the training events are counted, the test cases scored.
        settings: of the class in `CONFIGS`; None if there is none.

    Raises:
        InputError: a registered model returned something else.
    """
    match name, settings:
        case "item_knn", ItemKnnConfig():
            return counting.item_knn_scorer(log, settings)
        case "vsknn" | "vsknn_br", SessionKnnConfig():
            return session_knn.scorer(log, settings)
        case "stan" | "vstan" | "u_vstan", StanConfig():
            return stan.scorer(log, settings)
        case "ease", EaseConfig():
            return ease.scorer(log, settings)
        case "popular", PopularConfig():
            return popular.scorer(log, settings)
        case "counts", CountsConfig():
            return counts.scorer(log, settings)
        case "ppop", None:
            return counting.ppop_scorer(log)
        case "markov", None:
            return counting.rules_scorer(log, max_steps=1)
        case "sr", None:
            return counting.rules_scorer(log)
        case _ if name in _registered and settings is None:
            return sparse_ranking.checked(name, _registered[name](log), log)
        case _:
            raise ValueError(f"no baseline {name!r} with {settings}")


def rank(name: str, log: EventLog, settings: Settings, config: EvaluationConfig) -> Ranking:
    """Rank the test cases of a log, see `scorer`.

    Args:
        name: of the baseline.
        log: a prepared log.
        settings: of the baseline.
        config: cutoffs, ties and the number of candidates.
    """
    return sparse_ranking.rank_cases(log, scorer(name, log, settings), config)
