"""The example of an own model: its scores and ranks, and a run of it by its name."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import hrnn_jax
from hrnn_jax.baselines import by_name
from hrnn_jax.config import EvaluationConfig
from hrnn_jax.errors import InputError
from hrnn_jax.estimators.counting_models import CountingModel
from tests.docs import examples
from tests.helpers import logs


def test_scores_are_the_sums_of_one_over_age():
    log = logs.random(0)
    score, costs = examples.load("own_model").recency(log)
    rows = score(slice(None)).toarray()
    for row, cost, case in zip(rows, costs, log.cases, strict=True):
        expected = np.zeros(log.n_items)
        before = np.flatnonzero(log.user[:case] == log.user[case])
        for event in before:
            expected[log.item[event]] += 1 / (case - event)
        np.testing.assert_allclose(row, expected)
        assert cost == len(before)


def test_the_library_ranks_by_the_scores():
    log = logs.random(0)
    example = examples.load("own_model")
    ranking = by_name.rank("recency", log, None, EvaluationConfig(ties="for"))
    rows = example.recency(log)[0](slice(None)).toarray()
    own = rows[np.arange(len(rows)), log.item[log.cases]]
    np.testing.assert_array_equal(ranking.rank, 1 + (rows > own[:, None]).sum(axis=1))


def test_the_command_ranks_with_the_model(tmp_path):
    logs.write(tmp_path / "log.csv")
    data = "--dataset=events", "--events=log.csv", "--min_support=1"
    output = "--cutoffs=1,5", "--output_dir=run"
    said = examples.run("own_model", "--model=recency", *data, *output, folder=tmp_path)
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["name"] == "Recency"
    assert metrics["mean"]["cases"] == 30 * 3
    assert f"{metrics['mean']['recall@5']:.4f}" in said


def test_a_run_of_edited_code_is_another_run(tmp_path):
    """Bug: after an edit the old result is shown as that of the new code."""
    logs.write(tmp_path / "log.csv")
    file = tmp_path / "mine.py"
    text = (examples.FOLDER / "own_model.py").read_text()
    file.write_text(text)

    def run(*argv):
        data = "--dataset=events", "--events=log.csv", "--min_support=1", "--resume"
        command = [sys.executable, "mine.py", "--model=recency", *data, *argv]
        path = {**os.environ, "PYTHONPATH": str(examples.ROOT)}
        return subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True)

    def folders():
        return sorted(path.parent for path in tmp_path.glob("out/runs/*/*/metrics.json"))

    assert run().returncode == 0
    [before] = folders()
    assert "is complete" in run().stdout
    file.write_text(text.replace("1 / age", "1 / age**2"))
    assert "is complete" not in run().stdout
    assert len(folders()) == 2
    refused = run(f"--output_dir={before}")
    assert refused.returncode == 2
    assert "holds a run of other code" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_class_of_the_model_is_saved_and_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples.load("own_model")
    log = hrnn_jax.read(logs.write(tmp_path / "log.csv"), min_support=1)
    train, test = log.split("last_session")

    class OfThisFork(CountingModel):  # what its models share
        pass

    class Recency(OfThisFork):
        models = ("recency",)

    model = Recency().fit(train)
    loaded = hrnn_jax.load(model.save("saved"))
    assert type(loaded) is Recency
    assert hrnn_jax.evaluate(loaded, test) == hrnn_jax.evaluate(model, test)
    assert loaded.recommend(["u0"], k=3).equals(model.recommend(["u0"], k=3))
    Recency.models = ("another",)
    with pytest.raises(InputError, match="a run of recency, which is no model here"):
        hrnn_jax.load("saved")


def test_a_taken_name_is_refused():
    with pytest.raises(InputError, match="`name`=hrnn_plus: there is a model of this name"):
        by_name.register("hrnn_plus", lambda log: None, title="mine")
