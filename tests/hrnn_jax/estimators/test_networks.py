"""Networks as objects: settings, epochs, lists and what may not be done twice."""

import copy
import datetime as dt
import inspect

import numpy as np
import polars as pl
import pytest

import hrnn_jax
from hrnn_jax import callbacks, errors
from hrnn_jax.config import ModelConfig, RecommenderConfig, TrainConfig
from hrnn_jax.live.events import Request
from hrnn_jax.presets import HRNN_PLUS
from tests.hrnn_jax.estimators.conftest import small


def test_partial_fit_goes_on_as_if_fit_had_not_ended(parts, network):
    """Bug: count epochs from 0 again, or draw the weights anew."""
    train, test = parts
    halves = small().fit(train, epochs=1, callbacks=[]).partial_fit(epochs=1, callbacks=[])
    assert halves.epochs_ == 2
    assert halves.history_["loss"].to_list() == network.history_["loss"].to_list()
    assert hrnn_jax.ranks(halves, test).equals(hrnn_jax.ranks(network, test))


def test_a_mixture_is_that_of_the_epochs_there_are(parts, tmp_path):
    """However they came about. Bug: rank with that of an earlier epoch, or train on its network."""
    train, test = parts

    def model():
        return hrnn_jax.HRNNPlus(hidden_units=8, places=5, neighbours=4, held_out_patience=0)

    whole, seen = model().fit(train, epochs=2, callbacks=[]), []
    ranks = hrnn_jax.ranks(whole, test)
    first = model().fit(train, epochs=1, callbacks=[])
    assert not hrnn_jax.ranks(first, test).equals(ranks)
    read = hrnn_jax.load(first.save(tmp_path / "run"))
    watched = model().fit(train, epochs=2, callbacks=[seen.append], validation=test)
    failed = model()
    with pytest.raises(KeyError):  # in epoch 2
        failed.fit(train, epochs=3, callbacks=[lambda epoch: {1: None}[epoch.number]])
    for same in (first.partial_fit(epochs=1), read.partial_fit(epochs=1), watched, failed):
        assert same.epochs_ == 2
        assert hrnn_jax.ranks(same, test).equals(ranks)
    assert seen[1].metrics["mrr@5"] == hrnn_jax.evaluate(whole, test)["mrr@5"]


def test_a_loaded_model_that_continued_another_one_learns_no_mixture_of_drawn_weights(
    parts, tmp_path
):
    """Bug: hold out its last sessions from drawn weights, not from those that it started from."""
    train, _ = parts
    fewer = train.frame().filter(pl.col("user_id") != train.users[0])
    new, _ = hrnn_jax.read(fewer, min_support=1, prepared_dir=tmp_path).split()
    model = hrnn_jax.HRNNPlus(hidden_units=8, places=5, neighbours=4, held_out_patience=0)
    model.fit(train, epochs=1, callbacks=[]).partial_fit(new, epochs=1, callbacks=[])
    loaded = hrnn_jax.load(model.save(tmp_path / "run"))
    with pytest.raises(errors.InputError, match="continued another one"):
        loaded.partial_fit(epochs=1)
    assert loaded.partial_fit(epochs=0, callbacks=[]).epochs_ == 1
    assert loaded.recommend(new.users[:3]).equals(model.recommend(new.users[:3]))


def test_no_epoch_is_trained_at_a_learning_rate_of_0(parts):
    """Bug: train on without an effect where the schedule has ended."""
    model = small(schedule="linear", schedule_epochs=1).fit(parts[0], epochs=0)
    match = "`epochs`=2: by `schedule_epochs`=1 the learning rate is 0"
    with pytest.raises(errors.InputError, match=match):
        model.partial_fit(epochs=2)
    with pytest.raises(errors.InputError, match=match):
        small(schedule="linear", schedule_epochs=1).fit(parts[0], epochs=2)


def test_on_a_new_log_the_schedule_is_that_of_its_own_epochs(parts, tmp_path):
    """Bug: let a loaded model's learning rate fall over as many epochs as on its first log."""
    train, _ = parts
    fewer = train.frame().filter(pl.col("user_id") != train.users[0])
    new, test = hrnn_jax.read(fewer, min_support=1, prepared_dir=tmp_path).split()
    model = small(schedule="linear").fit(train, epochs=1, callbacks=[])
    loaded = hrnn_jax.load(model.save(tmp_path / "run"))
    for one in (model, loaded):
        one.partial_fit(new, epochs=3, callbacks=[])
    assert model.history_["loss"].to_list() == loaded.history_["loss"].to_list()
    assert hrnn_jax.ranks(model, test).equals(hrnn_jax.ranks(loaded, test))
    again = hrnn_jax.load(loaded.save(tmp_path / "again"))
    with pytest.raises(errors.InputError, match="`schedule_epochs`=3 the learning rate is 0"):
        again.partial_fit(epochs=1)


def test_partial_fit_of_a_new_model_fits_it(parts):
    assert small().partial_fit(parts[0], epochs=1, callbacks=[]).epochs_ == 1
    with pytest.raises(errors.InputError, match="give the training part"):
        small().partial_fit()


def test_on_a_new_log_items_keep_their_weights_and_new_ones_are_added(parts, network, tmp_path):
    """Bug: prepare the new log without the items of the model; move to it and then refuse it."""
    train, test = parts
    model = small().fit(train, epochs=2, callbacks=[])
    more = train.frame().with_columns(
        item_id=pl.when(pl.col("item_id") == "i3").then(pl.lit("a new one")).otherwise("item_id")
    )
    new, newer_test = hrnn_jax.read(more, min_support=1, prepared_dir=tmp_path).split()
    before = np.asarray(model.params_.items.item_bias)
    with pytest.raises(errors.InputError, match="evaluate on the part"):
        model.partial_fit(new, validation=test)
    assert (model.train_, model.epochs_) == (train, 2)
    model.partial_fit(new, epochs=0)
    assert model.items_ == [*train.items, "a new one"]
    assert np.asarray(model.params_.items.item_bias)[:-1].tolist() == before.tolist()
    assert model.epochs_ == 0
    model.partial_fit(epochs=1, callbacks=[])
    assert hrnn_jax.evaluate(model, newer_test)["recall@5"] > 0
    with pytest.raises(errors.InputError, match="fitted on a data frame"):
        hrnn_jax.evaluate(model, test)


@pytest.mark.parametrize(
    "untrained",
    [None, hrnn_jax.RNN(hidden_units=8), hrnn_jax.HRNNPlus(hidden_units=8, places=5, neighbours=4)],
)
def test_the_lists_are_those_of_the_live_recommender(parts, network, untrained):
    """Bug: replay the test events too, or RNN's last session without its training events."""
    train, _ = parts
    if untrained:
        network = untrained.fit(train, epochs=0)
    users = [*train.users, "nobody"]
    with pytest.warns(UserWarning, match="'nobody'"):
        found = network.recommend(users, k=5, exclude_seen=True)
    with network.live() as live:
        wanted = live.recommend_many([Request(user, k=5, exclude_seen=True) for user in users])
    rows = [
        (u, item, rank)
        for u, of in zip(users, wanted, strict=True)
        for rank, (item, _) in enumerate(of, 1)
    ]
    assert found.select("user", "item", "rank").rows() == rows
    scores = [score for of in wanted for _, score in of]
    np.testing.assert_allclose(found["score"], scores, rtol=0, atol=1e-6)


@pytest.mark.parametrize("given", [None, False])
def test_lists_of_a_log_without_repeats_are_those_of_the_live_recommender(log, given, tmp_path):
    """They have no item of the user's last session, unless asked for. Bug: of all sessions."""
    read = hrnn_jax.read(log.frame(), min_support=1, drop_repeats=True, prepared_dir=tmp_path)
    train, _ = read.split()
    network = small().fit(train, epochs=0)
    n = len(train.items)
    found = network.recommend(train.users, k=n, exclude_session_items=given)
    with network.live(config=RecommenderConfig(exclude_session_items=given)) as live:
        wanted = live.recommend_many([Request(user, k=n) for user in train.users])
    assert found["item"].to_list() == [item for of in wanted for item, _ in of]
    last = train.frame().filter(pl.col("session_id") == pl.col("session_id").max().over("user_id"))
    n_left_out = 0 if given is False else len(last.unique(["user_id", "item_id"]))
    assert len(found) == n * len(train.users) - n_left_out
    counted = hrnn_jax.PPOP().fit(train).recommend(train.users, k=n, exclude_session_items=given)
    own = counted.join(last, left_on=["user", "item"], right_on=["user_id", "item_id"])
    assert len(own) == (0 if given is None else len(last))


def test_the_live_history_can_be_another_or_none(log, parts, network, tmp_path):
    """Bug: import the training events next to the given ones, or again into a file with states."""
    train, _ = parts
    frame = train.frame()
    some = frame.filter(pl.col("user_id") == train.users[0])
    for history, users in ((None, 0), (False, 0), (some, 1), (some.to_arrow(), 1), (log, 30)):
        with network.live(history=history) as live:
            assert len(live) == users
    empty, link = tmp_path / "empty.sqlite", tmp_path / "link.sqlite"
    empty.touch()  # without a byte it holds no states
    link.symlink_to(tmp_path / "linked.sqlite")  # Bug: put the file in the link's place
    for path in (empty, empty, link, link):
        with network.live(path) as live:
            assert len(live) == 30
            assert sum(n for _, n in live.users()) == len(frame)
    assert link.is_symlink()
    for history, says in (
        (7, "give a log, a part of one, or a frame"),
        (frame.with_columns(ts=pl.lit(dt.time(3))), "ts holds Time: give Unix seconds"),
        (frame.cast({"ts": pl.Float32}), "ts holds Float32, in which"),
        (frame.with_columns(ts=pl.lit(dt.timedelta(3))), "ts holds Duration.*: give Unix seconds"),
        (frame.with_columns(pl.concat_list("item_id")), r"item holds List\(String\); ids must be"),
        (pl.DataFrame(), "no column 'user_id': they have none at all"),
    ):
        with pytest.raises(errors.InputError, match=says):
            network.live(tmp_path / "other.sqlite", history=history)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "empty.sqlite",
        "link.sqlite",
        "linked.sqlite",
    ]


def test_no_user_gets_an_empty_frame_and_an_unknown_one_a_list(network):
    assert len(network.recommend([])) == 0
    with pytest.warns(UserWarning, match=r"^users without .* event: 1 \('nobody'\);"):
        found = network.recommend(["nobody", "u1", "nobody"], k=2)
    assert found["rank"].to_list() == [1, 2, 1, 2, 1, 2]


def test_a_part_that_does_not_fit_is_refused(log, parts, network):
    train, test = parts
    validation, _ = log.split("validation")
    for part, words in (
        (test, "this is the test part"),
        (log, "split the log first"),
        (train.frame(), "give the training part"),
    ):
        with pytest.raises(errors.InputError, match=words):
            small().fit(part)
    with pytest.raises(errors.InputError, match="evaluate on the part"):
        hrnn_jax.evaluate(hrnn_jax.PPOP().fit(validation), test)
    with pytest.raises(errors.InputError, match="give the test part"):
        hrnn_jax.evaluate(network, train)
    with pytest.raises(errors.InputError, match="fitted already"):
        network.fit(train)
    with pytest.raises(errors.InputError, match="make a new model"):
        network.set_params(hidden_units=9)


@pytest.mark.parametrize("name", ["recall", "recall@0", "hits@5", "recall@x", 5])
def test_an_unknown_metric_is_refused(parts, network, name):
    with pytest.raises(errors.InputError, match=f"{name!r} is none of recall@5"):
        hrnn_jax.evaluate(network, parts[1], [name])


@pytest.mark.parametrize("metrics", ["recall@5", [], 5, None])
def test_what_is_no_list_of_metrics_is_refused(parts, network, metrics):
    """Bug: take the letters of a name for metrics."""
    with pytest.raises(errors.InputError, match=r"give a list of names, as in \['recall@5'\]"):
        hrnn_jax.evaluate(network, parts[1], metrics)


@pytest.mark.parametrize("measure", [hrnn_jax.evaluate, hrnn_jax.ranks])
def test_a_part_in_place_of_the_model_is_refused(parts, network, measure):
    with pytest.raises(errors.InputError, match="`model` is of type Part: give a fitted model"):
        measure(parts[1], network)


def test_metrics_are_those_of_the_ranks(parts, network):
    ranks = hrnn_jax.ranks(network, parts[1])["rank"].to_numpy()
    found = hrnn_jax.evaluate(network, parts[1], ["mrr@3", "recall@1", "coverage@20"])
    assert found["recall@1"] == np.mean(ranks == 1)
    assert found["mrr@3"] == pytest.approx(np.mean(np.where(ranks <= 3, 1 / ranks, 0)))
    assert found["coverage@20"] == 1


def test_validation_is_measured_after_each_epoch_and_changes_nothing(parts, network):
    train, test = parts
    seen = []
    model = small().fit(train, epochs=2, callbacks=[seen.append], validation=test)
    assert [epoch.number for epoch in seen] == [1, 2]
    assert seen[1].metrics["mrr@5"] == hrnn_jax.evaluate(network, test)["mrr@5"]
    assert [epoch.loss for epoch in seen] == network.history_["loss"].to_list()
    assert hrnn_jax.ranks(model, test).equals(hrnn_jax.ranks(network, test))


def test_sessions_of_one_event_train_nothing_and_are_refused(tmp_path):
    """Bug: a loss of 0, and the ranks of weights that were drawn."""
    hours = [0, 10, 20, 20.1]  # sessions of one, one and two events, of which the last is held out
    frame = pl.DataFrame(
        [
            (f"u{user}", f"i{(user + n) % 4}", 1.6e9 + 3600 * hours[n])
            for user in range(8)
            for n in range(4)
        ],
        schema=["user_id", "item_id", "ts"],
        orient="row",
    )
    lenient = {"min_support": 1, "min_session_events": 1, "min_user_sessions": 1}
    lenient |= {"session_gap_minutes": 60, "prepared_dir": tmp_path}
    train, test = hrnn_jax.read(frame, **lenient).split()
    with pytest.raises(errors.InputError, match="no training session has two events"):
        small().fit(train, epochs=2, callbacks=[])
    assert len(hrnn_jax.ranks(small().fit(train, epochs=0), test)) == 8
    concat = hrnn_jax.RNNConcat(hidden_units=8, batch_size=30)  # all of a user's events follow
    assert concat.fit(train, epochs=1, callbacks=[]).epochs_ == 1


def test_a_callback_ends_the_training(parts):
    # Bug: end it where a callback returns the number 1.
    callbacks = [lambda epoch: 1, lambda epoch: epoch.number == 2]
    model = small().fit(parts[0], epochs=5, callbacks=callbacks)
    assert model.epochs_ == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epochs": -1}, "`epochs`=-1: give a whole number of 0 or more"),
        ({"epochs": "2"}, "`epochs`='2': give a whole number"),
        ({"epochs": 2**31}, "`epochs`=2147483648: give a whole number of 2147483647 or less"),
        ({"validation": "test"}, "give the test part"),
        ({"callbacks": [None]}, "give a list of functions"),
        ({"callbacks": print}, "give a list of functions"),
    ],
)
def test_a_refused_training_leaves_the_model_as_it_was(parts, given, words):
    """Bug: count drawn weights as fitted, or throw the weights away."""
    model = small()
    with pytest.raises(errors.InputError, match=words):
        model.fit(parts[0], **given)
    model.fit(parts[0], epochs=0)
    with pytest.raises(errors.InputError, match=words):
        model.partial_fit(**given)
    assert model.epochs_ == 0


def test_an_error_of_a_callback_leaves_the_epochs_trained_so_far(parts, network):
    """Bug: throw the weights away."""

    def fail(epoch):
        raise OSError("disk full")

    model = small()
    with pytest.raises(OSError, match="disk full"):
        model.fit(parts[0], epochs=2, callbacks=[fail])
    assert model.epochs_ == 1
    with pytest.raises(errors.InputError, match="`metric`=mrr@5 is not measured"):
        model.partial_fit(epochs=2, callbacks=[callbacks.EarlyStopping()])
    assert model.history_["loss"].to_list() == network.history_["loss"].to_list()
    assert hrnn_jax.ranks(model, parts[1]).equals(hrnn_jax.ranks(network, parts[1]))


def test_an_epoch_that_is_interrupted_leaves_the_model_not_fitted(parts, monkeypatch):
    """Bug: keep a state whose memory the epoch was given."""

    def interrupt(*_):
        raise KeyboardInterrupt

    model = small().fit(parts[0], epochs=0)
    with monkeypatch.context() as during:
        during.setattr("hrnn_jax.network.OneDevice.train_epoch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            model.partial_fit()
    with pytest.raises(errors.InputError, match="not fitted"):
        model.recommend(["u1"])
    assert model.fit(parts[0], epochs=0).epochs_ == 0


def test_a_failed_choice_of_the_epochs_leaves_the_model_not_fitted(parts, monkeypatch):
    """Bug: count drawn weights as fitted."""

    def diverge(*_):
        raise errors.DivergedError("the loss is nan")

    monkeypatch.setattr("hrnn_jax.training.held_out.HeldOut.choose_epochs", diverge)
    model = hrnn_jax.HRNNPlus(hidden_units=8, places=5, neighbours=4)
    with pytest.raises(errors.DivergedError):
        model.fit(parts[0])
    with pytest.raises(errors.InputError, match="not fitted"):
        model.recommend(["u1"])


@pytest.mark.parametrize(("seed", "bound"), [(-1, "0 or more"), (2**31, "2147483647 or less")])
def test_a_seed_that_cannot_be_is_refused(parts, seed, bound):
    """Bug: an error of numpy or jax in the first epoch."""
    words = f"`seed`={seed}: give a whole number of {bound}"
    with pytest.raises(errors.InputError, match=words):
        small().fit(parts[0], seed=seed)


def test_settings_are_those_of_the_configs():
    """Bug: another default than the config's."""
    assert hrnn_jax.HRNN()._model_config(7) == ModelConfig(n_items=7)
    assert hrnn_jax.HRNN()._train_config() == TrainConfig()
    assert hrnn_jax.HRNN("all")._model_config(7).variant == "hrnn_all"
    assert hrnn_jax.RNN().get_params().keys().isdisjoint({"dropout_user", "leak", "variant"})
    plus = hrnn_jax.HRNNPlus().get_params()
    assert {name: plus[name] for name in HRNN_PLUS} == HRNN_PLUS
    assert inspect.signature(hrnn_jax.HRNNPlus).parameters["places"].default == 256
    assert "epochs" not in inspect.signature(hrnn_jax.HRNN).parameters


@pytest.mark.parametrize(
    "model",
    [
        hrnn_jax.HRNN("all", hidden_units=7, leak="carried"),
        hrnn_jax.HRNNPlus(places=0, loss="full_softmax"),
        hrnn_jax.RNNConcat(schedule="cosine"),
    ],
)
def test_its_parameters_make_the_same_model(model):
    same = type(model)(**model.get_params())
    assert same.get_params() == model.get_params()
    assert repr(same) == repr(model)
    assert type(model)().set_params(**model.get_params()).get_params() == model.get_params()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hidden_units": 0}, "`hidden_units`=0: give a number from 1 to 100000"),
        ({"variant": "both"}, "give init or all"),
        ({"user_input": "gates"}, "not used by HRNN Init"),
        ({"neighbours": 3}, "no effect without `places`"),
        ({"learning_rate": float("nan")}, "finite"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, words):
    with pytest.raises(errors.InputError, match=words):
        hrnn_jax.HRNN(**settings)


def test_an_unknown_setting_is_refused():
    with pytest.raises(TypeError, match="did you mean hidden_units"):
        hrnn_jax.HRNN(hiden_units=3)


def test_a_setting_is_an_attribute():
    """Bug: know those of the configs alone, and not `variant`."""
    assert hrnn_jax.HRNN(hidden_units=7).hidden_units == 7
    assert hrnn_jax.HRNN("all").variant == "all"
    with pytest.raises(AttributeError, match="no attribute 'width'"):
        _ = hrnn_jax.HRNN().width


def test_an_assigned_setting_is_that_of_the_model(network):
    """Bug: keep the value next to the settings, and train without it."""
    model = hrnn_jax.HRNN(hidden_units=7)
    model.hidden_units, model.variant = 9, "all"
    assert model.get_params() == hrnn_jax.HRNN("all", hidden_units=9).get_params()
    assert model._model_config(5).hidden_units == 9
    with pytest.raises(errors.InputError, match="`hidden_units`=0: give a number from 1 to 100000"):
        model.hidden_units = 0
    assert model.hidden_units == 9
    with pytest.raises(errors.InputError, match="fitted already"):
        network.hidden_units = 9
    model.note = "no setting"
    assert model.note == "no setting"


def test_a_copy_is_trained_without_the_original(parts):
    """Bug: share the weights, the epochs and the history."""
    model = small().fit(parts[0], epochs=1, callbacks=[])
    before = hrnn_jax.ranks(model, parts[1])
    again = copy.copy(model).partial_fit(epochs=1, callbacks=[])
    assert (model.epochs_, again.epochs_) == (1, 2)
    assert len(model.history_) == 1
    assert hrnn_jax.ranks(model, parts[1]).equals(before)
    model.partial_fit(epochs=1, callbacks=[])
    assert hrnn_jax.ranks(model, parts[1]).equals(hrnn_jax.ranks(again, parts[1]))
