"""The routes that show what the model would do, and why."""

import contextlib

import pytest

from experiments.serving.app import Settings, build
from experiments.serving.batcher import Batcher
from experiments.serving.prometheus import ServiceMetrics
from hrnn_jax.live.events import Event
from tests.helpers import live_users
from tests.helpers.app_calls import ask, get, pairs

NOW = 1_600_000_000
VISIT = [{"item": "i1", "time": NOW}, {"item": "none"}, {"item": "i2", "time": NOW + 60}]


@pytest.fixture
def recommender():
    with live_users.recommender() as made:
        yield made


@pytest.fixture
def app(recommender):
    settings = Settings("HRNN Init", "a log", simulated=False, given_sessions=False, max_k=50)
    metrics = ServiceMetrics()
    with contextlib.closing(Batcher(recommender, metrics)) as batcher:
        yield build(batcher, metrics, settings)


def test_a_preview_has_the_lists_of_the_library_and_stores_nothing(app, recommender):
    sent = ask(app, "POST", "/preview?k=4&exclude_seen=true", json={"events": VISIT})
    assert sent.status_code == 200
    assert get(app, "/health")["states"] == 0
    assert "hrnn_events_total{" not in ask(app, "GET", "/metrics").text
    expected = []
    for event in VISIT:
        outcome = recommender.observe_many([Event(event["item"], "u", event.get("time"))])
        expected.append((*outcome, recommender.recommend("u", 4, exclude_seen=True)))
    assert [
        (step["outcome"], pairs(step["recommendations"])) for step in sent.json()["events"]
    ] == expected


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/preview", {"events": []}, "body.events"),
        ("/preview", {"events": [{"item": "i1", "user": "u"}]}, "body.events.0.user: Extra"),
        ("/preview", {"events": [VISIT[0], {"item": ""}]}, "event 1: item ''"),
        ("/preview", {"events": [{"item": "i1", "time": 1e12}]}, "event 0: time"),
        ("/preview?k=51", {"events": VISIT}, "query.k"),
        ("/preview?k=1&k=2", {"events": VISIT}, "query.k: give it once"),
        ("/preview?k=50", {"events": VISIT * 333}, "999 events with 40 recommendations"),
    ],
)
def test_an_invalid_preview_gets_one_line(app, path, body, said, monkeypatch):
    monkeypatch.setattr("experiments.serving.schemas.MAX_RECOMMENDATIONS", 1_000)
    response = ask(app, "POST", path, json=body)
    assert response.status_code == 422
    assert said in response.json()["detail"]
