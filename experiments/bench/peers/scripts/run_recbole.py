"""Train and evaluate a sequential model of RecBole for a while, and print what it cost.

python run_recbole.py MODEL LOG.npz SCRATCH SECONDS

It runs in a virtual environment of its own (recbole.txt) and imports nothing of this project. The
training is that of RecBole's Trainer with one sample an event: its target and up to 50 events
before it. The samples are split as this project splits the log; RecBole's own splits have one test
case a user.
"""

import contextlib
import os
import pathlib
import sys
import time

import numpy as np
import torch
from clock import Clock, Enough, Log, report
from recbole.config import Config
from recbole.data import data_preparation
from recbole.data.dataset import SequentialDataset
from recbole.trainer import Trainer
from recbole.utils import get_model, init_seed

UNITS = 100
SIZES = {
    "GRU4Rec": {"embedding_size": UNITS, "hidden_size": UNITS},
    "SASRec": {"hidden_size": UNITS},
}


def write(log: Log, folder: pathlib.Path) -> None:
    """Write log/log.inter. Times are places: RecBole reads 32-bit floats, too few for seconds."""
    (folder / "log").mkdir(exist_ok=True)
    columns = np.stack([log.user, log.item, log.place], axis=1)
    head = "user_id:token\titem_id:token\ttimestamp:float"
    np.savetxt(
        folder / "log" / "log.inter", columns, fmt="%d", delimiter="\t", header=head, comments=""
    )


def dataset_class(log: Log) -> type[SequentialDataset]:
    """Return a data set that splits the samples into training events and test cases."""
    has_sample = log.place > 0  # in the order of the file, by user and time
    train = torch.from_numpy(~log.test[has_sample])
    cases = torch.from_numpy(log.is_case[has_sample])

    class Split(SequentialDataset):
        def build(self) -> list[SequentialDataset]:
            self._change_feat_format()
            names = self.id2token(self.iid_field, self.inter_feat[self.iid_field])
            assert np.array_equal(names.astype(np.int64), log.item[has_sample])
            train_set, test_set = (self.copy(self.inter_feat[mask]) for mask in (train, cases))
            return [train_set, test_set, test_set]

    return Split


def timed(model_class: type, clock: Clock) -> type:
    """Return a model that tells the clock of its batches."""

    class Timed(model_class):
        def calculate_loss(self, interaction):
            if clock.next_batch(len(interaction)):
                raise Enough
            return super().calculate_loss(interaction)

    return Timed


def main() -> None:
    """Measure the model."""
    name, log_file, scratch, seconds = sys.argv[1:]
    log, clock = Log(log_file), Clock(float(seconds))
    folder = pathlib.Path(scratch)
    os.chdir(folder)  # RecBole writes its logs to the working directory
    write(log, folder)
    given = {
        "data_path": str(folder),
        "checkpoint_dir": str(folder),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
        "train_neg_sample_args": None,  # the loss is the cross-entropy over all items
        "epochs": sys.maxsize,
        "use_gpu": False,
        "show_progress": False,
        **SIZES[name],
    }
    sys.argv = sys.argv[:1]  # RecBole would read the rest as its own
    torch.set_num_threads(1)
    config = Config(model=name, dataset="log", config_dict=given)
    init_seed(config["seed"], config["reproducibility"])
    train, _, test = data_preparation(config, dataset_class(log)(config))
    model = timed(get_model(name), clock)(config, train.dataset)
    trainer = Trainer(config, model)
    # RecBole 1.2.1 turned it on for all models: a line of one of them (SINE) did, when imported.
    torch.autograd.set_detect_anomaly(False)
    with contextlib.suppress(Enough):
        trainer.fit(train, saved=False, verbose=False)
    started = time.perf_counter()
    trainer.evaluate(test, load_best_model=False)
    cases, length = len(test.dataset), config["MAX_ITEM_LIST_LENGTH"]
    report(
        clock,
        cases=cases,
        rank_seconds=time.perf_counter() - started,
        settings=f"{UNITS} units, batch {config['train_batch_size']}, Adam, softmax over "
        f"{train.dataset.item_num - 1:,} items; an event is a sample with up to {length} before "
        f"it; anomaly detection {'on' if torch.is_anomaly_enabled() else 'off'}",
        packages="recbole torch numpy",
    )


if __name__ == "__main__":
    main()
