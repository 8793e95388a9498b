"""The routes that show what the model would do, and why."""

import contextlib
import dataclasses
import pathlib

import pytest

from experiments.serving.app import Settings, build
from experiments.serving.batcher import Batcher
from experiments.serving.item_catalogue import ItemCatalogue
from experiments.serving.prometheus import ServiceMetrics
from hrnn_jax.live.events import Event
from tests.helpers import live_users
from tests.helpers.app_calls import ask, get, pairs

SETTINGS = Settings("HRNN Init", "a log", simulated=False, given_sessions=False, max_k=50)
NOW = 1_600_000_000
VISIT = [{"item": "i1", "time": NOW}, {"item": "none"}, {"item": "i2", "time": NOW + 60}]


@pytest.fixture
def recommender():
    with live_users.recommender() as made:
        yield made


@pytest.fixture
def make_app(recommender):
    """Make applications with other settings."""
    with contextlib.ExitStack() as stack:

        def made(**settings):
            metrics = ServiceMetrics()
            batcher = stack.enter_context(contextlib.closing(Batcher(recommender, metrics)))
            return build(batcher, metrics, dataclasses.replace(SETTINGS, **settings))

        yield made


@pytest.fixture
def app(make_app):
    return make_app()


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


def test_answers_carry_what_the_file_of_items_has(make_app):
    known = {f"i{n}": {"title": f"The {n}th", "url": f"https://x/{n}"} for n in range(0, 40, 2)}
    app = make_app(catalogue=ItemCatalogue(pathlib.Path("items.csv"), known))
    ask(app, "POST", "/events", json={"user": "u", "item": "i2", "time": NOW})
    [visit] = get(app, "/users/u/history", k=40)["sessions"]
    [preview] = ask(app, "POST", "/preview?k=40", json={"events": VISIT[:1]}).json()["events"]
    entries = [
        *visit["events"],
        *visit["events"][0]["recommendations"],
        *get(app, "/users/u/recommendations", k=40)["recommendations"],
        *get(app, "/sessions/s/recommendations", k=40)["recommendations"],
        *preview["recommendations"],
    ]
    assert len(entries) == 161
    for entry in entries:
        found = {name: entry[name] for name in ("title", "image", "url") if name in entry}
        assert found == known.get(entry["item"], {})
    assert get(app, "/items", prefix="i1", limit=3) == {
        "items": ["i1", "i10", "i11"],
        "titles": {"i10": "The 10th"},
    }
    assert get(app, "/items", prefix="the 1", limit=9)["items"] == [
        f"i{n}" for n in range(10, 20, 2)
    ]


def test_without_a_file_of_items_answers_have_ids_alone(app):
    [first, *_] = get(app, "/users/u/recommendations")["recommendations"]
    assert {*first} == {"item", "score"}
    assert {*get(app, "/items")} == {"items"}


def test_the_content_policy_admits_pictures_of_the_given_hosts_alone(make_app):
    for hosts, rule in (([], "img-src 'self' data:;"), (["a.b", "*.c:8"], "data: a.b *.c:8;")):
        app = make_app(image_hosts=hosts)
        policy = ask(app, "GET", "/").headers["content-security-policy"]
        assert rule in policy
        assert policy.count("a.b") == len(hosts) / 2
        assert get(app, "/health")["image_hosts"] == hosts
