"""Train and evaluate a transformer of RecTools for a while, and print what it cost.

python run_rectools.py MODEL LOG.npz SCRATCH SECONDS

It runs in a virtual environment of its own (rectools.txt) and imports nothing of this project. An
epoch trains on the last 100 events of each user. RecTools recommends to users, not in the middle of
a history, so each test case becomes a user whose history ends before the case.
"""

import sys
import time
import warnings

import numpy as np
import pandas as pd
import torch
from clock import Clock, Log, report
from histories import events_before
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import BERT4RecModel, SASRecModel

UNITS, LISTED = 100, 20
MODELS = {"SASRec": SASRecModel, "BERT4Rec": BERT4RecModel}
# What counts as an event of a batch: a place with a target, or one that may be masked.
EVENTS_OF = {"SASRec": "y", "BERT4Rec": "x"}
MEANING = {
    "SASRec": "an event is a place of a user's last {} with a target",
    "BERT4Rec": "an event is a place of a user's last {}, of which 15 % are targets",
}


class Timed(Callback):
    """Tells a clock of the batches, and ends the training when it is enough."""

    def __init__(self, events_of: str, clock: Clock):
        """Count what is not 0 in an array of the batch."""
        self.events_of, self.clock = events_of, clock

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        """Count the events of the batch that begins."""
        if self.clock.next_batch(int(torch.count_nonzero(batch[self.events_of]))):
            trainer.should_stop = True
            return -1  # skips the rest of the epoch
        return None


def frame(users: np.ndarray, seconds: np.ndarray) -> pd.DataFrame:
    """Return users and times as the library's columns."""
    times = pd.to_datetime(seconds, unit="s")
    return pd.DataFrame({Columns.User: users, Columns.Weight: 1.0, Columns.Datetime: times})


def dataset(log: Log, events: np.ndarray, users: np.ndarray) -> Dataset:
    """Return a data set of events of a log, of other users than those of the log."""
    return Dataset.construct(frame(users, log.time[events]).assign(item_id=log.item[events]))


def histories(log: Log, cases: np.ndarray, length: int) -> Dataset:
    """Return the last events before each case, as users of a data set."""
    users, events = events_before(cases, np.minimum(log.place[cases], length))
    return dataset(log, events, users)


def main() -> None:
    """Measure the model."""
    name, log_file, scratch, seconds = sys.argv[1:]
    log, clock = Log(log_file), Clock(float(seconds))
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    seed_everything(0)
    timed = Timed(EVENTS_OF[name], clock)

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=-1,
            accelerator="cpu",
            devices=1,
            callbacks=[timed],
            default_root_dir=scratch,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    model = MODELS[name](n_factors=UNITS, get_trainer_func=trainer, recommend_torch_device="cpu")
    train = np.flatnonzero(~log.test)
    model.fit(dataset(log, train, log.user[train]))
    cases = np.flatnonzero(log.is_case)
    asked = histories(log, cases, model.session_max_len)
    started = time.perf_counter()
    model.recommend(np.arange(len(cases)), asked, k=LISTED, filter_viewed=False)
    rank_seconds = time.perf_counter() - started
    [clock] = [each.clock for each in model.fit_trainer.callbacks if isinstance(each, Timed)]
    items = len(model.data_preparator.get_known_item_ids())
    meaning = MEANING[name].format(model.session_max_len)
    report(
        clock,
        cases=len(cases),
        rank_seconds=rank_seconds,
        settings=f"{UNITS} units, {model.n_blocks} blocks, batch {model.batch_size} users, Adam, "
        f"softmax over {items:,} items; {meaning}; ranking lists {LISTED} items",
        packages="RecTools torch pytorch-lightning numpy",
    )


if __name__ == "__main__":
    main()
