"""What tests of commands share."""

import pytest

from tests.helpers import runs


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """A small trained run folder, next to its log and prepared folder; tests must not change it."""
    return runs.train(tmp_path_factory.mktemp("runs"))
