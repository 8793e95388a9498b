"""A reproduction in miniature: `experiments.reproduce` with a grid that takes seconds.

python -m tests.helpers.reproduction LOG.csv EPOCHS [flags of experiments.reproduce]
"""

import sys

from experiments import reproduce
from experiments.common import cli
from experiments.jobs import grid
from experiments.paper import searches

DATA = ("--dataset=events", "--min_support=1")
SMALL = ("--hidden_units=4", "--batch_size=30", "--dropout_session=0.1")


def shrink(log, *, epochs=2, rnn_flags=(), columns=("one", "two"), tuned=False):
    """Put columns on a small log, and a row of each kind, instead of the paper's.

    tuned: instead of these rows, one whose settings are searched in two trials of one epoch.
    """
    found = [grid.Column(key, (*DATA, f"--events={log}")) for key in columns]
    network = (*SMALL, f"--epochs={epochs}")
    rows = [
        grid.Row("item_knn", None, ("--model=item_knn",)),
        grid.Row("rnn_small", "small", ("--model=rnn", *network, *rnn_flags)),
        grid.Row("hrnn_init_small", "small", ("--model=hrnn_init", *network)),
    ]
    if tuned:
        rows = [grid.Row("rnn_tuned_large", "large", ("--model=rnn", *network, *rnn_flags))]
        searches.TRIALS, searches.EPOCHS = 2, 1
    grid.columns = lambda **_: found
    grid.rows = lambda sizes: rows


if __name__ == "__main__":
    log_file, n_epochs = sys.argv[1:3]
    sys.argv[1:3] = []
    shrink(log_file, epochs=int(n_epochs))
    cli.run(reproduce.main, hint=": the same command goes on")
