"""Saved models: read again as they were, whole or not at all."""

import json
import pathlib
import re
import shutil

import numpy as np
import polars as pl
import pytest

import hrnn_jax
from hrnn_jax import errors
from hrnn_jax.estimators import run_files
from hrnn_jax.files import checkpoint, run_lock
from tests.hrnn_jax.estimators.conftest import small


@pytest.mark.filterwarnings("ignore:users without a training event")
def test_a_saved_network_is_read_as_it_was(parts, network, saved):
    model = hrnn_jax.load(saved)
    assert repr(model) == repr(network)
    assert model.epochs_ == 2
    assert model.history_.equals(network.history_)
    _, test = parts
    assert hrnn_jax.ranks(model, test).equals(hrnn_jax.ranks(network, test))
    users = ["u4", "nobody"]
    assert model.recommend(users, k=3).equals(network.recommend(users, k=3))


@pytest.mark.parametrize(
    "make", [small, lambda: hrnn_jax.HRNNPlus(hidden_units=8, places=5, neighbours=4)]
)
def test_a_network_saved_before_its_first_epoch_is_read_as_it_was(parts, make, tmp_path):
    """Bug: take a checkpoint after 0 epochs for none."""
    network = make().fit(parts[0], epochs=0)
    model = hrnn_jax.load(network.save(tmp_path / "run"))
    assert model.epochs_ == 0
    assert hrnn_jax.ranks(model, parts[1]).equals(hrnn_jax.ranks(network, parts[1]))


def test_a_read_network_trains_on_as_the_one_in_memory(parts, saved):
    """Bug: start the optimizer anew."""
    whole = small().fit(parts[0], epochs=3, callbacks=[])
    model = hrnn_jax.load(saved).partial_fit(epochs=1, callbacks=[])
    assert model.history_["loss"].to_list() == whole.history_["loss"].to_list()


def test_a_folder_may_move_and_its_log_may_go(parts, network, saved, tmp_path):
    """Bug: read the prepared log where it was."""
    moved = shutil.copytree(saved, tmp_path / "moved")
    model = hrnn_jax.load(moved)
    assert model.train_.folder.is_relative_to(moved)
    assert hrnn_jax.evaluate(model, parts[1]) == hrnn_jax.evaluate(network, parts[1])


def test_metrics_and_ranks_are_those_of_evaluate(parts, network, saved):
    found = json.loads((saved / "metrics.json").read_text())
    assert found["name"] == "HRNN Init"
    assert found["epochs"] == 2
    metrics = ["recall@5", "mrr@5", "coverage@5", "popularity@5"]
    assert {name: found["mean"][name] for name in metrics} == pytest.approx(
        hrnn_jax.evaluate(network, parts[1], metrics)
    )
    ranks = pl.read_parquet(saved / "ranks.parquet")["rank"]
    assert ranks.to_list() == hrnn_jax.ranks(network, parts[1])["rank"].to_list()


def test_weights_that_continue_others_name_them(parts, network, saved, tmp_path):
    """So that the states of live users go on with them. Bug: forget the lineage."""
    train, _ = parts
    more = train.frame()
    new, _ = hrnn_jax.read(more, min_support=2, prepared_dir=tmp_path / "prepared").split()
    model = hrnn_jax.load(saved).partial_fit(new, epochs=1, callbacks=[])
    folder = model.save(tmp_path / "next")
    about, params = checkpoint.load_run(folder)
    before, _ = checkpoint.load_run(saved)
    assert about.lineage == (checkpoint.fingerprint(params), *before.lineage)
    again = hrnn_jax.load(folder)
    assert again.about_run(folder).lineage == about.lineage
    assert again.items_ == model.items_


def test_the_log_of_a_loaded_model_with_other_items_is_refused(parts, network, saved, tmp_path):
    """Bug: take its numbers of items for those of the model, and give items others' weights."""
    model = hrnn_jax.load(saved)
    events = parts[0].frame().filter(pl.col("item_id") != model.items_[0])
    other, _ = hrnn_jax.read(events, min_support=1, prepared_dir=tmp_path / "prepared").split()
    loaded = hrnn_jax.load(small().fit(other, epochs=0, callbacks=[]).save(tmp_path / "run"))
    with pytest.raises(errors.InputError, match="is of a loaded model, whose items keep"):
        model.partial_fit(loaded.train_, epochs=1, callbacks=[])
    assert model.items_ == network.items_
    assert model.history_.equals(network.history_)


@pytest.mark.parametrize(
    "model",
    [hrnn_jax.PPOP(), hrnn_jax.ItemKNN(neighbours=3), hrnn_jax.VSKNNBR(boost=0.25)],
)
def test_a_counting_model_is_read_as_it_was(parts, model, tmp_path):
    train, test = parts
    model.fit(train).save(tmp_path / "run")
    again = hrnn_jax.load(tmp_path / "run")
    assert repr(again) == repr(model)
    assert hrnn_jax.ranks(again, test).equals(hrnn_jax.ranks(model, test))
    with pytest.raises(errors.InputError, match=r"`seed`=7: .* has none but 0"):
        hrnn_jax.load(tmp_path / "run", seed=7)
    with pytest.raises(
        errors.InputError, match="counting model: it has neither"
    ):  # as serve and export say
        hrnn_jax.load_run(tmp_path / "run")


def test_hrnn_plus_is_read_as_hrnn_plus(parts, tmp_path):
    model = hrnn_jax.HRNNPlus(hidden_units=8, places=5, neighbours=4, extra_negatives=7)
    model.fit(parts[0], epochs=1, callbacks=[]).save(tmp_path / "run")
    again = hrnn_jax.load(tmp_path / "run")
    assert repr(again) == repr(model)
    assert hrnn_jax.ranks(again, parts[1]).equals(hrnn_jax.ranks(model, parts[1]))
    assert json.loads((tmp_path / "run/recipe.json").read_text())["model"]["name"] == "hrnn_init"


def test_a_folder_that_is_not_empty_is_left_alone(network, saved, tmp_path):
    before = sorted(path.name for path in saved.iterdir())
    with pytest.raises(errors.InputError, match="is not empty"):
        network.save(saved)
    assert sorted(path.name for path in saved.iterdir()) == before
    (tmp_path / "empty").mkdir()
    assert network.save(tmp_path / "empty") == tmp_path / "empty"


def test_a_run_is_replaced_and_nothing_else(parts, network, tmp_path):
    """Bug: remove whatever is there, or the old run where the new one cannot be written."""
    folder = hrnn_jax.PPOP().fit(parts[0]).save(tmp_path / "run")
    assert network.save(folder, overwrite=True) == folder
    model = hrnn_jax.load(folder)
    assert repr(model) == repr(network)
    model.save(folder, overwrite=True)  # its log is in the folder
    assert hrnn_jax.ranks(model, parts[1]).equals(hrnn_jax.ranks(network, parts[1]))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert {path.name for path in folder.iterdir()} <= {*run_files.FILES, parts[0].folder.name}
    (folder / "states.sqlite").touch()
    with pytest.raises(errors.InputError, match=r"holds states\.sqlite"):
        network.save(folder, overwrite=True)
    for content in ("{}", "[]", "thesis"):
        other = tmp_path / "other"
        other.mkdir(exist_ok=True)
        (other / "recipe.json").write_text(content)
        with pytest.raises(errors.InputError, match="holds no run"):
            network.save(other, overwrite=True)
        assert (other / "recipe.json").read_text() == content


def test_a_run_that_cannot_be_replaced_stays(network, saved, tmp_path, monkeypatch):
    """Bug: move the old run away before the new one is on the disk."""
    folder = shutil.copytree(saved, tmp_path / "run")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    real = pathlib.Path.rename

    def fails(path, target):
        if ".run-" in str(path) and path.name == "run":
            raise OSError(5, "Input/output error")
        return real(path, target)

    monkeypatch.setattr(pathlib.Path, "rename", fails)
    with pytest.raises(errors.InputError, match="Input/output error"):
        network.save(folder, overwrite=True)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_a_folder_in_which_another_process_writes_is_refused(network, saved, tmp_path):
    """Bug: take no lock, or one of another file than the run's."""
    folder = shutil.copytree(saved, tmp_path / "run")
    with (
        run_lock.locked(folder, "folder"),
        pytest.raises(errors.InputError, match=r"another process .* writes in"),
    ):
        network.save(folder, overwrite=True)
    with (
        run_lock.locked(tmp_path / "new", "folder"),
        pytest.raises(errors.InputError, match="choose another `folder`"),
    ):
        network.save(tmp_path / "new")


def test_what_is_no_path_is_refused(network):
    """Bug: a TypeError of pathlib."""
    for call, name in (
        (network.save, "folder"),
        (hrnn_jax.load, "folder"),
        (hrnn_jax.load_run, "run"),
        (network.live, "states"),
    ):
        for wrong in (None, "", "a\0b"):
            words = re.escape(f"`{name}`={wrong!r}: give a path")
            with pytest.raises(errors.InputError, match=words):
                call(wrong)
    with pytest.raises(errors.InputError, match="File name too long; choose another folder"):
        network.save("x" * 300)


def test_nothing_is_left_of_a_model_that_cannot_be_written(network, tmp_path, monkeypatch):
    """Bug: write into the folder itself."""

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hrnn_jax.estimators.run_files.write_ranks", full)
    with pytest.raises(errors.InputError, match="No space left"):
        network.save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_is_refused(saved, tmp_path):
    with pytest.raises(errors.InputError, match="is no run folder"):
        hrnn_jax.load(tmp_path)
    broken = shutil.copytree(saved, tmp_path / "broken")
    name = json.loads((broken / "recipe.json").read_text())["data"]
    shutil.rmtree(broken / name)
    with pytest.raises(errors.InputError, match="does not exist any more"):
        hrnn_jax.load(broken)


def test_a_loss_that_is_not_registered_here_is_named(saved, tmp_path):
    """Bug: say that the caller's `loss` is wrong."""
    folder = shutil.copytree(saved, tmp_path / "run")
    path = folder / "recipe.json"
    recipe = json.loads(path.read_text())
    recipe["training"]["loss"] = "mine"
    path.write_text(json.dumps(recipe))
    with pytest.raises(errors.InputError) as raised:
        hrnn_jax.load(folder)
    said = str(raised.value)
    assert said.startswith(f"{folder} was trained with the loss mine, which is none here: import")
    assert "registered_code.py" in said
    hrnn_jax.load_recommender(folder).close()


def test_the_live_users_of_a_saved_model_are_those_of_its_log(parts, network, saved):
    """Bug: start a loaded model without the histories of its log."""
    train, _ = parts
    wanted = network.recommend(train.users, k=4)["item"].to_list()
    with hrnn_jax.load(saved).live() as live:
        found = [item for user in train.users for item, _ in live.recommend(user, k=4)]
    assert found == wanted


def test_the_live_recommender_of_a_saved_model_is_that_of_the_model(network, saved):
    with network.live() as ours, hrnn_jax.load_recommender(saved, states=":memory:") as theirs:
        for live in (ours, theirs):
            live.observe(user="u", item="i3", time=1_700_000_000)
        assert ours.trained.lineage == theirs.trained.lineage
        mine, other = (live.recommend("u", k=4) for live in (ours, theirs))
        assert [item for item, _ in mine] == [item for item, _ in other]
        np.testing.assert_allclose([s for _, s in mine], [s for _, s in other], atol=1e-6)
