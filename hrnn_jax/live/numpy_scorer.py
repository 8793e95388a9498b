"""Score items with exported weights and numpy alone: copy this file to where the model is served.

    scorer = Scorer("weights.npz")  # written by experiments.export
    state = scorer.observe(scorer.start(), "i42", new_session=True)
    scorer.recommend(state, k=10)  # [(item, score), ...]

Arrays of the file, with V items, H units, L layers; 3H is candidate | reset | update:
  items [V] raw ids; variant, leak, feed_last_item: how the network was trained
  drop_repeats: whether an item that its session has already changes nothing; not in older files
  exclude_session_items: whether lists leave out the session's items; not in older files
  item_in [V, 3H], item_out [V, H], item_bias [V]
  session_w_cand [L, H, H], session_w_gates [L, H, 2H], session_b [L, 3H]: GRU_ses, Eq. 1
  session_w_in [L - 1, H, 3H]: its layers above the first
  user_w_in [H, 3H], user_w_cand, user_w_gates, user_b, init_w [H, H], init_b: Eq. 3, 4 (HRNN only)
  user_to_session_w [H, 3H], or [H, 2H] without the candidate: Eq. 5 (HRNN All only)

How events change the state, in the words of replay.py:
- An event's item is fed when the next event comes. Inside a session it is an input (Eq. 1).
- The last item of a session is an input only if the network was trained with `feed_last_item` or
  is RNN Concat. Otherwise a session of one event changes nothing, as in training.
- RNN starts each session from zeros.
- HRNN applies Eq. 3 and 4 before the first item of a session, if the state has been fed an item.
"""

import numpy as np

State = tuple[np.ndarray, np.ndarray, int, bool, bool, tuple[int, ...]]


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)), without overflow."""
    return (1 + np.tanh(x / 2)) / 2


def cell(weights: list[np.ndarray], x: np.ndarray, h: np.ndarray, leak: np.ndarray) -> np.ndarray:
    """Return a GRU's state after the projected input x [3H]; h, leak [H] are the state before."""
    w_cand, w_gates, b = weights
    units, x = len(h), x + b
    r, z = np.split(sigmoid(x[units:] + h @ w_gates), 2)
    return (1 - z) * leak + z * np.tanh(x[:units] + (r * h) @ w_cand)


class Scorer:
    """The network, for one user at a time. The caller stores the users' states."""

    def __init__(self, path: str):
        """Load an exported file."""
        with open(path, "rb") as opened, np.lib.npyio.NpzFile(opened) as file:
            self.weights: dict[str, np.ndarray] = dict(file)
        self.items = self.weights["items"].tolist()
        self.index = {item: index for index, item in enumerate(self.items)}
        self.variant = str(self.weights["variant"])

    def start(self) -> State:
        """Return a new user's: GRU_ses, GRU_usr, last item, opens_session, fed, session's items."""
        layers, units, _ = self.weights["session_w_cand"].shape
        zeros = np.zeros((layers + 1, units), np.float32)
        return zeros[:-1], zeros[-1], -1, False, False, ()

    def observe(self, state: State, item: int | str, *, new_session: bool) -> State:
        """Return the state after an event; KeyError for an item that the network does not know."""
        session, user, last, opens_session, fed, items = state
        index = self.index[item]
        if self.weights.get("drop_repeats", False) and not new_session and index in items:
            return state
        items = (index,) if new_session else (*items, index)
        if new_session and self.variant == "rnn":
            return *self.start()[:2], index, False, False, items
        inside = not new_session or self.variant == "rnn_concat"
        if last >= 0 and (inside or self.weights["feed_last_item"]):
            session, user = self.step(session, user, last, opens_session)
            fed = True
        opens_session = new_session and fed and self.variant.startswith("hrnn")
        return session, user, index, opens_session, fed, items

    def step(self, session: np.ndarray, user: np.ndarray, index: int, opens_session: bool):
        """Return GRU_ses [L, H] and GRU_usr [H] after an item, by Eq. 1, 3, 4 and 5."""
        w, carried, session = self.weights, session, session.copy()
        x = w["item_in"][index]
        if opens_session:
            gru = [w[f"user_{name}"] for name in ("w_cand", "w_gates", "b")]
            user = cell(gru, session[-1] @ w["user_w_in"], user, user)
            session[0] = np.tanh(user @ w["init_w"] + w["init_b"])
        if self.variant == "hrnn_all":
            w_in = w["user_to_session_w"]
            x = x + np.pad(user @ w_in, (x.size - w_in.shape[1], 0))
        leak = carried if w["leak"] == "carried" else session.copy()
        for layer in range(len(session)):
            if layer > 0:
                x = session[layer - 1] @ w["session_w_in"][layer - 1]
            gru = [w[f"session_{name}"][layer] for name in ("w_cand", "w_gates", "b")]
            session[layer] = cell(gru, x, session[layer], leak[layer])
        return session, user

    def scores(self, state: State) -> np.ndarray:
        """Score all items [V], as evaluation ranks them."""
        session, user, last, opens_session, _, _ = state
        if last >= 0:
            session, _ = self.step(session, user, last, opens_session)
        return self.weights["item_out"] @ session[-1] + self.weights["item_bias"]

    def recommend(self, state: State, k: int = 10) -> list[tuple[int | str, float]]:
        """Return the k items of the highest scores, best first."""
        scores = self.scores(state)
        if self.weights.get("exclude_session_items", False):
            scores[list(state[-1])] = -np.inf
        best = np.argsort(-scores, kind="stable")[: min(k, np.sum(scores > -np.inf))]
        return [(self.items[index], float(scores[index])) for index in best]
