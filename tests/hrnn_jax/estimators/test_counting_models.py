"""The counting models as objects: their lists against counts in plain Python."""

import collections

import numpy as np
import polars as pl
import pytest

import hrnn_jax
from hrnn_jax import errors
from hrnn_jax.estimators import base, counting_models
from tests.helpers import frames

MODELS = (
    hrnn_jax.PPOP,
    hrnn_jax.ItemKNN,
    hrnn_jax.Markov,
    hrnn_jax.SR,
    hrnn_jax.VSKNN,
    hrnn_jax.VSKNNBR,
    hrnn_jax.STAN,
    hrnn_jax.VSTAN,
    hrnn_jax.EASE,
    hrnn_jax.Popular,
    hrnn_jax.Counts,
    hrnn_jax.UVSTAN,
)


def lists(frame):
    """Return the items of each user, and check that they are in order."""
    found = {}
    for (user,), of_user in frame.group_by("user", maintain_order=True):
        assert of_user["rank"].to_list() == list(range(1, len(of_user) + 1))
        assert of_user["score"].is_sorted(descending=True)
        found[user] = of_user["item"].to_list()
    return found


def by_score(scores, support, items):
    """Order items by score, then by support, then by their place in the catalogue."""
    return sorted(scores, key=lambda item: (-scores[item], -support[item], items.index(item)))


def test_ppop_recommends_what_the_user_had_most_often(parts):
    """Bug: count the test events too, or those of all users."""
    train, _ = parts
    events = train.frame()
    support = collections.Counter(events["item_id"])
    model = hrnn_jax.PPOP().fit(train)
    found = lists(model.recommend(["u3", "u1"], k=100))
    assert list(found) == ["u3", "u1"]
    for user, recommended in found.items():
        mine = collections.Counter(events.filter(user_id=user)["item_id"])
        assert recommended == by_score(mine, support, train.items)


def test_markov_recommends_what_came_after_the_last_item(parts):
    """Bug: a case before the last event of the user."""
    train, _ = parts
    events = train.frame()
    support = collections.Counter(events["item_id"])
    after = collections.defaultdict(collections.Counter)
    for _, session in events.group_by("session_id", maintain_order=True):
        for before, then in zip(session["item_id"], session["item_id"][1:], strict=False):
            after[before][then] += 1
    found = lists(hrnn_jax.Markov().fit(train).recommend(events, k=3))
    assert len(found) == 30
    for user, recommended in found.items():
        last = events.filter(user_id=user)["item_id"][-1]
        assert recommended == by_score(after[last], support, train.items)[:3]


@pytest.mark.parametrize("model", MODELS)
def test_seen_items_are_left_out(model, parts):
    """Bug: leave them out of the first k of the list only."""
    train, _ = parts
    fitted = model().fit(train)
    users = ["u1", "nobody", "u2", "u1"]
    with pytest.warns(UserWarning, match="'nobody'"):
        whole = fitted.recommend(users, k=20)
    new = fitted.recommend(["u1", "u2", "u1"], k=20, exclude_seen=True)
    assert set(whole["user"]) == {"u1", "u2"}  # counting knows nothing of the other
    seen = train.frame().select(user="user_id", item="item_id").unique()
    assert new.drop("rank").equals(
        whole.drop("rank").join(seen, on=["user", "item"], how="anti", maintain_order="left")
    )
    assert model is hrnn_jax.PPOP or len(new)


@pytest.mark.parametrize("chunk", [1, 4_000_000])
def test_the_lists_do_not_depend_on_how_many_users_are_scored_together(parts, monkeypatch, chunk):
    train, _ = parts
    model = hrnn_jax.VSKNNBR(neighbours=7).fit(train)
    whole = model.recommend(train.users, k=4, exclude_seen=True)
    monkeypatch.setattr("hrnn_jax.baselines.sparse_ranking.CHUNK_ENTRIES", chunk)
    assert model.recommend(train.users, k=4, exclude_seen=True).equals(whole)


def test_a_case_is_added_after_all_events_of_a_user():
    from tests.helpers import logs

    log = logs.of([[[1, 2], [3]], [[4]], [[0, 5], [6]]], n_items=7)
    added = base.with_cases(log, np.array([0, 2]))
    assert added.user.tolist() == [0, 0, 0, 0, 1, 2, 2, 2, 2]
    assert added.item.tolist() == [1, 2, 3, 0, 4, 0, 5, 6, 0]
    assert added.cases.tolist() == [3, 8]
    assert added.session[3] == added.session[2]


def test_a_counting_model_is_no_live_recommender(parts):
    with pytest.raises(errors.InputError, match="SR counts, it has no state"):
        hrnn_jax.SR().fit(parts[0]).live()


def test_settings_are_those_of_the_config():
    assert hrnn_jax.VSKNN().get_params() == {"neighbours": 100, "sample_size": 1000}
    assert set(hrnn_jax.VSKNNBR().get_params()) > {"boost", "remind_weight"}
    assert {*hrnn_jax.VSTAN().get_params()} - {*hrnn_jax.STAN().get_params()} == {
        "lambda_ipw",
        "lambda_idf",
    }
    assert {*hrnn_jax.UVSTAN().get_params()} - {*hrnn_jax.VSTAN().get_params()} == {
        *("extend", "boost", "remind_weight")
    }
    assert hrnn_jax.PPOP().get_params() == {}
    with pytest.raises(TypeError, match=r"PPOP has no setting 'xx': it has none$"):
        hrnn_jax.PPOP().set_params(xx=1)
    with pytest.raises(TypeError, match="did you mean variant"):
        hrnn_jax.HRNN(varient="all")
    with pytest.raises(TypeError, match="did you mean neighbours"):
        hrnn_jax.ItemKNN(neighbors=3)
    with pytest.raises(errors.InputError, match="`neighbours`=0: give 1 or more"):
        hrnn_jax.ItemKNN(neighbours=0)


def test_a_class_of_a_model_that_is_not_registered_is_refused():
    class Mistyped(counting_models.CountingModel):
        models = ("recencyy",)

    with pytest.raises(errors.InputError, match="no model is registered as recencyy: call"):
        Mistyped()


def test_a_model_is_fitted_once(parts):
    model = hrnn_jax.PPOP()
    with pytest.raises(errors.InputError, match="not fitted"):
        model.recommend(["u1"])
    model.fit(parts[0])
    with pytest.raises(errors.InputError, match="fitted already"):
        model.fit(parts[0])


def test_users_without_an_event_are_named_once_and_have_no_row(parts):
    model = hrnn_jax.PPOP().fit(parts[0])
    with pytest.warns(UserWarning, match=r"event: 4 \('a', 'd', 'b', \.\.\.\);") as caught:
        found = model.recommend(["a", "d", "u1", "b", "c", "a"], k=1)
    assert [one.filename for one in caught] == [__file__]
    assert found["user"].to_list() == ["u1"]


@pytest.mark.parametrize("library", frames.LIBRARIES)
def test_the_users_of_a_frame_are_those_of_its_column(parts, library):
    """Bug: take the names of its columns for users, or refuse the values of arrow."""
    frame = pl.DataFrame({"n": [1, 2, 3], "user_id": ["u3", "u1", "u3"]})
    given = frames.of_library(frame, library)
    model = hrnn_jax.PPOP().fit(parts[0])
    assert model.recommend(given, k=2).equals(model.recommend(["u3", "u1"], k=2))
    if library != "lazy":  # a series has each row
        found = model.recommend(given["user_id"], k=2)
        assert found.equals(model.recommend(["u3", "u1", "u3"], k=2))


@pytest.mark.parametrize(
    ("users", "k", "words"),
    [
        ("u1", 3, "give a list"),
        (["u1"], 0, "whole number of 1 or more"),
        (["u1"], 2.0, "whole number"),
        ([1.5], 3, "ids must be integers or strings"),
        (["u1", 1], 3, "mixes integers and strings"),
        (["u1", None], 3, "user None: ids must be integers or strings"),
        (5, 3, "`users`=5: give a list of ids"),
        (b"u1", 3, "give a list of ids"),
        ({"user_id": ["u1"]}, 3, "`users` is a mapping: give a list of ids, or a frame"),
        (pl.DataFrame({"user": ["u1"]}), 3, "no column 'user_id': rename one of user$"),
        (pl.LazyFrame({"user": ["u1"], "n": [1]}), 3, "'user_id': rename one of user, n$"),
    ],
)
def test_a_bad_request_is_refused(parts, users, k, words):
    with pytest.raises(errors.InputError, match=words):
        hrnn_jax.PPOP().fit(parts[0]).recommend(users, k)


def test_a_list_longer_than_the_catalogue_has_all_items(parts):
    """Bug: compute with a number of more than 64 bits."""
    model = hrnn_jax.SR().fit(parts[0])
    assert model.recommend(["u1"], k=10**30).equals(model.recommend(["u1"], k=len(model.items_)))


def test_no_user_gets_an_empty_frame(parts):
    empty = hrnn_jax.PPOP().fit(parts[0]).recommend([])
    assert empty.columns == ["user", "item", "score", "rank"]
    assert len(empty) == 0


def test_a_user_with_test_events_alone_is_a_user_without_events(tmp_path):
    """Bug: give them the list of another user, whose events come next in the log."""
    log = pl.DataFrame(
        [
            (user, item, 90_000 * day + n)
            for day in (0, 1)
            for user in "ac"
            for n, item in enumerate("xy")
        ]
        + [("b", item, 90_000 + n) for n, item in enumerate("yx")],
        schema=["user_id", "item_id", "ts"],
        orient="row",
    )
    few = {"min_support": 1, "min_session_events": 1, "min_user_sessions": 0, "any_year": True}
    read = hrnn_jax.read(log, protocol="global_time", test_days=1, prepared_dir=tmp_path, **few)
    train, test = read.split()
    assert train.users == ["a", "b", "c"]
    model = hrnn_jax.SR().fit(train)
    assert hrnn_jax.ranks(model, test)["user"].to_list() == ["a", "b", "c"]
    with pytest.warns(UserWarning, match=r"without a training event: 1 \('b'\)"):
        found = model.recommend(["c", "b"])
    assert found.equals(model.recommend(["c"]))
