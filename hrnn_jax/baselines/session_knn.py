"""Vector session-kNN: V-SKNN (Ludewig & Jannach 2018) and V-SKNN_BR (Latifi et al. 2021).

The current session is the part i_1..i_n of a test session before the target. Its neighbours are
training sessions of any user, also later ones, each taken as a set of items. A session that is
trained on up to what is held out is no neighbour of its own cases, and they are not reminded of it:
it is the most similar of all and only has items that are there anyway. Sessions are more or less
recent by the time of their last event, then by their place in the log.

    w(i)     = (last place of i among i_1..i_n) / n
    sim(t)   = sum of w(i) over the items i that session t shares with the current one, times
               1 + boost if t is of the same user
    score(j) = sum of sim(t) / step(t) over the neighbours t that have item j

Neighbours are chosen among the `sample_size` most recent sessions that share an item with the
current one: the `neighbours` sessions of the largest sim, of equal ones the more recent. step(t) is
1 for a session that has i_n, 2 for one whose last shared item is i_{n-1}, and so on. Items of the
current session score like all others. Reminders are added last, for the items of the user's
`remind_sessions` latest training sessions, of age 1, 2, ...:

    score(j) += remind_weight * peak * (sum of 1 / age over the sessions with j)
                / (1 + 1/2 + ... + 1/remind_sessions)

where peak is the largest score of the case, or 1 if no item scores.

The published code also divides sim by the number of distinct items of the current session. Like
the n of w(i) this is a factor of all scores of a case, its reminders included, and changes no rank:
here w(i) is the last place itself.

Equal scores are equal numbers as far as float64 allows: the terms of a sum are whole multiples of
1 / `UNIT`, so that the order of summing changes nothing. sim / step is rounded to a multiple if
step is above 16 or the boost no short binary fraction, a score with its reminder if it exceeds
2^53 multiples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import sparse

from hrnn_jax.baselines import sparse_ranking
from hrnn_jax.config import SessionKnnConfig, StanConfig
from hrnn_jax.event_log import EventLog, begin_of, ranges

UNIT = 720_720  # the least number that each of 1, 2, ..., 16 divides


@dataclasses.dataclass(frozen=True)
class Sessions:
    """The S training sessions, the most recent first."""

    items: sparse.csr_array  # [S, V], 1.0 where the session has the item
    of_item: sparse.csr_array  # [V, S], the same by item, each row the most recent first
    user: np.ndarray  # [S]
    age: np.ndarray  # [S], 1 for the last session of its user, 2 for the one before, ...
    time: np.ndarray  # [S] of the last event
    number: np.ndarray  # [S] in the log
    of_event: np.ndarray  # [E] the session of each training event

    def index(self, number: np.ndarray) -> np.ndarray:
        """Return the index of each session of the log [n], -1 where it is not trained on, [n]."""
        order = np.argsort(self.number)
        at = np.searchsorted(self.number, number, sorter=order)
        at = np.append(order, -1)[at]
        return np.where(np.append(self.number, -1)[at] == number, at, -1)


@dataclasses.dataclass(frozen=True)
class Current:
    """The distinct items of n current sessions, P in all."""

    row: np.ndarray  # [P] the case of each item, rising
    item: np.ndarray  # [P]
    place: np.ndarray  # [P] its last place in the session, from 1
    length: np.ndarray  # [n] events
    user: np.ndarray  # [n]
    own: np.ndarray  # [n] the training session that the case is in, -1 if there is none


def scorer(log: EventLog, config: SessionKnnConfig) -> sparse_ranking.Scorer:
    """Return the function that scores test cases, and what each costs.

    Args:
        log: a prepared log with N test cases.
        config: neighbours, boost and reminders.

    Returns:
        A function from a slice of `log.cases` to their scores, CSR [n, V], which compare within a
        case only: each case has its own unit. And the costs, [N], which bound the entries of all
        arrays that the function makes for a case.
    """
    sessions = training_sessions(log)
    with_reminders, length = reminders(log, sessions, config)
    current_of, costs = look_up(
        log, sessions, neighbours=config.neighbours, sample_size=config.sample_size
    )

    def score(chunk: slice) -> sparse.csr_array:
        current = current_of(chunk)
        scores = _neighbours(sessions, current, config) @ sessions.items
        return with_reminders(sparse.csr_array(scores), current)

    return score, costs + length


def reminders(
    log: EventLog, sessions: Sessions, config: SessionKnnConfig | StanConfig
) -> tuple[Callable[[sparse.csr_array, Current], sparse.csr_array], np.ndarray]:
    """Return the function that adds reminders to scores, and how many each case has.

    Args:
        log: a prepared log with N test cases.
        sessions: of its training events.
        config: the weight of reminders, and how many sessions they are of.

    Returns:
        A function of the scores of some cases [n, V] and their current sessions, which returns
        scores in another unit. And the entries that it adds, [N].
    """
    of_user, of_session, full = _reminders(
        sessions, config.remind_sessions, log.user.max(initial=-1) + 1
    )

    def added(scores: sparse.csr_array, current: Current) -> sparse.csr_array:
        peak = scores.max(axis=1).toarray()  # pyright: ignore[reportAttributeAccessIssue]
        peak[peak == 0] = 1
        past = of_user[current.user]
        if (current.own >= 0).any():
            past = past - of_session[current.own]
            past.eliminate_zeros()
        past.data = past.data * (config.remind_weight * np.repeat(peak, np.diff(past.indptr)))
        return sparse.csr_array(scores * full + past)

    return added, np.diff(of_user.indptr)[log.user[log.cases]]


def look_up(
    log: EventLog, sessions: Sessions, *, neighbours: int, sample_size: int, extend: int = 0
) -> tuple[Callable[[slice], Current], np.ndarray]:
    """Return the function that cuts the current sessions out of the log, and what each case costs.

    Args:
        log: a prepared log with N test cases.
        sessions: of its training events.
        neighbours: the sessions of a case whose items are scored.
        sample_size: the most recent sessions of each item that are looked up.
        extend: events of a current session, of which a shorter one gets the user's last ones before
            it.

    Returns:
        A function from a slice of `log.cases` to their current sessions. And the costs, [N]: the
        sessions that a case looks up, and the most items that its neighbours can have.
    """
    cases = log.cases
    begin = begin_of(cases, ~log.follows)  # [N]
    begin = np.minimum(begin, np.maximum(cases - extend, begin_of(cases, log.opens_user)))
    repeat = _next_repeat(log.item, log.user if extend else log.session)
    own = sessions.index(log.session[cases])  # [N]

    def current_of(chunk: slice) -> Current:
        length = cases[chunk] - begin[chunk]
        row = np.repeat(np.arange(len(length)), length)
        event = ranges(begin[chunk], length)
        last = repeat[event] >= cases[chunk][row]  # the item is not repeated before the target
        row, event = row[last], event[last]
        return Current(
            row=row,
            item=log.item[event],
            place=event - begin[chunk][row] + 1,
            length=length,
            user=log.user[cases[chunk]],
            own=own[chunk],
        )

    # The case's own session may be looked up in addition.
    looks = 1 + np.minimum(np.diff(sessions.of_item.indptr), sample_size + 1)[log.item]  # [E]
    if not extend:  # a repeated item looks up its sessions only once
        looks[repeat[repeat < len(log)]] = 1
    before = np.append(0, np.cumsum(looks))
    longest = np.sort(np.diff(sessions.items.indptr))[-neighbours:].sum()
    return current_of, before[cases] - before[begin] + longest


def training_sessions(log: EventLog) -> Sessions:
    """Return the sessions of the training events of a log."""
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
    age = 1 + place_in_run(user[::-1])[::-1]
    return Sessions(
        items=items,
        of_item=items.T.tocsr(),
        user=user[recent],
        age=age[recent],
        time=train.time[closes][recent],
        number=train.session[closes][recent],
        of_event=session,
    )


def _reminders(
    sessions: Sessions, remind_sessions: int, n_users: int
) -> tuple[sparse.csr_array, sparse.csr_array, int]:
    """Return the sum of 1 / age over the user's sessions with an item, each term, and their sum.

    That is [U, V], [S + 1, V] with an empty last row, and over all ages. All are in the same unit,
    in which each 1 / age is a whole number (rounded from age 17 on).
    """
    parts = UNIT // np.arange(1, remind_sessions + 1)
    parts //= np.gcd.reduce(parts)  # 60, 30, 20, 15, 12, 10 for six sessions
    n_sessions = len(sessions.user)
    latest = np.flatnonzero(sessions.age <= remind_sessions)
    by_session = sparse.csr_array(
        (parts[sessions.age[latest] - 1], (latest, latest)), shape=(n_sessions + 1, n_sessions)
    )
    of_session = sparse.csr_array(by_session @ sessions.items)
    of_user = sparse.csr_array(
        (np.ones(n_sessions), (sessions.user, np.arange(n_sessions))),
        shape=(n_users, n_sessions + 1),
    )
    return of_user @ of_session, of_session, int(parts.sum())


def shared_items(
    sessions: Sessions, current: Current, sample_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Find the sessions that share items with the current ones.

    Args:
        sessions: of the training events.
        current: the current sessions of some cases.
        sample_size: the most recent sessions of a case that are kept.

    Returns:
        [P] the case of each of P pairs, rising, and [P] its session, the most recent first, but for
        the one that the case is in. The places in the current session of the items that a pair
        shares, rising, pair after pair; and [P] where each pair begins in them.
    """
    n_sessions = len(sessions.user)
    has_own = (current.own >= 0).any()
    most = sample_size + has_own  # of an item, as its own session may be among them
    begin = sessions.of_item.indptr[current.item]
    looks = np.minimum(sessions.of_item.indptr[current.item + 1] - begin, most)
    session = sessions.of_item.indices[ranges(begin, looks)]
    # The most recent sessions of the union over the items are among the most recent of each, so
    # none is older than the last one of an item that has so many.
    cut = looks == most
    last = np.full(len(looks), n_sessions)
    last[cut] = session[np.cumsum(looks)[cut] - 1]
    oldest = np.minimum.reduceat(last, np.searchsorted(current.row, np.arange(len(current.length))))
    recent = session <= np.repeat(oldest[current.row], looks)
    session = session[recent]
    # One sort of whole numbers brings together the items that a case and a session share, by place.
    bits = int(current.length.max()).bit_length()
    case = np.repeat(current.row, looks)[recent]
    shared = case * n_sessions + session << bits | np.repeat(current.place, looks)[recent]
    if has_own:
        shared = shared[session != current.own[case]]
    shared.sort()
    pair, place = shared >> bits, shared & (1 << bits) - 1
    opens = np.flatnonzero(np.diff(pair, prepend=-1))
    row, session = np.divmod(pair[opens], n_sessions)
    recent = place_in_run(row) < sample_size
    length = np.diff(opens, append=len(place))
    return (
        row[recent],
        session[recent],
        place[np.repeat(recent, length)],
        np.cumsum(length[recent]) - length[recent],
    )


def _neighbours(sessions: Sessions, current: Current, config: SessionKnnConfig) -> sparse.csr_array:
    """Return sim / step of the neighbours of each case in units of 1 / `UNIT`, [n, S]."""
    row, session, place, begin = shared_items(sessions, current, config.sample_size)
    sim = np.add.reduceat(place, begin).astype(np.float64)
    step = current.length[row] + 1 - np.maximum.reduceat(place, begin)
    sim[sessions.user[session] == current.user[row]] *= 1 + config.boost
    ends = np.searchsorted(row, np.arange(len(current.length) + 1))
    nearest = sparse_ranking.largest_of_rows(sim, ends, config.neighbours)  # recent ones first
    terms = np.rint(sim[nearest] * UNIT / step[nearest])
    return sparse.csr_array(
        (terms, (row[nearest], session[nearest])),
        shape=(len(current.length), len(sessions.user)),
    )


def _next_repeat(item: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the next event of each event's item [E] in its group [E], E if there is none, [E]."""
    order = np.lexsort((item, group))
    same = (np.diff(item[order]) == 0) & (np.diff(group[order]) == 0)
    repeat = np.full(len(item), len(item))
    repeat[order[:-1][same]] = order[1:][same]
    return repeat


def place_in_run(group: np.ndarray) -> np.ndarray:
    """Return the place of each value within its run of equal values, from 0."""
    index = np.arange(len(group))
    return index - np.maximum.accumulate(np.where(np.diff(group, prepend=-1) != 0, index, 0))
