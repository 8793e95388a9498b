"""A data set of your own: visits.csv has a line for each visit, with all its items.

    user,start,items
    ann,2026-03-01 09:30:00,tea milk bread

Run it like experiments.run, with the same flags:

    python -m docs.examples.own_data_set --dataset=visits --model=ppop
"""

import pathlib
import runpy

import polars as pl

from hrnn_jax.config import DataConfig
from hrnn_jax.preprocess import datasets
from hrnn_jax.preprocess.read_log import Columns

VISITS = pathlib.Path("visits.csv")


def events() -> pl.DataFrame:
    """Return one row for each event; those of a visit have one time, and keep their order."""
    visits = pl.read_csv(VISITS).with_row_index("visit")
    return visits.with_columns(item=pl.col("items").str.split(" ")).drop("items").explode("item")


datasets.register(
    "visits",
    events,
    recipe=DataConfig(min_support=5, min_session_events=2, min_user_sessions=3),
    columns=Columns(
        user_column="user", item_column="item", time_column="start", session_column="visit"
    ),
)

if __name__ == "__main__":  # now that --dataset knows the name
    runpy.run_module("experiments.run", run_name="__main__", alter_sys=True)
