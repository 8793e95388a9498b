"""Tune a transformer of RecTools on a log, and write its scores of all items for all test cases.

python score_rectools.py MODEL LOG.npz SCORES.npy SEARCH.json SCRATCH SECONDS TRIALS

It runs in a virtual environment of its own (rectools.txt) and imports nothing of this project.
SCORES.npy is [cases, items] float32, -inf for an item that the model does not know.

The first trial has the library's defaults, but 256 sampled negatives for LiGR; the others draw from
`SPACE`. HSTU attends to relative times where the log has them, and is then given the time of the
event to predict, which the library asks for. A trial trains on all but the last training session of
each user, is measured on that session after every look, and ends when no look of `PATIENCE` was
better. The best settings are then trained on all training events, for as many epochs as the best
look had. The search takes half of SECONDS at most, training and search all of it. A history longer
than the model's context is cut into parts, as the library would train on its last events alone. It
runs on a GPU if torch finds one, else on one thread.
"""

import json
import math
import sys
import time
import warnings
from importlib.metadata import version

import numpy as np
import torch
from clock import Log
from histories import events_before, last_training_session, parts
from pytorch_lightning import Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import HSTUModel, SASRecModel
from rectools.models.nn.transformers.ligr import LiGRLayers
from run_rectools import dataset, frame, histories

CUTOFF = 5  # of the Recall that trials are compared by
MOST_CASES = 2_000  # that a look ranks
LOOK_STEPS = 50  # at least, between two looks
PATIENCE, MOST_LOOKS = 5, 100
CASES = 256  # whose lists are made at a time
MODELS = {
    "sasrec": (SASRecModel, {}),
    "ligr": (
        SASRecModel,
        {"transformer_layers_type": LiGRLayers, "loss": "sampled_softmax", "n_negatives": 256},
    ),
    "hstu": (HSTUModel, {}),
}
SPACE = {
    "n_factors": (64, 128, 256),
    "n_blocks": (1, 2, 3),
    "n_heads": (1, 2, 4),
    "dropout_rate": (0.1, 0.2, 0.3, 0.5),
    "lr": (0.0003, 0.001, 0.003),
    "session_max_len": (50, 100, 200),
}
SPACE_OF = {"ligr": {"n_negatives": (256, 512, 1024)}}
DEFAULTS = {"n_factors": 256, "n_blocks": 2, "n_heads": 4, "dropout_rate": 0.2, "lr": 0.001}
DEFAULTS |= {"session_max_len": 100}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def new_model(name: str, log: Log, settings: dict, scratch: str):
    """Return a model that is not trained."""

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=1,
            accelerator="gpu" if DEVICE == "cuda" else "cpu",
            devices=1,
            default_root_dir=scratch,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    kind, given = MODELS[name]
    if kind is HSTUModel:
        given = {"relative_time_attention": log.has_times}
    return kind(**(given | settings), get_trainer_func=trainer, recommend_torch_device=DEVICE)


def in_parts(log: Log, events: np.ndarray, length: int) -> Dataset:
    """Return events as a data set whose users are parts of the log's users."""
    part, row = parts(log.user[events], length)
    return dataset(log, events[row], part)


def lists(model, log: Log, cases: np.ndarray, most: int):
    """Yield the recommended items of some cases after the others, each with its place in cases."""
    for begin in range(0, len(cases), CASES):
        part = cases[begin : begin + CASES]
        users = np.arange(len(part))
        found = model.recommend(
            users,
            histories(log, part, model.session_max_len),
            context=frame(users, log.time[part]) if model.require_recommend_context else None,
            k=most,
            filter_viewed=False,
            on_unsupported_targets="ignore",  # no known item before the case
        )
        yield begin + found[Columns.User].to_numpy(), found


def recall(model, log: Log, cases: np.ndarray) -> float:
    """Return the Recall of some cases, without the session's items if no session repeats one."""
    target, so_far = log.item[cases], log.in_session[cases]
    banned = np.zeros(0, np.int64)
    most = CUTOFF
    if not log.has_repeats:
        of, before = events_before(cases, so_far)
        banned = of * log.n_items + log.item[before]
        most += int(so_far.max())
    hits = 0
    known = len(model.data_preparator.get_known_item_ids())
    for case, found in lists(model, log, cases, min(most, known)):
        item = found[Columns.Item].to_numpy()
        kept = ~np.isin(case * log.n_items + item, banned)
        case, item = case[kept], item[kept]
        begins = np.flatnonzero(np.diff(case, prepend=-1))
        rank = np.arange(len(case)) - np.repeat(begins, np.diff(begins, append=len(case)))
        hits += np.count_nonzero((rank < CUTOFF) & (item == target[case]))
    return hits / len(cases)


def search(name: str, log: Log, scratch: str, until: float, trials: int) -> dict:
    """Try settings, and return the best, their epochs and Recall, and the number of trials."""
    held_out = last_training_session(log)
    events = np.flatnonzero(~log.test & ~held_out)
    cases = np.flatnonzero(held_out & (log.in_session > 0))
    cases = cases[np.unique(np.linspace(0, len(cases) - 1, MOST_CASES).astype(int))]
    of_model = SPACE_OF.get(name, {})
    space = SPACE | of_model
    first = DEFAULTS | {key: values[0] for key, values in of_model.items()}
    rng = np.random.default_rng(0)
    best: dict = {"value": -1.0}
    for trial in range(trials):
        if trial and time.perf_counter() > until:
            break
        drawn = {key: values[rng.integers(len(values))] for key, values in space.items()}
        settings = drawn if trial else first
        seed_everything(0)
        model = new_model(name, log, settings, scratch)
        data = in_parts(log, events, settings["session_max_len"])
        users = len(data.user_id_map.external_ids)
        epochs = math.ceil(LOOK_STEPS / math.ceil(users / model.batch_size))
        value, since, trained = -1.0, 0, 0
        for _ in range(MOST_LOOKS):
            model.fit_partial(data, epochs, epochs)
            trained += epochs
            found = recall(model, log, cases)
            since = 0 if found > value else since + 1
            if found > value:
                value = found
                if found > best["value"]:
                    best = {"value": found, "settings": {**settings, "epochs": trained}}
            if since == PATIENCE or time.perf_counter() > until:
                break
        best["trials"] = trial + 1
        print(f"trial {trial}: {value:.4f}, best {best['value']:.4f}", file=sys.stderr)
    return best


def main() -> None:
    """Search, train, and score the cases."""
    name, log_file, scores_file, search_file, scratch, seconds, trials = sys.argv[1:]
    started = time.perf_counter()
    log = Log(log_file)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    half, end = started + float(seconds) / 2, started + float(seconds)
    found = search(name, log, scratch, half, int(trials))
    settings = dict(found["settings"])
    epochs = settings.pop("epochs")
    seed_everything(0)
    model = new_model(name, log, settings, scratch)
    data = in_parts(log, np.flatnonzero(~log.test), settings["session_max_len"])
    trained = 0
    while trained < epochs and (not trained or time.perf_counter() < end):
        more = min(epochs - trained, max(1, epochs // 20))
        model.fit_partial(data, more, more)
        trained += more
    found["settings"]["epochs"] = trained
    found["seconds"] = round(time.perf_counter() - started)
    found["device"] = torch.cuda.get_device_name() if DEVICE == "cuda" else "one thread"
    found["versions"] = {key: version(key) for key in ("rectools", "torch", "numpy")}
    cases = np.flatnonzero(log.is_case)
    scores = np.full((len(cases), log.n_items), -np.inf, np.float32)
    known = len(model.data_preparator.get_known_item_ids())
    for case, recommended in lists(model, log, cases, known):
        scores[case, recommended[Columns.Item]] = recommended[Columns.Score]
    np.save(scores_file, scores)
    with open(search_file, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
