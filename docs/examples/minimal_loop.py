"""HRNN Init, its training and its evaluation in one flat file, with jax and numpy alone.

    python docs/examples/minimal_loop.py [my_log.csv, with columns user_id, item_id, ts in seconds]

Without a file, a log is made. Equations, sections and figures: Quadrana et al., RecSys 2017.
"""

import collections
import sys

import jax
import jax.numpy as jnp
import numpy as np

HIDDEN_UNITS, BATCH_SIZE, LEARNING_RATE, EPOCHS, SESSION_GAP = 32, 20, 0.1, 10, 30 * 60


# ---- The log: the user, the session and the item of each event (Section 4.1) ----
def read_log(path: str) -> tuple:
    """Sort the events by user and time; half an hour without one ends a session."""
    log = np.genfromtxt(path, None, None, ",", names=True, encoding="utf8", ndmin=1)
    if {"user_id", "item_id", "ts"} - {*log.dtype.names} or log["ts"].dtype.kind not in "if":
        sys.exit(f"{path}: give it columns user_id, item_id and ts, in seconds; see the first line")
    if not ((log["ts"] >= 0) & (log["ts"] < 1e11)).all():  # numpy reads a missing one as -1 or nan
        sys.exit(f"{path}: a ts is missing, negative or in milliseconds: give seconds since 1970")
    log = log[np.lexsort([log["ts"], log["user_id"]])]
    user = np.unique(log["user_id"], return_inverse=True)[1]
    starts = (np.diff(user, prepend=-1) != 0) | (np.diff(log["ts"], prepend=0) > SESSION_GAP)
    return user, np.cumsum(starts), log["item_id"]


def make_log() -> tuple:
    """Make 300 users of three tastes: a taste says which item follows which, four times in five."""
    rng = np.random.default_rng(0)
    following = [rng.permutation(100) for _ in range(3)]
    item = rng.integers(100, size=(1800, 5))  # 6 sessions of 5 items for each user
    for s, n in np.argwhere(rng.random((1800, 4)) < 0.8):
        item[s, n + 1] = following[s // 6 % 3][item[s, n]]
    return np.arange(9000) // 30, np.arange(9000) // 5, item.ravel()


def make_pairs(user: np.ndarray, session: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the N pairs of an event and the next one in its session, and the number V of items."""
    is_test = session == session[np.searchsorted(user, user, side="right") - 1]  # the user's last
    kept = ~is_test | np.isin(item, item[~is_test])  # items without a training event are left out
    user, session, is_test = user[kept], session[kept], is_test[kept]
    names, item = np.unique(item[kept], return_inverse=True)
    at = np.flatnonzero(session[1:] == session[:-1])
    starts = [np.diff(column[at], prepend=-1) != 0 for column in (session, user)]
    columns = item[at], item[at + 1], *starts, is_test[at], np.ones(len(at))
    return np.stack(columns, axis=1).astype(np.int32), len(names)  # [N, 6], as of Batch below


# ---- User-parallel mini-batches (Section 3.2.2, Figure 2) ----
# A step of all B lanes, [B] each: the item read and the one that follows; whether the first is the
# first of its session, of its user; whether the session is the test; whether the lane has a user.
Batch = collections.namedtuple("Batch", "input target session_start user_start is_test valid")


def make_batches(pairs: np.ndarray, rng: np.random.Generator) -> list[Batch]:
    """Let each user, in random order, take the lane that is free first."""
    users = np.split(pairs, np.flatnonzero(pairs[:, 3])[1:])
    lanes = [[] for _ in range(BATCH_SIZE)]
    for i in rng.permutation(len(users)):
        min(lanes, key=len).extend(users[i])
    steps = np.zeros((max(map(len, lanes)), 6, BATCH_SIZE), np.int32)
    for b, lane in enumerate(lanes):
        steps[: len(lane), :, b] = np.reshape(lane, (-1, 6))
    return [Batch(*step[:2], *step[2:].astype(bool)) for step in steps]


# ---- The model (Section 3.2), with H hidden units in both GRUs ----
def init_weights(n_items: int, rng: np.random.Generator, h: int = HIDDEN_UNITS) -> dict:
    """Draw weights within +-sqrt(6 / (rows + columns)). 3H columns: candidate | reset | update."""

    def draw(n: int, m: int, gates: int = 1) -> jax.Array:
        return jnp.float32(np.sqrt(6 / (n + m)) * rng.uniform(-1, 1, (n, m * gates)))

    return {
        "session_in": draw(n_items, h, gates=3),
        "session_gru": (draw(h, h), draw(h, h, gates=2), jnp.zeros(3 * h)),
        "user_in": draw(h, h, gates=3),
        "user_gru": (draw(h, h), draw(h, h, gates=2), jnp.zeros(3 * h)),
        "init": (draw(h, h), jnp.zeros(h)),
        "output": (draw(n_items, h), jnp.zeros(n_items)),
    }


def gru(weights: tuple, x: jax.Array, h: jax.Array) -> jax.Array:
    """Advance a state [B, H] by an input [B, 3H]; the reset gate acts before the matrix."""
    w_candidate, w_gates, b = weights
    x_candidate, x_gates = jnp.split(x + b, [HIDDEN_UNITS], axis=1)
    r, z = jnp.split(jax.nn.sigmoid(x_gates + h @ w_gates), 2, axis=1)
    return (1 - z) * h + z * jnp.tanh(x_candidate + (r * h) @ w_candidate)


@jax.jit
def step(w: dict, state: tuple, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Read the inputs. Return s of GRU_ses, which predicts the targets, and c of GRU_usr."""
    s, c = (jnp.where(batch.user_start[:, None], 0, h) for h in state)
    opens = (batch.session_start & ~batch.user_start)[:, None]  # the user's next session
    c = jnp.where(opens, gru(w["user_gru"], s @ w["user_in"], c), c)  # Eq. 3
    s = jnp.where(opens, jnp.tanh(c @ w["init"][0] + w["init"][1]), s)  # Eq. 4
    return gru(w["session_gru"], w["session_in"][batch.input], s), c  # Eq. 1


# ---- Training: TOP1 over the mini-batch's targets, AdaGrad (Sections 3.1 and 4.4) ----
def top1(w: dict, state: tuple, batch: Batch) -> tuple[jax.Array, tuple]:
    """Return the sum of the lanes' losses, divided by B, and the state after the step."""
    s, c = step(w, state, batch)
    rows, biases = (table[batch.target] for table in w["output"])
    r = jnp.tanh(s @ rows.T + biases)  # Eq. 2, [B, B]: lane i's score of lane j's target
    own = jnp.diag(r)
    terms = jax.nn.sigmoid(r - own[:, None]) + jax.nn.sigmoid(r**2)
    sums = jnp.where(batch.valid, terms, 0).sum(axis=1) - jax.nn.sigmoid(own**2)
    return jnp.where(batch.valid, sums / batch.valid.sum(), 0).mean(), (s, c)


@jax.jit
def update(w: dict, squares: dict, state: tuple, batch: Batch) -> tuple:
    """Make one step of AdaGrad. The state before it is a constant of the gradient."""
    (loss, state), grads = jax.value_and_grad(top1, has_aux=True)(w, state, batch)
    squares = jax.tree.map(lambda a, g: a + g**2, squares, grads)
    steps = jax.tree.map(lambda a, g: LEARNING_RATE * g / jnp.sqrt(a + 1e-6), squares, grads)
    return jax.tree.map(jnp.subtract, w, steps), squares, state, loss


def main(log: tuple) -> None:
    """Train on all sessions but the test's, then rank each test target among all items."""
    pairs, n_items = make_pairs(*log)
    training = pairs[pairs[:, 4] == 0]
    if len(training) in (0, len(pairs)):
        sys.exit("give a log of users with two sessions of two events each, some items in both")
    w = init_weights(n_items, np.random.default_rng(0))
    squares = jax.tree.map(jnp.zeros_like, w)
    start = (jnp.zeros((BATCH_SIZE, HIDDEN_UNITS)),) * 2
    for epoch in range(EPOCHS):
        state, total = start, 0.0
        for batch in make_batches(training, np.random.default_rng((0, epoch))):
            w, squares, state, loss = update(w, squares, state, batch)
            total += loss * BATCH_SIZE
        print(f"epoch {epoch + 1}: loss {total / len(training):.4f}")
    state, ranks = start, []  # Section 4.3: first each user's history is replayed
    for batch in make_batches(pairs, np.random.default_rng(0)):
        state = step(w, state, batch)
        scores = state[0] @ w["output"][0].T + w["output"][1]
        own = scores[np.arange(BATCH_SIZE), batch.target]
        ranks.extend((scores >= own[:, None]).sum(axis=1)[batch.is_test])  # ties count against it
    print(f"Recall@5: {np.mean(np.array(ranks) <= 5):.4f} of {len(ranks)} test cases")


if __name__ == "__main__":
    main(read_log(sys.argv[1]) if len(sys.argv) > 1 else make_log())
