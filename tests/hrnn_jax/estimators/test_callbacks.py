"""The ready callbacks: what they write, read by other code."""

import csv
import dataclasses
import struct
import sys
import types

import pytest

from hrnn_jax import Epoch, callbacks, errors

EPOCHS = [
    Epoch(1, 3, 0.5, {"mrr@5": 0.1}, events=10, seconds=2.0),
    Epoch(2, 3, 0.25, {"mrr@5": 0.3}, events=10, seconds=2.0),
    Epoch(3, 3, 0.125, {"mrr@5": 0.2}, events=10, seconds=2.0),
]


def test_a_csv_file_has_a_row_for_each_epoch(tmp_path):
    write = callbacks.CSV(tmp_path / "new/losses.csv")
    for number, epoch in enumerate(EPOCHS, 1):
        write(epoch)
        with write.path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == number
    assert [float(row["loss"]) for row in rows] == [0.5, 0.25, 0.125]
    assert [float(row["mrr@5"]) for row in rows] == [0.1, 0.3, 0.2]
    assert rows[2]["epoch"] == "3"


def test_a_csv_file_has_the_rows_of_one_training(tmp_path):
    """Bug: write those of a second model below those of the first."""
    write = callbacks.CSV(tmp_path / "losses.csv")
    for epoch in (*EPOCHS, *EPOCHS[:2]):
        write(epoch)
    with write.path.open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]


def test_a_csv_file_that_cannot_be_is_refused_before_the_training(tmp_path):
    """Bug: find it after the first epoch."""
    (tmp_path / "file").touch()
    for path, words in (
        (tmp_path / "file/losses.csv", "file: .*choose another folder"),
        (tmp_path, "is a folder: give the path of a file"),
        (None, "`path`=None: give a path"),
    ):
        with pytest.raises(errors.InputError, match=words):
            callbacks.CSV(path)


def test_a_folder_of_tensorboard_that_cannot_be_is_refused_before_the_training(tmp_path):
    pytest.importorskip("tensorboardX")
    (tmp_path / "file").touch()
    with pytest.raises(errors.InputError, match=r"file: .*choose another folder"):
        callbacks.TensorBoard(tmp_path / "file")


def test_a_line_has_the_loss_and_the_time_left(capsys):
    for epoch in EPOCHS:
        callbacks.Print()(dataclasses.replace(epoch, rate=(epoch.number > 1 and 5.0) or None))
    first, second, last = capsys.readouterr().out.splitlines()
    assert first == "epoch 1/3  loss 0.5000  mrr@5 0.1000  2.0 s with compiling"
    assert second == "epoch 2/3  loss 0.2500  mrr@5 0.3000  5 events/s  2.0 s, 2 s left"
    assert last.endswith("2.0 s")
    callbacks.Print()(dataclasses.replace(EPOCHS[1], rate=25.0))  # 0.4 s
    assert capsys.readouterr().out.endswith("2.0 s\n")


def test_training_ends_when_a_metric_stops_growing():
    stop = callbacks.EarlyStopping("mrr@5", patience=1)
    assert [stop(epoch) for epoch in EPOCHS] == [False, False, True]
    patient = callbacks.EarlyStopping(patience=2)
    assert [patient(epoch) for epoch in EPOCHS] == [False, False, False]
    with pytest.raises(
        errors.InputError, match="`metric`=recall@5 is not measured; what is: mrr@5"
    ):
        callbacks.EarlyStopping("recall@5")(EPOCHS[0])


def test_early_stopping_of_a_second_training_knows_nothing_of_the_first():
    """Bug: compare with the first model's best value, which ends the second after its epoch 1."""
    stop = callbacks.EarlyStopping(patience=2)
    assert [stop(epoch) for epoch in EPOCHS] == [False, False, False]
    worse = [dataclasses.replace(epoch, metrics={"mrr@5": 0.05}) for epoch in EPOCHS]
    assert [stop(epoch) for epoch in worse] == [False, False, True]


@pytest.mark.parametrize("patience", [0, 1.5, None])
def test_a_patience_below_one_epoch_is_refused(patience):
    """Bug: end each training after its first epoch."""
    with pytest.raises(errors.InputError, match=f"`patience`={patience}: .* of 1 or more"):
        callbacks.EarlyStopping(patience=patience)


def scalars(folder):
    """Read an event file of TensorBoard by its format: records of protocol buffers."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    [path] = folder.iterdir()
    data, found = path.read_bytes(), {}
    while data:
        (length,) = struct.unpack("<Q", data[:8])  # then a checksum of 4 bytes
        event = event_pb2.Event.FromString(data[12 : 12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
        data = data[16 + length :]
    return found


def test_tensorboard_has_the_scalars_by_epoch(tmp_path):
    pytest.importorskip("tensorboardX")
    write = callbacks.TensorBoard(tmp_path / "events")
    for epoch in EPOCHS:
        write(epoch)
    found = scalars(tmp_path / "events")  # before it is closed: each epoch is on disk
    assert found["loss"] == [(1, 0.5), (2, 0.25), (3, 0.125)]
    assert [step for step, _ in found["mrr@5"]] == [1, 2, 3]
    write.close()


def test_weights_and_biases_has_one_run(monkeypatch):
    """Against a stand-in: the service cannot be reached from a test."""
    calls = []

    def init(**settings):
        calls.append(("init", settings))
        return types.SimpleNamespace(
            log=lambda values, step: calls.append((step, values)),
            finish=lambda: calls.append("finish"),
        )

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    log = callbacks.WeightsAndBiases(project="p", mode="offline")
    for epoch in EPOCHS:
        log(epoch)
    callbacks.close([log])
    assert calls == [
        ("init", {"project": "p", "mode": "offline"}),
        *((epoch.number, {"loss": epoch.loss, **epoch.metrics}) for epoch in EPOCHS),
        "finish",
    ]


@pytest.mark.parametrize(
    ("package", "make", "extra"),
    [
        ("tensorboardX", lambda: callbacks.TensorBoard("events"), "tensorboard"),
        ("wandb", callbacks.WeightsAndBiases, "wandb"),
    ],
)
def test_a_missing_package_is_named_when_the_callback_is_made(monkeypatch, package, make, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(errors.InputError, match=rf"pip install 'hrnn_jax\[{extra}\]'"):
        make()
