"""Train a transformer of RecTools on a log, and write its scores of all items for all test cases.

python score_rectools.py MODEL LOG.npz SCORES.npy SCRATCH SECONDS

It runs in a virtual environment of its own (rectools.txt) and imports nothing of this project.
SCORES.npy is [cases, items] float32, -inf for an item that the model does not know. Settings are
the library's defaults, but 256 sampled negatives for LiGR, and no relative times for HSTU.
"""

import sys
import warnings

import numpy as np
import torch
from pytorch_lightning import Trainer, seed_everything
from rectools import Columns
from rectools.models import HSTUModel, SASRecModel
from rectools.models.nn.transformers.ligr import LiGRLayers
from run_rectools import dataset

EPOCHS = 100  # at most
CASES = 256  # whose lists are made at a time
MODELS = {
    "sasrec": (SASRecModel, {}),
    "ligr": (
        SASRecModel,
        {
            "transformer_layers_type": LiGRLayers,
            "loss": "sampled_softmax",
            "n_negatives": 256,
        },
    ),
    "hstu": (HSTUModel, {"relative_time_attention": False}),
}


def main() -> None:
    """Train the model for a while, and score the cases."""
    name, log_file, out, scratch, seconds = sys.argv[1:]
    with np.load(log_file) as file:
        log = {key: file[key] for key in ("user", "item", "session", "test", "n_items")}
    begins = np.flatnonzero(np.diff(log["user"], prepend=-1))
    place = np.arange(len(log["user"])) - np.repeat(
        begins, np.diff(begins, append=len(log["user"]))
    )
    cases = np.flatnonzero(log["test"] & (np.diff(log["session"], prepend=-1) == 0))
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    seed_everything(0)

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=EPOCHS,
            max_time={"seconds": float(seconds)},
            accelerator="cpu",
            devices=1,
            default_root_dir=scratch,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    kind, settings = MODELS[name]
    model = kind(**settings, get_trainer_func=trainer, recommend_torch_device="cpu")
    train = np.flatnonzero(~log["test"])
    model.fit(dataset(log["user"][train], log["item"][train], place[train]))
    scores = np.full((len(cases), int(log["n_items"])), -np.inf, np.float32)
    known = len(model.data_preparator.get_known_item_ids())
    for begin in range(0, len(cases), CASES):
        part = cases[begin : begin + CASES]
        lengths = np.minimum(place[part], model.session_max_len)
        users = np.repeat(np.arange(len(part)), lengths)
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        events = np.repeat(part - lengths, lengths) + within
        asked = dataset(users, log["item"][events], within)
        found = model.recommend(np.arange(len(part)), asked, k=known, filter_viewed=False)
        scores[begin + found[Columns.User], found[Columns.Item]] = found[Columns.Score]
    np.save(out, scores)


if __name__ == "__main__":
    main()
