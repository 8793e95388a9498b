"""The live recommender of a fitted network, with the users' history."""

from __future__ import annotations

import pathlib
from typing import Any

from hrnn_jax.arguments import path_of
from hrnn_jax.config import RecommenderConfig
from hrnn_jax.estimators.logs import Part, past_sessions_of
from hrnn_jax.files.checkpoint import TrainedRun
from hrnn_jax.live.recommender import Recommender
from hrnn_jax.live.store.opening import is_database
from hrnn_jax.live.store.state_file import IN_MEMORY, is_new, writing_new
from hrnn_jax.model import Params
from hrnn_jax.preprocess import frames


def recommender(
    network: tuple[TrainedRun, Params],
    train: Part,
    states: str | pathlib.Path,
    history: Any,
    config: RecommenderConfig,
) -> Recommender:
    """Open the states of live users, see `NetworkModel.live`.

    Args:
        network: with its weights.
        train: the training part of its log.
        states: the file or database; `IN_MEMORY` for none.
        history: of the users, where there are no states yet.
        config: settings of the states.
    """
    if states == IN_MEMORY:
        return _with_history(Recommender(*network, states, config=config), train, history)
    if is_database(states):
        opened = Recommender(*network, states, config=config)
        with opened.alone():  # all of the history, or nothing
            known = len(opened)
            return _with_history(opened, train, None if known else history)
    path = path_of("`states`", states)
    if is_new(path):
        with writing_new(path) as partial:
            made = Recommender(*network, partial, config=config)
            _with_history(made, train, history).close()
    return Recommender(*network, path, config=config)


def _with_history(recommender: Recommender, train: Part, history: Any) -> Recommender:
    """Import a history, see `NetworkModel.live`; the recommender is closed where that fails."""
    try:
        past = past_sessions_of(train, history)
        if past is not None:
            recommender.take_sessions(past)
        elif history is not None and history is not False:
            others = "a log, a part of one, or "
            recommender.bootstrap(frames.as_polars(history, others=others))
        recommender.counts.clear()  # they count what comes from now on
    except BaseException:
        recommender.close()
        raise
    return recommender
