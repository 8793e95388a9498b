"""The history of a user equals one that is kept in plain Python, event by event."""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnn_jax.repeat_explore import features
from hrnn_jax.repeat_explore import history as histories
from hrnn_jax.training import user_batches
from hrnn_jax.training.user_batches import NO_EVENT, NO_ITEM
from tests.helpers import logs

PLACES, LANES = 3, 4
TRAIL = 8  # fewer events than users have
added = jax.jit(histories.add)
USERS = np.array(  # of each item, and those who had it more than once
    [(7, 2), (1, 1), (40, 20), (0, 0), (3, 0), (12, 12)], np.int32
)
MOST = 255  # events of a place in one bin of hours, which is a byte


@functools.cache
def made_log():
    """Return a log of users with many different items, whose events are hours or days apart."""
    log = logs.random(5, users=9, sessions=5, events=6, n_items=6)
    rng = np.random.default_rng(1)
    apart = rng.choice([0, 40, 3_600, 30_000, 400_000], len(log))
    return dataclasses.replace(log, time=1_600_000_000 + np.cumsum(apart))


class Kept:
    """What is kept of one user, in plain Python."""

    def __init__(self, places=PLACES):
        self.size = places
        self.places = {}  # by item
        self.trail = []  # items, sessions and numbers of the last events
        self.events = self.sessions = self.repeats = 0
        self.in_session = self.repeated_in_session = 0
        self.rate, self.now, self.gap = 0.5, 0, 0

    def add(self, item, minute, *, opens):
        if opens:
            self.sessions += 1
            self.in_session = self.repeated_in_session = 0
        self.events += 1
        known = item in self.places
        place = self.places.pop(item, None)
        if place is None:
            place = {"count": 0, "recent": 0.0, "event": self.events, "first": self.events}
            place |= {"hours": [0] * 8, "days": [0] * 7}
            if len(self.places) == self.size:  # the first one is the longest ago
                del self.places[next(iter(self.places))]
        place["recent"] = place["recent"] * 2 ** (-(self.events - place["event"]) / 20) + 1
        place["count"] += 1
        for name, bin_ in (("hours", minute % 1440 // 180), ("days", weekday(minute))):
            place[name][bin_] = min(255, place[name][bin_] + 1)
        place |= {"event": self.events, "session": self.sessions, "minute": minute}
        self.places[item] = place
        self.trail = [*self.trail, (item, self.sessions, self.events)][-TRAIL:]
        self.repeats += known
        self.in_session += 1
        self.repeated_in_session += known
        self.rate = 0.9 * self.rate + 0.1 * (0.99 if known else 0.01)
        self.gap = minute - self.now if self.events > 1 else 0
        self.now = minute


def weekday(minute):
    """Return the day of the week, 0 for Monday."""
    days = np.datetime64(0, "D") + minute // 1440
    return days.astype(object).weekday()


def place_features(kept, item):
    """Return the features of an item's place, as their docstring says."""
    place = kept.places[item]
    age, ago = kept.events - place["event"], kept.sessions - place["session"]
    hour, today = kept.now % 1440 / 180 - 0.5, weekday(kept.now)
    part = hour - math.floor(hour)
    first = place["hours"][math.floor(hour) % 8]
    second = place["hours"][(math.floor(hour) + 1) % 8]
    n_users, n_returned = USERS[item]
    at_hour = (1 - part) * first + part * second
    return [
        math.log(place["count"]),
        place["count"] / max(kept.sessions, 1),
        math.log(1 + age) / 3,
        1 / (1 + age),
        age == 0,
        age == 1,
        math.log(1 + ago),
        ago == 0,
        ago == 1,
        math.log(place["recent"] * 2 ** (-age / 20) + 0.01),
        math.log(1 + (kept.now - place["minute"]) / 1440),
        math.log((at_hour + 0.3) / (place["count"] / 8 + 0.3)),
        math.log((place["days"][today] + 0.5) / (place["count"] / 7 + 0.5)),
        weekday(place["minute"]) == today,
        math.log(max(1, n_users)),
        math.log((max(0, n_returned - (place["count"] > 1)) + 0.5) / (max(0, n_users - 1) + 2)),
        *of_trail(kept, item),
    ]


def of_trail(kept, item):
    """Return what the trail says of an item, as the docstring of the function says.

    An event from before its item lost its place, and took one again, is of no item.
    """
    nowhere = {"first": math.inf}
    trail = [
        (item_ if number >= kept.places.get(item_, nowhere)["first"] else None, session, number)
        for item_, session, number in kept.trail
    ]
    last, *_ = trail[-1]
    after = [b[0] for a, b in itertools.pairwise(trail) if a[0] == last and a[1] == b[1]]
    sessions = {session for one, session, _ in trail if one == last}
    beside = sum(one == item and session in sessions for one, session, _ in trail)
    n_last = sum(one == last for one, *_ in trail)
    earlier = {}  # items by session
    for one, session, _ in trail:
        if one is not None and session != kept.sessions:
            earlier.setdefault(session, []).append(one)
    opened = {item_ for item_, place in kept.places.items() if place["session"] == kept.sessions}
    n_open = {s: sum(one in opened for one in items) for s, items in earlier.items()}
    near = sum(n_open[s] * items.count(item) for s, items in earlier.items())
    alike = {
        s: sum(1 / kept.places[one]["count"] for one in items if one in opened)
        / math.sqrt(len(items))
        for s, items in earlier.items()
    }
    cosine = sum(alike[s] * items.count(item) for s, items in earlier.items())
    total = sum(alike[s] * len(items) for s, items in earlier.items())
    lately = sum(2 ** (-(kept.events - number) / 80) for one, _, number in trail if one == item)
    return [
        math.log(after.count(item) / max(1e-6, len(after)) + 0.02),
        math.log(beside / n_last + 0.02),
        math.log(near / max(1e-6, sum(n_open.values())) + 0.02),
        math.log(cosine / max(1e-6, total) + 0.02),
        math.log(lately + 0.05),
    ]


def user_features(kept):
    """Return the features of a user, as their docstring says."""
    last = max(kept.places.values(), key=lambda place: place["event"])["count"]
    return [
        1,
        math.log(1 + len(kept.places)),
        math.log((kept.repeats + 1) / (kept.events - kept.repeats + 1)),
        math.log(kept.rate / (1 - kept.rate)),
        min(kept.in_session, 10) / 5,
        (kept.repeated_in_session + 0.5) / (kept.in_session + 1),
        math.log(1 + last),
        math.log(1 + kept.events),
        kept.in_session == 1,
        last > 1,
        math.log(1 + kept.sessions),
        math.log(1 + kept.gap),
    ]


@functools.cache
def oracles():
    """Return what is kept after each event of the log, by its number: made once for all tests."""
    log, found = made_log(), {}
    for event in range(len(log)):
        begin = int(np.searchsorted(log.user, log.user[event]))
        kept = Kept()
        for place in range(begin, event + 1):
            opens = place == begin or log.session[place] != log.session[place - 1]
            kept.add(int(log.item[place]), int(log.time[place] // 60), opens=opens)
        found[event] = kept
    return found


@jax.jit
def replayed(steps, minutes):
    """Return the histories after each step, their features and the last three items."""

    def body(history, now):
        history = histories.step(history, *now)
        return history, (
            history,
            features.place_features(history, features.trail_features(history), USERS),
            features.user_features(history),
            histories.recent_items(history, 5),
            histories.in_open_session(history),
        )

    start = jax.tree.map(jnp.asarray, histories.start((LANES,), PLACES))
    return jax.lax.scan(body, start, (steps, minutes))[1]


@pytest.fixture(scope="module", autouse=True)
def _short_trail():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(histories, "TRAIL", TRAIL)
        patch.setattr(histories, "_TRAIL_ROWS", -(-2 * TRAIL // histories.WORDS))
        yield


@pytest.fixture(scope="module", params=[False, True], ids=["", "feed_last_item"])
def replay(request):
    """Return the schedule, and what is found of each step and lane; users change in the lanes."""
    log = made_log()
    schedule = user_batches.build(
        log, LANES, rng=np.random.default_rng(0), feed_last_item=request.param
    )
    n_steps = 48  # with padding, which changes nothing
    steps = user_batches.pad(schedule.steps, n_steps, 8)
    minutes = np.append(log.time // 60, 0).astype(np.int32)[schedule.event]
    minutes = np.pad(minutes, [(0, n_steps - len(minutes)), (0, 0)])
    return schedule.event, jax.device_get(replayed(steps, minutes))


def steps_of(events):
    return [(t, lane, events[t, lane]) for t, lane in np.argwhere(events != NO_EVENT).tolist()]


def test_the_history_is_what_plain_python_keeps(replay):
    """Bug: keep the place that was used last, or count a session that its last item opened."""
    events, (found, *_) = replay
    lost = 0
    for t, lane, event in steps_of(events):
        kept = oracles()[event]
        here = jax.tree.map(lambda values, at=(t, lane): values[at], found)
        used = {int(item): n for n, item in enumerate(here.item) if item != NO_ITEM}
        assert used.keys() == kept.places.keys()
        for item, place in kept.places.items():
            for name in ("count", "event", "session", "minute", "first", "recent", "hours", "days"):
                np.testing.assert_allclose(getattr(here, name)[used[item]], place[name], rtol=1e-6)
        user = [here.events, here.sessions, here.repeats, here.now, here.gap]
        assert user == [kept.events, kept.sessions, kept.repeats, kept.now, kept.gap]
        assert here.session_events == kept.in_session
        assert here.session_repeats == kept.repeated_in_session
        np.testing.assert_allclose(here.repeat_rate, kept.rate, rtol=1e-5)
        log = made_log()
        had = log.item[log.user == log.user[event]][: kept.events]
        lost += len(set(had.tolist())) > PLACES
    assert lost > 20


def test_padding_changes_nothing(replay):
    events, (found, *_) = replay
    assert len(events) < len(found.item) - 2
    jax.tree.map(lambda a: np.testing.assert_array_equal(a[-1], a[-3]), found)


def test_features_are_those_of_plain_python(replay):
    """Bug: of the hour before, of another day, or of the user whom the lane had before."""
    events, (found, of_places, of_user, *_) = replay
    values = []
    for t, lane, event in steps_of(events):
        kept = oracles()[event]
        np.testing.assert_allclose(of_user[t, lane], user_features(kept), rtol=1e-4, atol=1e-5)
        for place, item in enumerate(found.item[t, lane].tolist()):
            if item == NO_ITEM:
                continue
            values.append(place_features(kept, item))
            np.testing.assert_allclose(
                of_places[t, :, lane, place], np.float64(values[-1]), rtol=1e-4, atol=1e-5
            )
    assert (np.std(np.float64(values), axis=0) > 0).all()  # none is the same for all


def test_recent_items_are_those_of_the_open_session(replay):
    """Bug: leave the session out of account, and the items before it are among them."""
    events, (found, _, _, recent, is_open) = replay
    log, shorter = made_log(), 0
    for t, lane, event in steps_of(events):
        begin = event - np.argmin(log.follows[event::-1])
        seen = log.item[begin : event + 1].tolist()[::-1]
        expected = list(dict.fromkeys(seen))[:PLACES]
        items = recent[t, lane].tolist()
        assert items == [*expected, *[NO_ITEM] * (PLACES - len(expected))]
        assert set(found.item[t, lane][is_open[t, lane]].tolist()) == set(expected)
        shorter += len(expected) < PLACES
    assert shorter


def test_unpack_inverts_pack_bit_for_bit(replay):
    """All but the target, which live users do not have."""
    _, (found, *_) = replay
    history = jax.tree.map(lambda values: values.reshape(-1, *values.shape[2:]), found)
    packed = histories.pack(history)
    assert packed.shape == (len(history.events), 1 + PLACES + 2, histories.WORDS)
    assert packed.dtype == np.int32
    again = histories.unpack(packed)
    for field in dataclasses.fields(histories.History):
        before, after = (getattr(each, field.name) for each in (history, again))
        assert after.dtype == before.dtype
        if not field.name.startswith("target"):
            np.testing.assert_array_equal(after, before)


def test_a_place_counts_its_events_of_a_bin_up_to_a_byte():
    """Bug: begin at 0 again after 255."""
    history = jax.tree.map(jnp.asarray, histories.start((2,), 2))
    history = dataclasses.replace(
        history,
        item=jnp.array([[7, NO_ITEM]] * 2),
        count=jnp.array([[900, 0]] * 2),
        hours=history.hours.at[0, 0, 1].set(254),
        days=history.days.at[0, 0, 3].set(254),
    )
    for _ in range(3):
        history = added(history, np.array([7, 8]), np.array([200, 200]), False)  # Thursday, 3:20
    assert history.count[0, 0] == 903
    assert history.hours[0, 0].tolist() == [0, MOST, *[0] * 6]
    assert history.days[0, 0].tolist() == [0, 0, 0, MOST, 0, 0, 0]


def test_an_event_of_no_item_changes_nothing():
    history = jax.tree.map(jnp.asarray, histories.start((2,), 2))
    before = added(history, np.array([3, 4]), np.array([5, 6]), True)
    after = added(before, np.array([NO_ITEM, 3]), np.array([9, 9]), True)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b[0]), before, after)
    assert after.events.tolist() == [1, 2]
