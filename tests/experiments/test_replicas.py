"""Two services share one database under load, and one of them is killed."""

import itertools
import random
import signal
import threading

import httpx
import pytest

from hrnn_jax.files.checkpoint import load_run
from hrnn_jax.live.events import Event
from hrnn_jax.live.recommender import Recommender
from hrnn_jax.live.store import state_store
from tests.experiments.test_serve import ITEMS, SECONDS, Service
from tests.helpers import postgresql

OWN, SHARED = 6, 2  # users who send from one place each, and from two at a time
EVENTS = 40  # of each sender after the kill


@pytest.fixture
def replicas(trained_run, tmp_path):
    """Start two services of one empty database at the same time; neither outlives the test."""
    with postgresql.database() as url:
        services = [
            Service(trained_run, url, tmp_path / f"{n}.out", "--history=") for n in range(2)
        ]
        try:
            yield url, [service.wait_ready() for service in services]
        finally:
            for service in services:
                service.process.kill()
                service.process.wait()


class Sender:
    """A client behind a load balancer, which sends an event again until it is acknowledged."""

    def __init__(self, services, user, name, until):
        self.sent, self.n_repeats, self.unsure = [], 0, 0
        self._services, self._user, self._name, self._until = services, user, name, until
        self._draw = random.Random(name)

    def __call__(self):
        with httpx.Client(timeout=SECONDS) as client:
            for n in itertools.count():
                if self._until(n):
                    return
                self._deliver(client, n)

    def _deliver(self, client, n):
        event = {
            "user": self._user,
            "item": self._draw.choice(ITEMS),
            "time": 1_700_000_000 + 600 * n,
            "event_id": f"{self._name} {n}",
        }
        while True:
            service = self._draw.choice(self._services)
            try:
                answer = client.post(f"{service.url}/events", json=event)
            except httpx.TransportError:  # the balancer tries the other one
                self.unsure += 1
                continue
            assert answer.status_code == 200, answer.text
            [outcome] = answer.json()["outcomes"]
            assert outcome == "observed" or (outcome == "duplicate" and self.unsure)
            self.n_repeats += outcome == "duplicate"
            self.sent.append(event)
            return


def test_no_acknowledged_event_is_lost_or_out_of_order_when_a_replica_is_killed(
    replicas, trained_run
):
    url, services = replicas
    killed, enough = threading.Event(), threading.Semaphore(0)
    senders = []

    def until(sender_done, n):
        if n == EVENTS // 4:
            enough.release()
        if killed.is_set() and not sender_done:
            sender_done.append(n)
        return bool(sender_done) and n > sender_done[0] + EVENTS

    users = [f"own{n}" for n in range(OWN)] + [f"shared{n // 2}" for n in range(2 * SHARED)]
    for n, user in enumerate(users):
        done = []
        senders.append(Sender(services, user, f"sender{n}", lambda n, done=done: until(done, n)))
    threads = [threading.Thread(target=sender) for sender in senders]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert enough.acquire(timeout=SECONDS)
    assert services[1].end(signal.SIGKILL) == -signal.SIGKILL
    killed.set()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert sum(sender.unsure for sender in senders) > 0
    assert all(len(sender.sent) > EVENTS for sender in senders)
    check(url, services[0], senders, load_run(trained_run))


def check(url, service, senders, network):
    """Compare what is stored with the acknowledged events, replayed by the plain recommender."""
    with (
        Recommender(*network, url) as third,
        Recommender(*network, state_store.IN_MEMORY) as plain,
    ):
        for user in {sender._user: None for sender in senders}:
            stored = third._states.store.events(f"u{user}")
            own = [sender for sender in senders if sender._user == user]
            assert len(stored) == sum(len(sender.sent) for sender in own)
            assert [event.place for event in stored] == list(range(len(stored)))
            for sender in own:
                of_sender = [e for e in stored if e.event_id.startswith(f"{sender._name} ")]
                found = [(e.event_id, e.item, e.time) for e in of_sender]
                assert found == [(e["event_id"], e["item"], e["time"]) for e in sender.sent]
            events = own[0].sent if len(own) == 1 else in_stored_order(stored, own)
            plain.observe_many([Event(e["item"], user, e["time"]) for e in events])
            answer = service.ask("GET", f"/users/{user}/recommendations").json()
            scores = {entry["item"]: entry["score"] for entry in answer["recommendations"]}
            assert scores == pytest.approx(dict(plain.recommend(user)), abs=1e-5)


def in_stored_order(stored, senders):
    """Return what several senders sent; only the database knows how it came together."""
    sent = {event["event_id"]: event for sender in senders for event in sender.sent}
    return [sent[event.event_id] for event in stored]
