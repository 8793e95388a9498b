"""Requests for recommendations, and the lists that answer them."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hrnn_jax import errors
from hrnn_jax.ids_and_times import Id, id_text
from hrnn_jax.live.batched_model import BatchedModel, LiveState
from hrnn_jax.live.events import key_of


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A request to recommend items to a user or, without a user, in an anonymous session."""

    user: Id | None = None
    session: Id | None = None
    k: int = 10  # items; fewer are returned where no more are left
    exclude: Collection[Id] = ()  # items to leave out
    exclude_seen: bool = False  # leave out the items of the stored events too
    candidates: Collection[Id] | None = None  # score only these items


class CheckedRequest(NamedTuple):
    """A valid request, its items as indices."""

    key: str
    k: int
    excluded: set[int]
    candidates: set[int] | None  # None for all items


def check_request(request: Request, item_index: Mapping[str, int]) -> CheckedRequest:
    """Return a request with items as indices; items that are not in the catalogue are left out.

    Raises:
        InputError: an id or k is invalid, or there are both a user and a session.
    """
    if isinstance(request.k, bool) or not isinstance(request.k, int) or request.k < 1:
        raise errors.InputError(f"k={request.k!r}: give a whole number of 1 or more")
    if request.user is not None and request.session is not None:
        raise errors.InputError("give a user or an anonymous session, not both")
    return CheckedRequest(
        key=key_of(request.user, request.session),
        k=request.k,
        excluded=_indices(request.exclude, item_index),
        candidates=None if request.candidates is None else _indices(request.candidates, item_index),
    )


def rank_items(
    model: BatchedModel, requests: Sequence[CheckedRequest], states: Sequence[LiveState]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the best items and their scores for each request.

    Args:
        model: the network.
        requests: n of them.
        states: the state of each request's key.

    Returns:
        Item indices and scores for each request, the highest score first and of equal scores the
        lower item; both have k places or fewer.
    """
    lists: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0, np.int32), np.empty(0))] * len(
        requests
    )
    by_length: dict[int, list[int]] = collections.defaultdict(list)
    for n, request in enumerate(requests):
        if request.candidates is None:
            by_length[model.list_length(request.k + len(request.excluded))].append(n)
        elif items := sorted(request.candidates - request.excluded):
            scores = model.score(states[n], np.array(items, np.int32))
            order = np.argsort(-scores, kind="stable")[: request.k]
            lists[n] = np.array(items)[order], scores[order]
    for length, group in by_length.items():
        best = model.best([states[n] for n in group], length)
        for n, items, scores in zip(group, *best, strict=True):
            request = requests[n]
            kept = np.flatnonzero(~np.isin(items, list(request.excluded)))[: request.k]
            lists[n] = items[kept], scores[kept]
    return lists


def _indices(items: Collection[Id], item_index: Mapping[str, int]) -> set[int]:
    """Return the indices of those items that are in the catalogue."""
    if isinstance(items, str):
        raise errors.InputError(f"items {items!r}: give a list of ids")
    texts = [id_text("item", item) for item in items]
    return {item_index[text] for text in texts if text in item_index}
