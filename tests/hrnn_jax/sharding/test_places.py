"""Over a mesh a network with places ranks and learns as on one device."""

from tests.helpers.printed import printed_by


def found_on_devices():
    return printed_by("tests.hrnn_jax.sharding.places_on_devices")


def test_a_mesh_ranks_by_a_mixture_as_one_device_does_in_every_case():
    """Among some items, without those of the session. Bug: number all shards' cases from 0."""
    found = found_on_devices()["ranked"]
    assert found["cases"] > 100
    assert found["ranks"] > 10
    assert found["differ"] == [0, 0]


def test_a_mesh_learns_the_mixture_of_one_device():
    """To the tolerance of the minimiser. Bug: look neighbours up by item, not by row."""
    learnt = found_on_devices()["learnt"]
    assert learnt["moved"] > 0.02
    assert learnt["differ"] < 0.01


def test_each_device_draws_its_rows_of_the_weights_that_one_draws():
    """Bug: draw rows by their number on the shard."""
    assert found_on_devices()["drawn"] == 0
