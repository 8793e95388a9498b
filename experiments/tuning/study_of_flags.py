"""The study that the flags of tune lead to."""

from __future__ import annotations

import pathlib

from absl import flags

from ..common import model_flags
from ..folders.default_folder import default_study, registered_source
from . import best_flags, search_spaces, tune_flags
from .study import Study

FLAGS = flags.FLAGS


def open_study(space: search_spaces.Space, prepared_folder: pathlib.Path) -> Study:
    """Open the study of a prepared log, or make it.

    Args:
        space: What is searched.
        prepared_folder: The log, prepared for the validation split.

    Raises:
        InputError: See `Study`.
    """
    recipe = {
        "data": prepared_folder.name,
        "model": model_flags.network(),
        "objective": FLAGS.objective,
        "searched": {name: search_spaces.describe(values) for name, values in space.items()},
        "patience": FLAGS.patience if model_flags.is_network() else None,
        # Both left out by default, so that studies without them go on.
        **({"user_share": FLAGS.user_share} if FLAGS.user_share < 1 else {}),
        **registered_source(),
        "settings": best_flags.shared_settings(space),
    }
    default = default_study(prepared_folder, tune_flags.space_name() or FLAGS.model, recipe)
    return Study(
        pathlib.Path(FLAGS.study_dir or default),
        recipe,
        search_spaces.Search(space, FLAGS.sampler, FLAGS.pruner, FLAGS.startup_trials),
        lambda best: best_flags.flag_file(best, space),
    )
