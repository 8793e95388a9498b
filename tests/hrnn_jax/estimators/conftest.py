"""A small split log, and one network fitted on it, which tests must not change."""

import pytest

import hrnn_jax
from tests.helpers import logs


@pytest.fixture(scope="session")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    path = logs.write(folder / "log.csv")
    return hrnn_jax.read(path, min_support=1, prepared_dir=folder / "prepared")


@pytest.fixture(scope="session")
def parts(log):
    return log.split("last_session")


@pytest.fixture(scope="session")
def network(parts):
    return small().fit(parts[0], epochs=2, callbacks=[])


@pytest.fixture(scope="session")
def saved(network, tmp_path_factory):
    return network.save(tmp_path_factory.mktemp("saved") / "run")


def small(**settings):
    """Make a network of the one shape that is compiled for these tests."""
    return hrnn_jax.HRNN(hidden_units=8, batch_size=30, **settings)
