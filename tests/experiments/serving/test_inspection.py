"""The routes that show what the model would do, and why."""

import asyncio
import contextlib
import dataclasses
import pathlib

import pytest

from experiments.serving import overview
from experiments.serving.app import Settings, build
from experiments.serving.batcher import Batcher
from experiments.serving.item_catalogue import ItemCatalogue
from experiments.serving.operation.prometheus import ServiceMetrics
from hrnn_jax.live.events import Event
from tests.helpers import live_users
from tests.helpers.app_calls import ask, get, pairs

SETTINGS = Settings("HRNN Init", "a log", simulated=False, given_sessions=False, max_k=50)
NOW = 1_600_000_000
VISIT = [{"item": "i1", "time": NOW}, {"item": "none"}, {"item": "i2", "time": NOW + 60}]


@pytest.fixture
def recommender(anywhere):
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
    for event, step in zip(VISIT, sent.json()["events"], strict=True):
        outcome = recommender.observe_many([Event(event["item"], "u", event.get("time"))])
        expected = recommender.recommend("u", 4, exclude_seen=True)
        found = pairs(step["recommendations"])
        assert (step["outcome"], [item for item, _ in found]) == (
            *outcome,
            [i for i, _ in expected],
        )
        # Several states are scored by another program than one: a few roundings of a float32.
        assert [score for _, score in found] == pytest.approx([s for _, s in expected], rel=1e-6)


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


def test_explanations_add_up_to_the_recommended_scores_now_and_then(app, recommender):
    recommender.observe_many(live_users.events(1, 2, 3))
    recommender.observe_many(live_users.events(4, 5, time=live_users.NOW + 9 * live_users.GAP))
    ask(app, "POST", "/sessions/s/events", json={"item": "i7"})
    visits = get(app, "/users/u/history", k=40)["sessions"]
    for path, then, listed in (
        ("/users/u", {}, get(app, "/users/u/recommendations", k=40)),
        ("/sessions/s", {}, get(app, "/sessions/s/recommendations", k=40)),
        ("/users/nobody", {}, get(app, "/users/nobody/recommendations", k=40)),
        ("/users/u", {"after": "0.2"}, visits[0]["events"][2]),
        ("/users/u", {"after": "1.0"}, visits[1]["events"][0]),
    ):
        scores = dict(pairs(listed["recommendations"]))
        items = [*scores][:30]
        answer = get(app, f"{path}/explanations", item=[*items, "none"], **then)["explanations"]
        assert [one["item"] for one in answer] == items
        for one in answer:
            assert [part["name"] for part in one["parts"]] == ["network", "item"]
            assert sum(part["value"] for part in one["parts"]) == pytest.approx(one["score"])
            assert one["score"] == pytest.approx(scores[one["item"]], abs=1e-5)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "query.item"),
        ("item=i1&after=0", "query.after"),
        ("item=i1&after=-1.0", "query.after"),
        ("item=i1&after=0.0&after=0.0", "query.after: give it once"),
        ("item=" + "&item=".join(["i1"] * 101), "query.item"),
        ("item=", "ids have 1 to"),
    ],
)
def test_an_invalid_question_gets_one_line(app, query, said):
    ask(app, "POST", "/events", json={"user": "u", "item": "i2", "time": NOW})
    response = ask(app, "GET", f"/users/u/explanations?{query}")
    assert response.status_code == 422
    assert said in response.json()["detail"]
    response = ask(app, "GET", "/users/u/explanations?item=i1&after=0.1")
    assert response.status_code == 404
    assert response.json()["detail"].startswith("no event 1 of session 0 is stored")


def test_popular_items_and_users_with_the_most_visits_come_first(app, monkeypatch):
    """Bugs: count a user anew in each part; sort by id alone; keep a user who was forgotten."""
    monkeypatch.setattr("hrnn_jax.live.recommender._EVENTS_OF_A_STEP", 3)
    sessions = {"a": [1], "b": [1, 1, 2, 3], "c": [1, 2, 2], "cc": [1, 2]}
    sent = [
        {"user": user, "item": f"i{n}", "time": NOW, "session": session}
        for user, some in sessions.items()
        for n, session in enumerate(some)
    ]
    ask(app, "POST", "/events", json={"events": sent})
    ask(app, "POST", "/sessions/s/events", json={"events": [{"item": "i9"}] * 9})
    visits = [
        {"user": "b", "events": 4, "visits": 3},
        {"user": "c", "events": 3, "visits": 2},
        {"user": "cc", "events": 2, "visits": 2},
        {"user": "a", "events": 1, "visits": 1},
    ]
    assert get(app, "/users", order="visits") == {"users": visits}
    assert get(app, "/users", order="visits", prefix="c", limit=1) == {"users": visits[1:2]}
    assert get(app, "/popular", k=3)["popular"] == [
        {"item": "i0", "events": 4},
        {"item": "i1", "events": 3},
        {"item": "i2", "events": 2},
    ]
    assert ask(app, "DELETE", "/users/b").status_code == 204
    assert get(app, "/users", order="visits") == {"users": visits[1:]}


def test_events_are_counted_again_once_the_last_count_is_old_enough(recommender):
    """Bug: read millions of events for each look at the page."""

    async def live():
        with contextlib.closing(Batcher(recommender, ServiceMetrics())) as batcher:
            counting = overview.Overview(batcher)
            first = await counting.counts()
            slow = dataclasses.replace(first, seconds=60)
            recommender.observe_many(live_users.events(1))
            counting._counts = slow  # counting took a minute, and has just ended
            assert await counting.counts() == slow
            counting._counts = old = dataclasses.replace(slow, ended=slow.ended - 6_001)
            assert await counting.counts() == old  # nobody waits for the next one
            assert counting._counting is not None
            assert (await counting._counting).popular == [("i1", 1)]
            assert (await counting.counts()).popular == [("i1", 1)]

    asyncio.run(live())


def test_every_route_is_in_a_group_and_described_by_sentences(app):
    described = get(app, "/openapi.json")
    groups = [group["name"] for group in described["tags"]]
    assert all(group["description"].endswith(".") for group in described["tags"])
    used = set()
    for path, methods in described["paths"].items():
        for method, route in methods.items():
            [group] = route["tags"]
            used.add(group)
            for text in (route["summary"], route["description"]):
                assert text[0].isupper(), (method, path)
                assert text.endswith("."), (method, path)
    assert used == {*groups}
