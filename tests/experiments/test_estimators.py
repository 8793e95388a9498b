"""The library's models give what `experiments.run` gives, and the commands take what they save."""

import json
import pathlib

import polars as pl
import pytest

import hrnn_jax
from experiments import compare, run
from experiments.training import continue_run
from hrnn_jax.estimators import run_files
from hrnn_jax.live import export
from tests.helpers import runs
from tests.hrnn_jax.estimators.test_callbacks import scalars

# The settings of `runs.train`.
SMALL = {"hidden_units": 8, "batch_size": 30}


@pytest.fixture(scope="module")
def parts(trained_run):
    """Split the log of the trained run, in its prepared folder."""
    root = trained_run.parent
    log = hrnn_jax.read(root / "log.csv", min_support=1, prepared_dir=root / "prepared")
    return log.split("last_session")


def assert_same_ranks(model, test, folder, seed=0):
    """Compare case by case."""
    theirs = pl.read_parquet(folder / "ranks.parquet").filter(seed=seed)
    ours = hrnn_jax.ranks(model, test)
    names = ["session", "position", "history", "rank"]
    assert ours.select(names).equals(theirs.select(names))
    named = [ids[number] for ids, number in ((model.items_, n) for n in theirs["item"].to_list())]
    assert ours["item"].to_list() == named


def test_a_network_has_the_ranks_of_the_command(parts, trained_run):
    """Bug: another seed, another order of users, another mean."""
    train, test = parts
    assert (trained_run / "recipe.json").exists()
    model = hrnn_jax.HRNN(**SMALL).fit(train, epochs=2, callbacks=[])
    assert_same_ranks(model, test, trained_run)
    losses = [entry["loss"] for entry in run_files.read_history(trained_run)]
    assert model.history_["loss"].to_list() == losses
    recipe = json.loads((trained_run / "recipe.json").read_text())
    wanted = {"format": recipe["format"], "data": train.folder.name}
    assert wanted | run_files.recipe(model.key, *model.recipe_configs()) == recipe


COUNTING = {
    "ppop": hrnn_jax.PPOP(),
    "item_knn": hrnn_jax.ItemKNN(neighbours=5),
    "markov": hrnn_jax.Markov(),
    "sr": hrnn_jax.SR(),
    "vsknn": hrnn_jax.VSKNN(),
    "vsknn_br": hrnn_jax.VSKNNBR(boost=0.25),
    "stan": hrnn_jax.STAN(lambda_snh=2.5),
    "vstan": hrnn_jax.VSTAN(lambda_idf=1.0),
    "ease": hrnn_jax.EASE(l2=3.0, ease_rows="sessions"),
    "u_vstan": hrnn_jax.UVSTAN(extend=3, remind_weight=1.0),
    "popular": hrnn_jax.Popular(window_hours=30.0),
    "counts": hrnn_jax.Counts(rules_weight=0.0, half_life=7.0),
}


def command(parts, folder, *argv):
    """Run experiments.run on the log of the parts."""
    source = parts[0].log.source.path
    given = (f"--events={source}", f"--prepared_dir={parts[0].folder.parent}", "--min_support=1")
    code = runs.call(
        run.main,
        "--dataset=events",
        *given,
        f"--output_dir={folder}",
        "--compilation_cache=",
        *argv,
    )
    assert code == 0


@pytest.mark.parametrize("key", COUNTING)
def test_a_counting_model_has_the_ranks_of_the_command(parts, key, tmp_path):
    model = COUNTING[key]
    settings = (f"--{name}={value}" for name, value in model._given().items())
    command(parts, tmp_path / "run", f"--model={key}", *settings)
    assert_same_ranks(model.fit(parts[0]), parts[1], tmp_path / "run")


def test_hrnn_plus_has_the_ranks_of_the_command_and_its_name(parts, tmp_path):
    """Bug: another value of a preset's setting in one of the two."""
    settings = {"hidden_units": 8, "places": 5, "neighbours": 4}
    given = (f"--{name}={value}" for name, value in settings.items())
    command(parts, tmp_path / "run", "--model=hrnn_plus", "--epochs=1", *given)
    model = hrnn_jax.HRNNPlus(**settings).fit(parts[0], epochs=1, callbacks=[])
    assert_same_ranks(model, parts[1], tmp_path / "run")
    assert json.loads((tmp_path / "run/metrics.json").read_text())["name"] == "hrnn_plus"
    read = hrnn_jax.load(tmp_path / "run")
    assert repr(read) == repr(model)


def test_a_run_of_the_command_is_read(parts, trained_run):
    model = hrnn_jax.load(trained_run)
    assert_same_ranks(model, parts[1], trained_run)
    assert model.epochs_ == 2
    model.partial_fit(epochs=1, callbacks=[])


def test_the_commands_take_what_is_saved(parts, trained_run, tmp_path, capsys):
    """Bug: leave out a file that one of them reads."""
    network = hrnn_jax.load(trained_run).save(tmp_path / "network")
    counting = hrnn_jax.ItemKNN().fit(parts[0]).save(tmp_path / "counting")
    compare.main([str(trained_run), str(network), str(counting)])
    out = capsys.readouterr().out
    assert "Item-KNN" in out
    assert out.count("HRNN Init") == 2
    weights = tmp_path / "weights.npz"
    export.write(weights, *hrnn_jax.load_run(network))  # all that experiments.export does
    assert weights.exists()
    assert run_files.prepared_folder(network) == network / parts[0].folder.name
    with hrnn_jax.load_recommender(network) as live:
        assert len(live.recommend("u1", k=3)) == 3
    assert pathlib.Path(network, "states.sqlite").exists()


@pytest.mark.parametrize("epochs", [0, 2])
def test_a_run_continues_a_saved_model_with_its_settings(parts, epochs, tmp_path):
    """Without an epoch of its own it ranks as the saved one.

    Bug: take flags of a run alone, or a checkpoint after 0 epochs for none.
    """
    model = hrnn_jax.HRNN(**SMALL).fit(parts[0], epochs=epochs, callbacks=[])
    saved = model.save(tmp_path / "saved")
    events = f"--events={parts[0].log.source.path}"
    given = ("--epochs=0", f"--continue_from={saved}", f"--output_dir={tmp_path / 'run'}")
    code = runs.call(
        run.main,
        *(events, f"--prepared_dir={tmp_path / 'prepared'}", "--compilation_cache=", *given),
        defaults=continue_run.defaults,
    )
    assert code == 0
    old, new = (run_files.read_recipe(path) for path in (saved, tmp_path / "run"))
    assert new["model"] == old["model"]
    assert new["training"] == old["training"]
    ranks = [
        pl.read_parquet(path / "ranks.parquet").filter(seed=0) for path in (saved, tmp_path / "run")
    ]
    assert ranks[0].equals(ranks[1])


def test_the_command_writes_the_scalars_of_each_seed(parts, tmp_path):
    """Read by the format itself, see test_callbacks.py."""
    pytest.importorskip("tensorboardX")
    given = ("--seeds=0,1", "--hidden_units=8", "--batch_size=30")
    command(parts, tmp_path / "run", "--tensorboard", "--epochs=2", *given)
    history = run_files.read_history(tmp_path / "run")
    for seed in (0, 1):
        losses = [entry["loss"] for entry in history if entry["seed"] == seed]
        found = scalars(tmp_path / f"run/tensorboard/seed_{seed}")["loss"]
        assert found == [(n, pytest.approx(loss)) for n, loss in enumerate(losses, 1)]
