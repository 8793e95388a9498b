"""One of several processes that run the trials of a study; `processes` starts it."""

from __future__ import annotations

from ..common import cli, data_flags
from . import trials, tune_flags
from .study_of_flags import open_study


def main() -> None:
    """Run trials, with the flags of tune, until the study has --trials of them."""
    space = tune_flags.check()
    prepared_folder = data_flags.prepare()
    with open_study(space, prepared_folder) as study:
        trials.run_all(study, tune_flags.load_log(prepared_folder))


if __name__ == "__main__":
    cli.run(main)
