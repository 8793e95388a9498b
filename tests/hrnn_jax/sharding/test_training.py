"""The number of devices does not change what is trained.

Two runs with the same schedule, draws and rows differ in the order of sums alone, by about 1e-7 of
a sum. If 1,000 updates add up such differences without enlarging them, losses differ by at most
1e-4 of their value; that they are not enlarged is what the longest run here shows.
"""

import pytest

from tests.helpers.printed import printed_by

DENSE = 100_700  # weights of HRNN Init with 100 units beside its tables
NAMES = ("top1", "one group", "bpr_max", "log_q", "full_softmax")


def found_on_devices():
    return printed_by("tests.hrnn_jax.sharding.on_devices")


@pytest.mark.parametrize("name", NAMES)
def test_a_mesh_trains_what_one_device_does(name):
    run = found_on_devices()["runs"][name]
    assert run["moved"] > 0.01
    for figures in run["runs"].values():
        assert figures["loss"] < (1e-4 if name == "top1" else 1e-5)
        assert figures["weights"] < (1e-2 if name == "top1" else 1e-4)
        assert figures["events"] == 1


def test_losses_stay_together_over_a_thousand_steps():
    run = found_on_devices()["runs"]["top1"]
    assert run["steps"] >= 1000
    assert set(run["runs"]) == {"1", "2", "4"}


@pytest.mark.parametrize("name", ["all", "some candidates", "scores that tie or are none"])
def test_a_mesh_ranks_and_lists_what_one_device_does_in_every_case(name):
    """Bug: let the padding of a shard's last row compete."""
    found = found_on_devices()["ranked"][name]
    assert found["cases"] > 100
    assert found["ranks"] > 4
    assert found["differ"] == [[0, 0]] * len(found["differ"])


def test_devices_that_cannot_share_the_groups_are_refused_in_one_line():
    assert found_on_devices()["refusal"] == (
        "`lane_groups`=1 cannot be shared by 4 devices: give a multiple of 4"
    )


def test_a_device_holds_its_part_of_the_tables_and_what_is_replicated():
    """Of ten million items on four devices; steps, lanes and what an update needs are 1% more."""
    large = found_on_devices()["large"]
    dense = 2 * DENSE * 4
    assert large["expected"] == 10_000_000 * 401 * 2 * 4 / 4 + dense
    scratch = 10_000_000 * 4 / 4
    assert large["expected"] < large["held"] < 1.01 * large["expected"] + scratch


def test_an_update_sends_rows_and_gradients_in_three_arrays():
    """And ids and places, before a chunk. Bug: send the rows of all lanes to each device."""
    large, (inputs, targets) = found_on_devices()["large"], (44, 128)  # 25 and 100 at the mean
    rows = 4 * 4 * (inputs * 300 + targets * 101)
    assert large["of_update"] == {
        "all-to-all": [rows, rows + DENSE * 4],
        "all-gather": [DENSE * 4],
    }
    ids = [256 * 400 * size for size in (4, 4, 1)]  # and whether there is a target
    assert large["of_chunk"] == {"all-gather": ids, "all-reduce": [256 * 400 * 4 * 2, 256 * 4]}


def test_an_epoch_with_more_places_than_it_needs_trains_the_same_bits():
    """So that later epochs need not compile. Bug: read the row of a place that nothing is in."""
    differ, fewest, most = found_on_devices()["again"]
    assert fewest < most
    assert differ == 0


def test_a_checkpoint_of_two_devices_is_read_by_two_four_and_one():
    assert found_on_devices()["restored"] == [0, 0, 0]
