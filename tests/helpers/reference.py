"""HRNN in float64, one lane at a time: the plain reference that the fast code is compared with.

Nothing here is shared with the package. Every equation is written out for one lane, its backward
pass by hand beneath it. Vectors are rows, so Eq. 4 reads `c @ W`. Weights are a dict of arrays:

    item_in [V, 3H], session_w_cand [H, H], session_w_gates [H, 2H], session_b [3H]    GRU_ses
    user_w_in [H, 3C], user_w_cand [C, C], user_w_gates [C, 2C], user_b [3C]           GRU_usr
    init_w [C, H], init_b [H]                                                          Eq. 4
    user_to_session_w [C, 3H]                                                          Eq. 5
    item_out [V, H], item_bias [V]                                                     Eq. 2

with H session units and C user units; the columns of a width of 3 are candidate | reset | update,
of a width of 2 reset | update. The variant "rnn" needs the first row and the last only.
"""

from __future__ import annotations

import dataclasses

import numpy as np

NO_ITEM = -1  # as an input: the lane is absent from this step and its states stay
EPSILON = 1e-6  # inside the root of AdaGrad


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# The GRU: the reset gate acts before the recurrent matrix.


def gru(x, h, w_cand, w_gates, leak=None):
    """Return the next state of one lane, and what its backward pass needs; `x` holds the bias.

    `leak` is what the next state keeps a part of, the state before by default.
    """
    n, leak = len(h), h if leak is None else leak
    gates = h @ w_gates
    reset = sigmoid(x[n : 2 * n] + gates[:n])
    update = sigmoid(x[2 * n :] + gates[n:])
    candidate = np.tanh(x[:n] + (reset * h) @ w_cand)
    return (1 - update) * leak + update * candidate, (h, reset, update, candidate, leak)


def gru_backward(d_next, tape, w_cand):
    """Return the gradients of x, w_cand and w_gates; the state before is a constant."""
    h, reset, update, candidate, leak = tape
    d_cand = d_next * update * (1 - candidate**2)
    d_update = d_next * (candidate - leak) * update * (1 - update)
    d_reset = (d_cand @ w_cand.T) * h * reset * (1 - reset)
    d_gates = np.concatenate([d_reset, d_update])
    return np.concatenate([d_cand, d_gates]), np.outer(reset * h, d_cand), np.outer(h, d_gates)


# The losses: raw scores [N, N] of lane i for lane j's target -> mean loss, its gradient [N, N].


def top1(raw):
    n, r = len(raw), np.tanh(raw)
    loss, d = 0.0, np.zeros_like(r)
    for i in range(n):
        for j in range(n):
            leak, size = sigmoid(r[i, j] - r[i, i]), sigmoid(r[i, j] ** 2)
            loss += (leak + size) / n
            d[i, j] += leak * (1 - leak) / n
            d[i, i] -= leak * (1 - leak) / n
            d[i, j] += size * (1 - size) * 2 * r[i, j] / n
        own = sigmoid(r[i, i] ** 2)
        loss -= own / n
        d[i, i] -= own * (1 - own) * 2 * r[i, i] / n
    return loss / n, d * (1 - r**2) / n


def bpr(raw):
    n, r = len(raw), np.tanh(raw)
    loss, d = 0.0, np.zeros_like(r)
    for i in range(n):
        for j in range(n):
            above = sigmoid(r[i, i] - r[i, j])
            loss -= np.log(above) / n
            d[i, i] -= (1 - above) / n
            d[i, j] += (1 - above) / n
    return loss / n, d * (1 - r**2) / n


def cross_entropy(raw):
    n = len(raw)
    loss, d = 0.0, np.zeros_like(raw)
    for i in range(n):
        total = sum(np.exp(raw[i, j]) for j in range(n))
        loss -= np.log(np.exp(raw[i, i]) / total)
        for j in range(n):
            d[i, j] = np.exp(raw[i, j]) / total - (i == j)
    return loss / n, d / n


LOSSES = {"top1": top1, "bpr": bpr, "cross_entropy": cross_entropy}


# One step of one lane.


@dataclasses.dataclass
class Tape:
    """What the backward pass of one lane needs of its forward pass."""

    item: int
    session_gru: tuple
    user: np.ndarray  # [C] the user state that Eq. 5 read
    user_gru: tuple | None = None  # set where Eq. 3 and Eq. 4 ran
    session_before: np.ndarray | None = None  # [H] the input of Eq. 3
    init: np.ndarray | None = None  # [H] the output of Eq. 4


def start_session(w, session, user, variant):
    """Open a user's next session: Eq. 3 on what the last one left, then Eq. 4."""
    if variant == "rnn":
        return np.zeros_like(session), user, {}
    x = session @ w["user_w_in"] + w["user_b"]
    user, user_gru = gru(x, user, w["user_w_cand"], w["user_w_gates"])
    init = np.tanh(user @ w["init_w"] + w["init_b"])
    return init, user, {"user_gru": user_gru, "session_before": session, "init": init}


def feed(w, session, user, item, variant, user_input, leak=None):
    """Eq. 1, or Eq. 5 in the variant "hrnn_all": read one item."""
    x = w["item_in"][item] + w["session_b"]
    if variant == "hrnn_all":
        x = x + user @ user_columns(w, user_input)
    return gru(x, session, w["session_w_cand"], w["session_w_gates"], leak)


def user_columns(w, user_input):
    """The weights of Eq. 5 that act: with "gates" the candidate does not see the user."""
    columns = w["user_to_session_w"].copy()
    if user_input == "gates":
        columns[:, : columns.shape[1] // 3] = 0
    return columns


def lane_backward(w, d_session, tape, variant, user_input, d):
    """Add one lane's gradients to `d`, from that of the session state that was scored."""
    d_x, d_cand, d_gates = gru_backward(d_session, tape.session_gru, w["session_w_cand"])
    d["item_in"][tape.item] += d_x
    d["session_b"] += d_x
    d["session_w_cand"] += d_cand
    d["session_w_gates"] += d_gates
    if variant == "hrnn_all":
        acting = d_x.copy()
        if user_input == "gates":
            acting[: len(d_session)] = 0
        d["user_to_session_w"] += np.outer(tape.user, acting)
    if tape.user_gru is None:
        return
    h, reset, update, _, leak = tape.session_gru
    d_init = d_session * (1 - update) if leak is h else np.zeros_like(d_session)
    d_init += (d_x[: len(h)] @ w["session_w_cand"].T) * reset
    d_init += d_x[len(h) :] @ w["session_w_gates"].T
    d_init *= 1 - tape.init**2
    d["init_b"] += d_init
    d["init_w"] += np.outer(tape.user, d_init)
    d_user = d_init @ w["init_w"].T
    if variant == "hrnn_all":
        d_user += d_x @ user_columns(w, user_input).T
    d_x, d_cand, d_gates = gru_backward(d_user, tape.user_gru, w["user_w_cand"])
    d["user_b"] += d_x
    d["user_w_in"] += np.outer(tape.session_before, d_x)
    d["user_w_cand"] += d_cand
    d["user_w_gates"] += d_gates


# Training.


def step(w, session, user, data, *, variant, user_input, loss, leak="equation", mean_over="batch"):
    """One step of all lanes; the carried states are constants of its gradient.

    `data` is input, target, session_start, user_start, valid, each [B], as in `train_steps`.
    Returns the loss, the gradients of every weight (whole tables), the session and user states.
    """
    session, user = session.copy(), user.copy()
    input, target, session_start, user_start, valid = data
    tapes = {}
    for b in range(len(input)):
        if input[b] == NO_ITEM:
            continue
        s, c, opened = session[b].copy(), user[b].copy(), {}
        if user_start[b]:
            s, c = np.zeros_like(s), np.zeros_like(c)
        elif session_start[b]:
            s, c, opened = start_session(w, s, c, variant)
        carried = session[b].copy() if leak == "carried" else None
        session[b], session_gru = feed(w, s, c, input[b], variant, user_input, carried)
        user[b] = c
        tapes[b] = Tape(input[b], session_gru, c, **opened)

    lanes = np.flatnonzero(valid)
    value, d = 0.0, {name: np.zeros_like(weight) for name, weight in w.items()}
    if len(lanes) == 0:
        return value, d, session, user
    raw = np.zeros((len(lanes), len(lanes)))
    for i, b in enumerate(lanes):
        for j, item in enumerate(target[lanes]):
            raw[i, j] = w["item_out"][item] @ session[b] + w["item_bias"][item]
    value, d_raw = LOSSES[loss](raw)
    if mean_over == "batch":
        d_raw *= len(lanes) / len(input)
    for i, b in enumerate(lanes):
        d_session = np.zeros(session.shape[1])
        for j, item in enumerate(target[lanes]):
            d_session += d_raw[i, j] * w["item_out"][item]
            d["item_out"][item] += d_raw[i, j] * session[b]
            d["item_bias"][item] += d_raw[i, j]
        lane_backward(w, d_session, tapes[b], variant, user_input, d)
    return value, d, session, user


def train_steps(
    weights,
    input,  # [T, B]
    target,  # [T, B]
    session_start,  # [T, B] a new session of the lane's user (any value where user_start is set)
    user_start,  # [T, B]
    valid,  # [T, B] whether the lane has a loss; one with an input and no loss still reads it
    *,
    variant,
    user_input,
    learning_rate,
    momentum,
    loss="top1",
    leak="equation",
    mean_over="batch",
):
    """Train for T steps from zero states, accumulators and velocities.

    A step without any loss updates nothing. An item that is fed is touched, even by no gradient.

    Returns a dict: loss [T], session_state [T, B, H], user_state [T, B, C] after each step, and the
    dicts weights, accumulators, velocities.
    """
    w = {name: np.array(value, np.float64) for name, value in weights.items()}
    accumulators = {name: np.zeros_like(value) for name, value in w.items()}
    velocities = {name: np.zeros_like(value) for name, value in w.items()}
    session = np.zeros((input.shape[1], len(w["session_w_cand"])))
    user = np.zeros((input.shape[1], len(w["user_w_cand"]) if "user_w_cand" in w else 0))
    form = {"variant": variant, "user_input": user_input, "leak": leak}
    losses, session_states, user_states = [], [], []
    for data in zip(input, target, session_start, user_start, valid, strict=True):
        value, d, session, user = step(
            w, session, user, data, loss=loss, mean_over=mean_over, **form
        )
        fed, scored = np.unique(data[0][data[0] != NO_ITEM]), np.unique(data[1][data[4]])
        touched = {"item_in": fed, "item_out": scored, "item_bias": scored}
        for name, weight in w.items() if data[4].any() else ():
            rows = touched.get(name, slice(None))
            accumulators[name][rows] += d[name][rows] ** 2
            scaled = d[name][rows] / np.sqrt(accumulators[name][rows] + EPSILON)
            velocities[name][rows] = momentum * velocities[name][rows] - learning_rate * scaled
            weight[rows] += velocities[name][rows]
        losses.append(value)
        session_states.append(session)
        user_states.append(user)
    return {
        "loss": np.array(losses),
        "session_state": np.array(session_states),
        "user_state": np.array(user_states),
        "weights": w,
        "accumulators": accumulators,
        "velocities": velocities,
    }


# Evaluation.


def replay_ranks(
    weights,
    user,  # [E] in replay order, as the three below
    session,  # [E]
    item,  # [E]
    test,  # [E]
    *,
    ties,
    variant="hrnn_init",
    user_input="full",
    feed_last_item=False,
    leak="equation",
):
    """Replay the log; return the places [N] of the test cases and the targets' ranks [N].

    A case is an event of a test session that follows another one. All items are candidates.
    """
    w = {name: np.array(value, np.float64) for name, value in weights.items()}
    cases, ranks = [], []
    for e in range(len(item)):
        if e == 0 or user[e] != user[e - 1]:
            s, ended = np.zeros(len(w["session_w_cand"])), None
            c = np.zeros(len(w["user_w_cand"]) if "user_w_cand" in w else 0)
        elif session[e] != session[e - 1]:
            if feed_last_item:
                s, _ = feed(w, s, c, item[e - 1], variant, user_input, ended)
            ended = s.copy() if leak == "carried" else None
            s, c, _ = start_session(w, s, c, variant)
        else:
            s, _ = feed(w, s, c, item[e - 1], variant, user_input, ended)
            ended = None
            if test[e]:
                cases.append(e)
                ranks.append(rank(w, s, item[e], ties))
    return np.array(cases, int), np.array(ranks, int)


def rank(w, session, target, ties):
    """1 + the number of items above the target, by the scores before tanh."""
    own = w["item_out"][target] @ session + w["item_bias"][target]
    above = 0
    for j in range(len(w["item_bias"])):
        score = w["item_out"][j] @ session + w["item_bias"][j]
        if j != target and (score > own or (score == own and ties == "against")):
            above += 1
    return 1 + above
