"""The best items of a large catalogue, by rough scores of all items and exact ones of a few.

faiss scores all items from 4 bits for each pair of units (product quantization, in vector
instructions), which takes a tenth of the time of all scores. The items of the highest rough scores
are then scored exactly. How many that must be is measured when the index is made, for users of one
event, and twice as many are. Cells of near items, of which other indices look at a few, do not work
here: in trained networks the best items are in most of the cells.

Only which items are scored is approximate. What a mixture adds to their scores is exact: its
neighbours and the places of a user's history are always among them. The sum of the probabilities of
all other items is estimated by a sample of the catalogue.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hrnn_jax import model
from hrnn_jax.errors import InputError
from hrnn_jax.repeat_explore import mixture as mixtures
from hrnn_jax.repeat_explore.mixture import Mixture, Terms
from hrnn_jax.training.user_batches import NO_ITEM

RECALL, OF_BEST = 0.99, 10  # share of the best items that must be found for the measured users
MEASURED_USERS = 128
LONGEST = 128  # of the lists; of longer ones too many items would be scored
_FEWEST = 64  # items that are scored exactly
_UNITS, _BITS = 2, 4  # units of a code, and its bits
_TRAINED = 30_000  # items from which the codes are made
_ADDED = 100_000  # items that are added at a time
_SAMPLE = 8_192  # items from which the sum of all probabilities is estimated


class ItemIndex:
    """The best items for users, of a catalogue that is not scored as a whole."""

    def __init__(
        self,
        items: model.Items,
        mixture: Mixture | None,
        hidden: np.ndarray,
        *,
        on_items: Callable[[int], None] = lambda n: None,
    ):
        """Make the codes.

        Args:
            items: the catalogue.
            mixture: of a network with `places`.
            hidden: [n, H], representations of users for whom is measured how many items must be
                scored.
            on_items: called with the number of items that were added.

        Raises:
            InputError: faiss is not installed, or a mixture prefers items of low scores.
        """
        try:
            import faiss
        except ImportError as error:
            raise InputError(
                "`index`=faiss needs faiss; run: pip install 'hrnn_jax[index]'"
            ) from error
        if mixture is not None and not float(mixture.explore[0]) > 0:
            raise InputError(
                f"`index`=faiss finds items of high scores, and this network weighs them by "
                f"{float(mixture.explore[0]):.3g}: give `index`=exact"
            )
        self._mixture = mixture
        self._out, self._bias = np.asarray(items.item_out), np.asarray(items.item_bias)
        count = len(self._bias)
        rng = np.random.default_rng(0)
        self._sample = rng.choice(count, min(count, _SAMPLE), replace=False)
        self._of_sample = self._out[self._sample].T.copy(), self._bias[self._sample]
        vectors = self._queries(self._out, self._bias)
        n_units = vectors.shape[1]
        # Of type Any: its stubs know the C++ signatures alone.
        self._index: Any = faiss.IndexPQFastScan(
            n_units, n_units // _UNITS, _BITS, faiss.METRIC_INNER_PRODUCT
        )
        self._index.pq.cp.min_points_per_centroid = 1  # no warning of a small catalogue
        chosen = rng.choice(count, min(count, _TRAINED), replace=False)
        self._index.train(vectors[np.resize(chosen, max(len(chosen), 2**_BITS))])
        for begin in range(0, count, _ADDED):
            part = vectors[begin : begin + _ADDED]
            self._index.add(part)
            on_items(len(part))
        self.scored, self.recall = self._measure(hidden)

    def best(
        self, hidden: np.ndarray, terms: Terms | None, n_first: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """List the items with the best scores of n users, as `topk.best` does.

        Args:
            hidden: [n, H], the representations.
            terms: of the mixture, for a network that has one.
            n_first: length of the lists.

        Returns:
            Items and scores, [n, n_first] each, the highest score first; NO_ITEM and -inf where
            fewer were found.
        """
        n_places = 0 if terms is None else terms.place.shape[1]
        # Those of longer lists have more items near each other at their end.
        of_length = self.scored * max(1, 4 * n_first // LONGEST)
        found = self._found(hidden, max(of_length, 2 * n_first) + n_places)
        if terms is None or self._mixture is None:
            scores = self._scores(hidden, found)
        else:
            neighbour = np.asarray(terms.neighbour).reshape(len(found), -1)
            found = _different(np.hstack([found, neighbour, terms.place]))
            scores = self._log_probabilities(self._mixture, hidden, terms, found)
        order = np.lexsort((found, -scores), axis=1)[:, :n_first]
        return np.take_along_axis(found, order, 1), np.take_along_axis(scores, order, 1)

    def _measure(self, hidden: np.ndarray) -> tuple[int, float]:
        """Choose how many items to score.

        Returns:
            Their number, and the share of the best items that are in the first half of them.
        """
        scores = hidden @ self._out.T + self._bias
        n_best = min(OF_BEST, scores.shape[1])
        best = np.argpartition(-scores, n_best - 1, axis=1)[:, :n_best]
        half = _FEWEST
        while True:
            pairs = zip(best, self._found(hidden, half), strict=True)
            recall = float(np.mean([np.isin(some, each).mean() for some, each in pairs]))
            if recall >= RECALL or half >= scores.shape[1]:
                return 2 * half, recall
            half *= 2

    def _queries(self, hidden: np.ndarray, bias: np.ndarray | float = 1) -> np.ndarray:
        """Return vectors whose products are the scores, of a number of units that codes divide."""
        vectors = np.column_stack([hidden, np.broadcast_to(bias, len(hidden))])
        padding = -vectors.shape[1] % _UNITS
        return np.pad(vectors, ((0, 0), (0, padding))).astype(np.float32)

    def _found(self, hidden: np.ndarray, count: int) -> np.ndarray:
        """Return the items of the highest rough scores, [n, count]; NO_ITEM where all are fewer."""
        _, found = self._index.search(self._queries(hidden), min(count, self._index.ntotal))
        found = np.where(found < 0, NO_ITEM, found).astype(np.int32)
        missing = count - found.shape[1]
        return np.pad(found, ((0, 0), (0, missing)), constant_values=NO_ITEM)

    def _scores(self, hidden: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the scores of the network, [n, M], -inf for NO_ITEM."""
        at = np.where(items == NO_ITEM, 0, items)
        scores = np.einsum("nh,nmh->nm", hidden, self._out[at]) + self._bias[at]
        return np.where(items == NO_ITEM, -np.inf, scores).astype(np.float32)

    def _log_probabilities(
        self, mixture: Mixture, hidden: np.ndarray, terms: Terms, items: np.ndarray
    ) -> np.ndarray:
        """Return the mixture's log probabilities of some items of each user.

        All other items are one more item, which has the estimated sum of their probabilities.

        items: [n, M], ascending, with all neighbours and places; NO_ITEM for none.
        """
        scores = self._scores(hidden, items)
        weight = float(mixture.explore[0])
        out, bias = self._of_sample
        sampled = weight * (hidden @ out + bias)
        is_other = np.stack([~np.isin(self._sample, some) for some in items])
        n_others = len(self._bias) - (items != NO_ITEM).sum(axis=1)
        share = n_others / np.maximum(is_other.sum(axis=1), 1)
        with np.errstate(divide="ignore"):  # log 0 where there are no others
            largest = sampled.max(axis=1, keepdims=True)
            mass = (np.exp(sampled - largest) * is_other).sum(axis=1) * share
            others = (np.log(mass) + largest[:, 0]) / weight
        known = np.column_stack([scores, others.astype(np.float32)])
        local = dataclasses.replace(
            terms,
            neighbour=_positions(items, terms.neighbour),
            place=_positions(items, terms.place),
        )
        return np.asarray(_of_columns(mixture, known, local))[:, :-1]


def _different(items: np.ndarray) -> np.ndarray:
    """Return the different items of each row, ascending, [n, M] with NO_ITEM at the end."""
    items = np.sort(items, axis=1)
    items[:, 1:][items[:, 1:] == items[:, :-1]] = NO_ITEM
    return np.sort(items, axis=1)


def _positions(items: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Return where each of some items is in its row of `items`; NO_ITEM for NO_ITEM."""
    at = np.stack([np.searchsorted(row, each) for row, each in zip(items, some, strict=True)])
    return np.where(np.asarray(some) == NO_ITEM, NO_ITEM, at).astype(np.int32)


@jax.jit
def _of_columns(mixture: Mixture, scores: jax.Array, terms: Terms) -> jax.Array:
    """Return log probabilities [n, M] of items that are columns by themselves."""
    column = jnp.arange(scores.shape[1])

    def of_user(scores: jax.Array, terms: Terms) -> jax.Array:
        values, constant = mixtures.log_probabilities(mixture, scores, column, terms)
        return values + constant

    return jax.vmap(of_user)(scores, terms)
