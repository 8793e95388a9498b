"""STAN (Garg et al., SIGIR 2019), VSTAN (Ludewig et al., UMUAI 2020) and U-VSTAN with the user.

The current session is the part i_1..i_n of a test session before the target. Candidates are the
`sample_size` most recent training sessions of any user that share an item with it, as in
`session_knn`: no test session is among them, nor the part of the current one that is trained on.

    w(i)     = exp((p(i) - n) / lambda_spw), where p(i) is the last place of i among i_1..i_n
    sim(t)   = (sum of w(i) over the items i that session t shares with the current one)
               / sqrt(different items of t) * exp(-(T - time(t)) / lambda_snh)
    near(j)  = exp(-|q(j) - q*| / lambda_inh), where q(j) is the last place of item j in t, and q*
               the last place in t of an item of the current session
    score(j) = sum of sim(t) * near(j) over the neighbours t that have j

T is the time of the case and time(t) that of t's last event; their difference counts in days. The
neighbours are the `neighbours` candidates of the largest sim, of equal ones the more recent. Items
of the current session score like all others. VSTAN has two factors more:

    score(j) = sum of sim(t) * near(j) * exp(-(n - p*) / lambda_ipw) over the neighbours that have j
               * (1 + lambda_idf * ln(training sessions / training sessions with j))

where p* is the largest p(i) of the items that t shares with the current session.

U-VSTAN extends VSTAN by what the user did before, as Latifi, Mauro & Jannach (2021, "Session-aware
recommendation: a surprising quest for the state-of-the-art") extend it to VSTAN_EBR, after the
user-extended nearest neighbours of Ludewig et al.:

- extend: a current session of fewer than `extend` events gets the user's last ones before it:
  i_1..i_n are then the user's last `extend` events.
- boost: sim(t) grows by `boost` times itself if t is of the same user; then neighbours are chosen.
- remind: items of the user's last sessions get scores added, as V-SKNN_BR adds them, see
  `session_knn`.

The reference is the code of session-rec (`algorithms/knn/stan.py` and `vstan.py`). It differs:

- Its sim is a cosine: it is also divided by the root of the sum of w(i)^2 over the current session.
  Like T this is a factor of all scores of a case and changes no rank. Here both are left out, and
  time(t) counts from that of the most recent candidate, so that no factor overflows. A session that
  ended after the case weighs more than one before it, as by the reference's formula: its splits are
  by time, where there is none.
- Of sessions of one time it takes any, here they are ordered by their place in the log.
- VSTAN's idf there counts the events with j in place of the sessions, and is negative for an item
  with more events than there are sessions. Its `similarity` is read by nothing: always the cosine.
- Its options to add test sessions to the neighbours and to leave out items of the current session,
  both off by default, are not here; for the latter there is `exclude_session_items`.

Scores of items that have the same neighbours at the same distances are equal numbers.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from hrnn_jax.baselines import session_knn, sparse_ranking
from hrnn_jax.baselines.session_knn import Current, Sessions
from hrnn_jax.config import StanConfig
from hrnn_jax.event_log import EventLog, ranges

DAY = 86_400  # seconds


def scorer(log: EventLog, config: StanConfig) -> sparse_ranking.Scorer:
    """Return the function that scores test cases, and what each costs.

    Args:
        log: a prepared log with N test cases.
        config: neighbours and decays.

    Returns:
        A function from a slice of `log.cases` to their scores, CSR [n, V], which compare within a
        case only: each case has its own unit. And the costs, [N], which bound the entries of all
        arrays that the function makes for a case.
    """
    sessions = session_knn.training_sessions(log)
    places = _last_places(log, sessions)
    n_sessions = np.diff(sessions.of_item.indptr)  # [V]
    idf = np.log(max(len(sessions.user), 1) / np.maximum(n_sessions, 1))
    factor = 1 + config.lambda_idf * idf
    current_of, costs = session_knn.look_up(
        log,
        sessions,
        neighbours=config.neighbours,
        sample_size=config.sample_size,
        extend=config.extend,
    )
    with_reminders, n_reminders = session_knn.reminders(log, sessions, config)

    def score(chunk: slice) -> sparse.csr_array:
        current = current_of(chunk)
        row, session, sim = _neighbours(sessions, current, config)
        begin = sessions.items.indptr[session]
        length = sessions.items.indptr[session + 1] - begin
        entry = ranges(begin, length)
        item, place = sessions.items.indices[entry], places[entry]
        is_shared = np.isin(
            np.repeat(row, length) * log.n_items + item,
            current.row * log.n_items + current.item,
        )
        ends = np.cumsum(length)
        last = np.maximum.reduceat(np.where(is_shared, place, 0), ends - length)
        near = np.exp(-np.abs(place - np.repeat(last, length)) / config.lambda_inh)
        # A product sums the neighbours of a case in their order, whatever the item.
        of_neighbour = sparse.csr_array(
            (near, item, np.append(0, ends)), shape=(len(row), log.n_items)
        )
        indptr = np.searchsorted(row, np.arange(len(current.length) + 1))
        of_case = sparse.csr_array(
            (sim, np.arange(len(row)), indptr), shape=(len(current.length), len(row))
        )
        scores = sparse.csr_array(of_case @ of_neighbour)
        scores.data *= factor[scores.indices]
        if config.remind_weight:
            scores = with_reminders(scores, current)
        scores.eliminate_zeros()  # where a decay is below the smallest number
        return scores

    return score, costs + n_reminders


def _neighbours(
    sessions: Sessions, current: Current, config: StanConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the case of each neighbour, rising, its session, and its sim; the nearest first."""
    row, session, place, begin = session_knn.shared_items(sessions, current, config.sample_size)
    pair = np.repeat(np.arange(len(row)), np.diff(begin, append=len(place)))
    weight = np.exp((place - current.length[row[pair]]) / config.lambda_spw)
    sim = np.add.reduceat(weight, begin)
    sim /= np.sqrt(np.diff(sessions.items.indptr))[session]
    newest = np.searchsorted(row, row)  # the first of each case is its most recent
    seconds = sessions.time[session] - sessions.time[session[newest]]
    sim *= np.exp(seconds / (config.lambda_snh * DAY))
    sim[sessions.user[session] == current.user[row]] *= 1 + config.boost
    ends = np.searchsorted(row, np.arange(len(current.length) + 1))
    nearest = sparse_ranking.largest_of_rows(sim, ends, config.neighbours)  # recent ones first
    row, session, sim = row[nearest], session[nearest], sim[nearest]
    if config.lambda_ipw:
        back = current.length[row] - np.maximum.reduceat(place, begin)[nearest]
        sim *= np.exp(-back / config.lambda_ipw)
    return row, session, sim


def _last_places(log: EventLog, sessions: Sessions) -> np.ndarray:
    """Return the last place, from 1, of each entry of `sessions.items` in its session."""
    train = log.train
    index = np.arange(len(train))
    place = 1 + index - np.maximum.accumulate(np.where(train.follows, 0, index))
    row = np.repeat(np.arange(len(sessions.user)), np.diff(sessions.items.indptr))
    entry = np.searchsorted(
        row * log.n_items + sessions.items.indices,
        sessions.of_event.astype(np.int64) * log.n_items + train.item,
    )
    places = np.zeros(len(row), np.int64)
    np.maximum.at(places, entry, place)
    return places
