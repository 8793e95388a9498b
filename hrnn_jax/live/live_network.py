"""A trained network in memory with its catalogue: what makes live states and lists."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np

from hrnn_jax import model
from hrnn_jax.arguments import several_ids
from hrnn_jax.config import RecommenderConfig
from hrnn_jax.files.checkpoint import TrainedRun
from hrnn_jax.ids_and_times import Id, id_text
from hrnn_jax.live.batched_model import BatchedModel
from hrnn_jax.live.item_index import ItemIndex


class LiveNetwork(NamedTuple):
    """A trained network and its catalogue."""

    trained: TrainedRun
    model: BatchedModel
    item_index: Mapping[str, int]  # by raw id as text
    excludes_session_items: bool  # lists leave out the items of the open session

    @property
    def about(self) -> dict[str, str]:
        """The rows of the table `about` that say which weights made the states."""
        start = self.model.start
        return {
            "weights": self.trained.lineage[0],
            "shape": repr((start.carry.shape, start.past.shape)),
        }

    def indices(self, name: str, items: Collection[Id]) -> list[int]:
        """Return the indices of those items of an argument that are in the catalogue, in order."""
        texts = [id_text("item", item) for item in several_ids(name, items)]
        return [self.item_index[text] for text in texts if text in self.item_index]

    def named(self, items: np.ndarray, scores: np.ndarray) -> list[tuple[Id, float]]:
        """Return raw ids and scores of the items that can be next."""
        ids, can_be = self.trained.items, scores > -np.inf
        items, scores = items[can_be], scores[can_be]
        return [(ids[i], score) for i, score in zip(items.tolist(), scores.tolist(), strict=True)]


def live_network(
    about: TrainedRun,
    params: model.Params,
    config: RecommenderConfig,
    on_indexed: Callable[[int], None] = lambda n: None,
) -> LiveNetwork:
    """Bring a trained network into memory, with an index if there is one.

    Args:
        about: the network without its weights.
        params: the weights.
        config: says whether there is an index, and whether lists leave out the session's items.
        on_indexed: called with the number of items that were added to the index.
    """
    make_index = functools.partial(ItemIndex, on_items=on_indexed)
    batched = BatchedModel(
        params,
        about.config,
        about.mixture,
        make_index=make_index if config.index == "faiss" else None,
    )
    item_index = {str(item): index for index, item in enumerate(about.items)}
    excludes = about.excludes_session_items(config.exclude_session_items)
    return LiveNetwork(about, batched, item_index, excludes)
