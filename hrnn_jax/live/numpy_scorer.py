"""Score items with exported weights and numpy alone: copy this file to where the model is served.

    scorer = Scorer("weights.npz")  # written by experiments.export
    state = scorer.observe(scorer.start(), "i42", new_session=True, time=1_700_000_000)
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
Of a network with an embedding:
  embedding_w [H, 3H], with item_in [V, H], or without it if the embedding is tied to item_out
  residual: whether the last item's embedding is added to what is scored
Of a network with `idle_gap`:
  gap_w [64, 3H]: of the classes of idle times inside sessions, then of those between sessions
Of a network with `places` (R of them; docs/concepts/beyond_the_paper.md has the formulas):
  places: R; neighbour_item [V, K], 2^31 - 1 for none, neighbour_share [V, 3, K]
  item_users [V, 2]: who had the item in training, and who had it more than once
  place_mean, place_scale, place_linear, place_hidden_w, place_hidden_b, place_output: its network
  mixture_repeat, mixture_gate, mixture_explore: what each part weighs
  never_twice: whether no item is ever twice in a session

How events change the state, in the words of replay.py:
- An event's item is fed when the next event comes. Inside a session it is an input (Eq. 1).
- The last item of a session is an input only if the network was trained with `feed_last_item` or
  is RNN Concat. Otherwise a session of one event changes nothing, as in training.
- RNN starts each session from zeros.
- HRNN applies Eq. 3 and 4 before the first item of a session, if the state has been fed an item.
"""

import math
from typing import Any, NamedTuple

import numpy as np

TRAIL = 256  # events whose order is kept
DAY = 1440  # minutes
NO_GAP = 64  # the class of no idle time
USER_INPUTS = [1, 3, 4, 5, 6, 7, 10, 11]  # of `user_features`, what the place network reads
History = dict[str, np.ndarray]


class State(NamedTuple):
    """What the caller stores of a user."""

    session: np.ndarray  # [L, H], GRU_ses
    user: np.ndarray  # [H], GRU_usr
    last: int = -1  # index of the last item, which is not fed yet
    opens_session: bool = False  # Eq. 3 and 4 come before it
    fed: bool = False  # an item has been fed
    items: tuple[int, ...] = ()  # of the open session
    time: float = 0  # Unix seconds of the last event
    gap: int = NO_GAP  # class of the idle time before it
    history: History | None = None  # of a network with `places`, without the last item
    is_first: bool = True  # the last item is the first one of its session, as the history sees it


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)), without overflow."""
    return (1 + np.tanh(x / 2)) / 2


def log_sum(logits: np.ndarray) -> float:
    """Return log(sum(exp(logits))), -inf for none."""
    most = np.max(logits, initial=-np.inf)
    return float(most + np.log(np.exp(logits - most).sum())) if most > -np.inf else -np.inf


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
        """Return the state of a new user."""
        layers, units, _ = self.weights["session_w_cand"].shape
        zeros = np.zeros((layers + 1, units), np.float32)
        places = self.weights.get("places")
        history = None if places is None else no_history(int(places))
        return State(zeros[:-1], zeros[-1], history=history)

    def observe(
        self, state: State, item: int | str, *, new_session: bool, time: float | None = None
    ) -> State:
        """Return the state after an event.

        Args:
            state: before it.
            item: raw id.
            new_session: whether the event opens a session.
            time: Unix seconds, for networks with `idle_gap` or `places`.

        Raises:
            KeyError: the network does not know the item.
            ValueError: the network reads times, and none is given.
        """
        index, w = self.index[item], self.weights
        if time is None and ("gap_w" in w or "places" in w):
            raise ValueError("the network reads the times of events: give `time`, in Unix seconds")
        if w.get("drop_repeats", False) and not new_session and index in state.items:
            return state
        items = (index,) if new_session else (*state.items, index)
        time = 0 if time is None else time
        if new_session and self.variant == "rnn":
            return self.start()._replace(last=index, items=items, time=time)
        session, user, fed = state.session, state.user, state.fed
        opens = new_session and self.variant.startswith("hrnn") and state.last >= 0
        feeds = state.last >= 0 and (not opens or bool(w["feed_last_item"]))
        if feeds:
            session, user, _ = self.step(state)
            fed = True
        history = with_last_item(state) if feeds or not state.is_first else state.history
        gap = NO_GAP
        if state.last >= 0:
            gap = gap_class(math.floor(time) - math.floor(state.time), opens=opens)
        is_first = state.last < 0 or opens
        return State(session, user, index, opens and fed, fed, items, time, gap, history, is_first)

    def step(self, state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Feed the last item, by Eq. 1, 3, 4 and 5.

        Returns:
            GRU_ses [L, H], GRU_usr [H], and the representation to score [H].
        """
        w, carried, session, user = self.weights, state.session, state.session.copy(), state.user
        embedding = x = w.get("item_in", w["item_out"])[state.last]
        if "embedding_w" in w:
            x = embedding @ w["embedding_w"]
        if "gap_w" in w and state.gap != NO_GAP:
            x = x + w["gap_w"][state.gap]
        if state.opens_session:
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
        return session, user, session[-1] + embedding if w.get("residual", False) else session[-1]

    def scores(self, state: State) -> np.ndarray:
        """Score all items [V], as evaluation ranks them; with `places`, log probabilities."""
        hidden = self.step(state)[2] if state.last >= 0 else state.session[-1]
        scores = self.weights["item_out"] @ hidden + self.weights["item_bias"]
        history = with_last_item(state)
        return scores if history is None else log_probabilities(self.weights, history, scores)

    def recommend(self, state: State, k: int = 10) -> list[tuple[int | str, float]]:
        """Return the k items of the highest scores, best first."""
        scores = self.scores(state)
        if self.weights.get("exclude_session_items", False):
            scores[list(state.items)] = -np.inf
        best = np.argsort(-scores, kind="stable")[: min(k, np.sum(scores > -np.inf))]
        return [(self.items[index], float(scores[index])) for index in best]


def gap_class(seconds: int, *, opens: bool) -> int:
    """Return the class of an idle time: floor(log2(1 + seconds)), of its own between sessions."""
    octave = min((max(seconds, 0) + 1).bit_length() - 1, 31)
    return octave + 32 * opens


def with_last_item(state: State) -> History | None:
    """Return the history with the last item, if there is one; None without `places`."""
    if state.history is None or state.last < 0:
        return state.history
    return with_event(state.history, state.last, math.floor(state.time / 60), state.is_first)


def no_history(places: int) -> History:
    """Return the history of a new user: of each place, of the last events, and of the user.

    Of a place: its item, the events of the item, the number of the last one among the user's, of
    its session, its Unix minute, the number of the one that took the place, the events halved
    every 20 events, and those by three hours of the day and by day of the week (UTC). Of event e,
    at e mod TRAIL: its place and session.
    """
    of_place = ("item", "count", "event", "session", "minute", "first")
    of_user = ("events", "sessions", "repeats", "in_session", "repeats_in_session", "now", "gap")
    return {
        **{name: np.zeros(places, np.int64) for name in of_place},
        "item": np.full(places, -1),
        "recent": np.zeros(places),
        "hours": np.zeros((places, 8), np.int64),
        "days": np.zeros((places, 7), np.int64),
        "trail": np.zeros(TRAIL, np.int64),
        "trail_session": np.zeros(TRAIL, np.int64),
        **{name: np.array(0) for name in of_user},
        "repeat_rate": np.array(0.5),
    }


def with_event(history: History, item: int, minute: int, opens: bool) -> History:
    """Return the history after an event: it takes the place of its item, or the oldest one's."""
    h = {name: values.copy() for name, values in history.items()}
    h["events"] += 1
    h["sessions"] += opens
    if opens:
        h["in_session"], h["repeats_in_session"] = np.array(0), np.array(0)
    known = bool(np.any(h["item"] == item))
    place = int(np.argmax(h["item"] == item) if known else np.argmin(h["event"]))
    if not known:
        for name in ("count", "recent", "hours", "days"):
            h[name][place] = 0
        h["first"][place] = h["events"]
    h["recent"][place] *= 2.0 ** (-(h["events"] - h["event"][place]) / 20)
    for name, bin_ in (("hours", minute % DAY // 180), ("days", weekday(minute))):
        h[name][place, bin_] = min(255, h[name][place, bin_] + 1)
    h["count"][place] += 1
    h["recent"][place] += 1
    h["item"][place], h["event"][place] = item, h["events"]
    h["session"][place], h["minute"][place] = h["sessions"], minute
    at = h["events"] % TRAIL
    h["trail"][at], h["trail_session"][at] = place, h["sessions"]
    for name in ("repeats", "repeats_in_session"):
        h[name] += known
    h["in_session"] += 1
    h["repeat_rate"] = 0.9 * h["repeat_rate"] + 0.1 * (0.98 * known + 0.01)
    h["gap"] = np.array(minute - h["now"] if h["events"] > 1 else 0)
    h["now"] = np.array(minute)
    return h


def weekday(minute: Any) -> Any:
    """Return the day of the week of Unix minutes, 0 for Monday (1970 began on a Thursday)."""
    return (minute // DAY + 3) % 7


def log_probabilities(w: dict[str, np.ndarray], h: History, scores: np.ndarray) -> np.ndarray:
    """Return log P of all items [V], from the network's scores: g P_repeat or (1 - g) P_explore."""
    used = h["item"] >= 0
    places, in_open = h["item"][used], (h["session"] == h["sessions"])[used]
    explore = w["mixture_explore"][0] * scores
    latest = places[in_open][np.argsort(-h["event"][used][in_open])][:5]
    for n, item in enumerate(latest):
        # Weights of three lags: from the third item on, each counts half of the one after it.
        of_share = w["mixture_explore"][1:].reshape(3, 3)[min(n, 2)] * 0.5 ** max(n - 2, 0)
        near = w["neighbour_item"][item]
        is_item = near < len(scores)
        explore[near[is_item]] += (of_share @ w["neighbour_share"][item])[is_item]
    of_user = user_features(h)
    inputs = [place_network(w, h, of_user)[used], scores[places], explore[places]]
    repeat = w["mixture_repeat"] @ np.stack(inputs)
    repeat[in_open & bool(w["never_twice"])] = -np.inf
    explore[places] = -np.inf
    log_repeat, log_explore = log_sum(repeat), log_sum(explore)
    if log_repeat == -np.inf:  # then all may be -inf: of a session that has every item
        return explore if log_explore == -np.inf else explore - log_explore
    if log_explore == -np.inf:  # every item has a place
        log_g = 0.0
    else:
        gate = w["mixture_gate"] @ np.append(of_user, log_repeat - log_explore)
        log_g = -np.logaddexp(0, -gate)
        explore += -np.logaddexp(0, gate) - log_explore
    explore[places] = repeat - log_repeat + log_g
    return explore


def place_network(w: dict[str, np.ndarray], h: History, of_user: np.ndarray) -> np.ndarray:
    """Return how likely each place is the next item, as logits [R]."""
    of_place = [*place_features(h), *item_features(w["item_users"], h), *np.log(trail_features(h))]
    features = np.stack(of_place, axis=1)
    user = np.broadcast_to(of_user[USER_INPUTS], (len(features), len(USER_INPUTS)))
    x = (np.concatenate([features, user], axis=1) - w["place_mean"]) / w["place_scale"]
    x = np.clip(x, -5, 5)
    hidden = np.tanh(x @ w["place_hidden_w"] + w["place_hidden_b"])
    return x[:, : features.shape[1]] @ w["place_linear"] + hidden @ w["place_output"]


def place_features(h: History) -> list[np.ndarray]:
    """Return the features of each place by its own events, [R] each."""
    age, ago, count = h["events"] - h["event"], h["sessions"] - h["session"], h["count"]
    hour, today = h["now"] % DAY / 180 - 0.5, weekday(h["now"])
    first = math.floor(hour)
    before, after = h["hours"][:, first % 8], h["hours"][:, (first + 1) % 8]
    at_hour = (1 - (hour - first)) * before + (hour - first) * after
    count = np.maximum(count, 1)
    return [
        np.log(count),
        h["count"] / max(h["sessions"], 1),
        np.log1p(age) / 3,
        1 / (1 + age),
        age == 0,
        age == 1,
        np.log1p(ago),
        ago == 0,
        ago == 1,
        np.log(h["recent"] * 2.0 ** (-age / 20) + 0.01),
        np.log1p(np.maximum(h["now"] - h["minute"], 0) / DAY),
        np.log((at_hour + 0.3) / (count / 8 + 0.3)),
        np.log((h["days"][:, today] + 0.5) / (count / 7 + 0.5)),
        weekday(h["minute"]) == today,
    ]


def item_features(users: np.ndarray, h: History) -> list[np.ndarray]:
    """Return what other users did with the item of each place, [R] each.

    How many users had it, and which share of the others among them had it more than once, with two
    more users of whom half a user did.
    """
    had, again = users[h["item"]].T
    had, others_again = np.maximum(had, 1), np.maximum(again - (h["count"] > 1), 0)
    return [np.log(had), np.log((others_again + 0.5) / (had + 1))]


def trail_features(h: History) -> list[np.ndarray]:
    """Return what the order of the last events says of each place, above 0, [R] each."""
    number = h["events"] - (h["events"] - np.arange(TRAIL)) % TRAIL  # below 1 for none
    order = np.argsort(number)[np.sum(number < 1) :]
    place, session, number = h["trail"][order], h["trail_session"][order], number[order]
    known = number >= h["first"][place]  # else of an item that had the place before
    is_last = known & (place == place[-1:])
    follows = np.zeros(len(place), bool)  # the last item, in one session
    follows[1:] = is_last[:-1] & (session[:-1] == session[1:])
    earlier = known & (session != h["sessions"])
    is_open = earlier & ((h["session"] == h["sessions"]) & (h["item"] >= 0))[place]

    def by_session(values: np.ndarray) -> np.ndarray:
        return np.bincount(session % TRAIL, values, TRAIL)[session % TRAIL]

    def share(values: np.ndarray, total: np.ndarray) -> np.ndarray:
        return np.bincount(place, values, len(h["item"])) / max(np.sum(total), 1e-6) + 0.02

    per_event = is_open / np.maximum(h["count"][place], 1)
    size = np.maximum(by_session(earlier), 1)
    alike = earlier * by_session(per_event) / np.sqrt(size)
    lately = np.bincount(place, known * 2.0 ** (-(h["events"] - number) / 80), len(h["item"]))
    return [
        share(known & follows, follows),
        share(known & (by_session(is_last) > 0), is_last),
        share(earlier * by_session(is_open), is_open),
        share(alike, alike),
        lately + 0.05,
    ]


def user_features(h: History) -> np.ndarray:
    """Return what tells whether the next event is a repeat, [12]."""
    is_last = (h["event"] == h["events"]) & (h["item"] >= 0)
    last_count = h["count"][is_last].sum()
    return np.array(
        [
            1,
            np.log1p(np.sum(h["item"] >= 0)),
            np.log((h["repeats"] + 1) / (h["events"] - h["repeats"] + 1)),
            np.log(h["repeat_rate"] / (1 - h["repeat_rate"])),
            min(h["in_session"], 10) / 5,
            (h["repeats_in_session"] + 0.5) / (h["in_session"] + 1),
            np.log1p(last_count),
            np.log1p(h["events"]),
            h["in_session"] == 1,
            last_count > 1,
            np.log1p(h["sessions"]),
            np.log1p(max(h["gap"], 0)),
        ]
    )
