"""Vector session-kNN: V-SKNN (Ludewig and Jannach 2018), V-SKNN_BR (Latifi et al. 2021).

The current session is the part i_1..i_n of a test session before the target. Its neighbours are
training sessions, other users' later ones too, each taken as a set of items. "More recent" goes by
the time of a session's last event, then by its place in the log.

    w(i)     = (last place of i among i_1..i_n) / n
    sim(t)   = sum of w(i) over the items i of t that the current session has too, times 1 + boost
               if t is of the same user
    score(j) = sum of sim(t) / step(t) over the neighbours t with j

Of the sessions that share an item with the current one, the `sample_size` most recent are looked
at. The `neighbours` of these with the largest sim, at a tie the more recent, are the neighbours.
step(t) is 1 for a session with i_n, 2 for one whose last shared item is i_{n-1}, and so on. Items
of the current session score like all others. Reminders come last, for the items of the user's
`remind_sessions` latest training sessions, of age 1, 2, ...:

    score(j) += remind_weight * peak * (sum of 1 / age over those with j)
                / (1 + 1/2 + ... + 1/remind_sessions)

where peak is the largest score of the case, or 1 if no item scores.

The published code also divides sim by the number of distinct items of the current session. Like
the n of w(i) that is one factor of all scores of a case, of its reminders too, and changes no rank:
here w(i) is the last place itself.

Equal scores are equal numbers as far as float64 goes: what is summed are whole multiples of
1 / `UNIT`, so that no order of summing rounds. sim / step is rounded to these if step is above 16
or the boost no short binary fraction, a score with its reminder if it passes 2^53 of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import sparse

from hrnn_jax import event_log
from hrnn_jax.baselines import sparse_ranking
from hrnn_jax.config import EvaluationConfig, SessionKnnConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.metrics import Ranking

UNIT = 720_720  # the least number that each of 1, 2, ..., 16 divides


@dataclasses.dataclass(frozen=True)
class Sessions:
    """Hold the S training sessions, the most recent first."""

    items: sparse.csr_array  # [S, V], 1.0 where the session has the item
    of_item: sparse.csr_array  # [V, S], the same by item, each row the most recent first
    user: np.ndarray  # [S]
    age: np.ndarray  # [S], 1 for the last session of its user, 2 for the one before, ...


def vsknn(
    log: EventLog,
    knn: SessionKnnConfig,
    config: EvaluationConfig = EvaluationConfig(),
    *,
    candidates: np.ndarray | None = None,
) -> Ranking:
    """Rank by V-SKNN, or with a boost or reminders by V-SKNN_BR."""
    score, costs = scorer(log, knn)
    return sparse_ranking.by_chunk(log, log.cases, score, costs, config, candidates=candidates)


def scorer(
    log: EventLog, config: SessionKnnConfig
) -> tuple[Callable[[slice], sparse.csr_array], np.ndarray]:
    """Return the function that scores a slice of `log.cases`, [n, V], and their costs, [N].

    The costs bound the entries of all that the function makes. Of the scores only their order in a
    case means something: each case has its own unit.
    """
    sessions = training_sessions(log)
    reminders, full = _reminders(sessions, config.remind_sessions, log.user.max(initial=-1) + 1)
    cases = log.cases
    user = log.user[cases]
    opens = np.flatnonzero(~log.follows)
    begin = opens[np.searchsorted(opens, cases, side="right") - 1]  # [N]
    again = _again(log)

    def score(chunk: slice) -> sparse.csr_array:
        length = cases[chunk] - begin[chunk]
        row = np.repeat(np.arange(len(length)), length)
        event = event_log.ranges(begin[chunk], length)
        last = again[event] >= cases[chunk][row]  # the item does not come again before the target
        row, event = row[last], event[last]
        place = event - begin[chunk][row] + 1
        near = _neighbours(sessions, row, log.item[event], place, length, user[chunk], config)
        scores = near @ sessions.items
        peak = scores.max(axis=1).toarray()  # pyright: ignore[reportAttributeAccessIssue]
        peak[peak == 0] = 1
        added = reminders[user[chunk]]
        added.data *= config.remind_weight * np.repeat(peak, np.diff(added.indptr))
        return scores * full + added

    # What a case looks at, the most items that its neighbours can have, and its reminders.
    looks = 1 + np.minimum(np.diff(sessions.of_item.indptr), config.sample_size)[log.item]  # [E]
    looks[again[again < len(log)]] = 1  # an item looks once however often it comes
    before = np.append(0, np.cumsum(looks))
    longest = np.sort(np.diff(sessions.items.indptr))[-config.neighbours :].sum()
    costs = before[cases] - before[begin] + longest + np.diff(reminders.indptr)[user]
    return score, costs


def training_sessions(log: EventLog) -> Sessions:
    """Gather the training sessions of a log."""
    train = log.train
    opens = ~train.follows
    closes = np.flatnonzero(np.roll(opens, -1))  # the last event of each session
    recent = np.argsort(train.time[closes], kind="stable")[::-1]  # [S]
    user = train.user[closes]
    session = np.argsort(recent)[np.cumsum(opens) - 1]  # of each event, 0 for the most recent
    items = sparse.csr_array(
        (np.ones(len(train)), (session, train.item)), shape=(len(recent), log.n_items)
    )
    items.data[:] = 1  # an item twice in a session is there once
    age = 1 + _place(user[::-1])[::-1]
    return Sessions(items=items, of_item=items.T.tocsr(), user=user[recent], age=age[recent])


def _reminders(
    sessions: Sessions, remind_sessions: int, n_users: int
) -> tuple[sparse.csr_array, int]:
    """Return the sum of 1 / age over the user's sessions with an item, [U, V], and over all ages.

    Both are in the same units, in which the parts 1 / age are whole (rounded from age 17 on).
    """
    parts = UNIT // np.arange(1, remind_sessions + 1)
    parts //= np.gcd.reduce(parts)  # 60, 30, 20, 15, 12, 10 for six sessions
    latest = np.flatnonzero(sessions.age <= remind_sessions)
    by_user = sparse.csr_array(
        (parts[sessions.age[latest] - 1], (sessions.user[latest], latest)),
        shape=(n_users, len(sessions.user)),
    )
    return by_user @ sessions.items, int(parts.sum())


def _neighbours(
    sessions: Sessions,
    row: np.ndarray,  # [P] case of each item of the current sessions, rising
    item: np.ndarray,  # [P] none twice in a case
    place: np.ndarray,  # [P] its last place, from 1
    length: np.ndarray,  # [n] events of each current session
    user: np.ndarray,  # [n]
    config: SessionKnnConfig,
) -> sparse.csr_array:
    """Return sim / step of the neighbours of each case in units of 1 / `UNIT`, [n, S]."""
    n_sessions = len(sessions.user)
    # The most recent sessions of the union over the items are among the most recent of each.
    begin = sessions.of_item.indptr[item]
    looks = np.minimum(sessions.of_item.indptr[item + 1] - begin, config.sample_size)
    session = sessions.of_item.indices[event_log.ranges(begin, looks)]
    # One sort of whole numbers brings together what a case and a session share, by place.
    bits = int(length.max()).bit_length()
    shared = np.repeat(row, looks) * n_sessions + session << bits | np.repeat(place, looks)
    shared.sort()
    pair, place = shared >> bits, shared & (1 << bits) - 1
    opens = np.diff(pair, prepend=-1) != 0
    row, session = np.divmod(pair[opens], n_sessions)
    sim = np.add.reduceat(place, np.flatnonzero(opens)).astype(np.float64)
    step = length[row] + 1 - place[np.roll(opens, -1)]
    recent = _place(row) < config.sample_size
    row, session, sim, step = row[recent], session[recent], sim[recent], step[recent]
    sim[sessions.user[session] == user[row]] *= 1 + config.boost
    nearest = np.lexsort((-sim, row))[_place(row) < config.neighbours]  # stable: recent ones first
    terms = np.rint(sim[nearest] * UNIT / step[nearest])
    return sparse.csr_array(
        (terms, (row[nearest], session[nearest])), shape=(len(length), n_sessions)
    )


def _again(log: EventLog) -> np.ndarray:
    """Return where each event's item comes next in its session, E if it does not, [E]."""
    order = np.lexsort((log.item, log.session))
    same = (np.diff(log.item[order]) == 0) & (np.diff(log.session[order]) == 0)
    again = np.full(len(log), len(log))
    again[order[:-1][same]] = order[1:][same]
    return again


def _place(group: np.ndarray) -> np.ndarray:
    """Return the place of each entry in its run of equal ones, from 0."""
    index = np.arange(len(group))
    return index - np.maximum.accumulate(np.where(np.diff(group, prepend=-1) != 0, index, 0))
