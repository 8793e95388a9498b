"""The folder of a run or a study whose command names none.

A run is in out/runs/<log>-<fingerprint>/<model>, with the fingerprint of the prepared log. The
model's plain name is for the settings of its row in the comparison: Table 2's small network, or the
shipped flag file. Other settings add a fingerprint of theirs, as the code behind a registered name
does, so that no two runs want one folder.
A study is in out/tune/<log>-<fingerprint>/<space>-<fingerprint of what it searches>.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from absl import flags

from hrnn_jax.config import NETWORKS
from hrnn_jax.files import registered_code
from hrnn_jax.preprocess.read_log import COMPRESSED

from ..common import config_flags, model_flags, run_settings
from .newest import ROOT
from .usual import usual_flags

FLAGS = flags.FLAGS
STUDIES = pathlib.Path("out/tune")
_LOG_DIGITS, _SETTINGS_DIGITS = 8, 6


def default_folder(prepared_folder: pathlib.Path) -> pathlib.Path:
    """Return the run folder that the flags lead to.

    Args:
        prepared_folder: The log, whose name ends in its fingerprint.
    """
    changed = _changed()
    model = f"{FLAGS.model}-{_fingerprint(changed)}" if changed else FLAGS.model
    return ROOT / _log_name(prepared_folder) / model


def default_study(
    prepared_folder: pathlib.Path, space: str, recipe: Mapping[str, Any]
) -> pathlib.Path:
    """Return the folder of a study.

    Args:
        prepared_folder: The log, prepared for the validation split.
        space: The name of what is searched.
        recipe: What the study measures and searches; the log is left out.
    """
    own = {key: value for key, value in recipe.items() if key != "data"}
    return STUDIES / _log_name(prepared_folder) / f"{space}-{_fingerprint(own)}"


def _log_name(prepared_folder: pathlib.Path) -> str:
    """Return the name of a log, in characters that need no quotes, with its fingerprint."""
    name, _, fingerprint = prepared_folder.name.rpartition("-")
    if FLAGS.events:
        path = pathlib.Path(FLAGS.events)
        inner = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
        name = re.sub(r"[^\w.-]+", "_", inner.stem)
    return f"{name}-{fingerprint[:_LOG_DIGITS]}"


def registered_source() -> dict[str, str]:
    """Return the digest of a registered model's or loss's code as `source`; nothing without one."""
    network = model_flags.network()
    source = registered_code.of(network, FLAGS.loss if network in NETWORKS else None)
    return {} if source is None else {"source": source}


def _changed() -> dict[str, Any]:
    """Return the flags that decide the weights and differ from those of the model's row."""
    usual = usual_flags(FLAGS.model)
    changed = {}
    for name in run_settings.names("model", "training"):
        if config_flags.is_used(name, FLAGS.model):
            flag = FLAGS[name]
            default = flag.parser.parse(usual[name] or "true") if name in usual else flag.default
            if flag.value != default:
                changed[name] = flag.value
    if FLAGS.schedule != "constant":
        changed["epochs"] = FLAGS.epochs
    changed |= registered_source()
    if FLAGS.continue_from:
        changed["continue_from"] = FLAGS.continue_from
    return changed


def _fingerprint(decides: Mapping[str, Any]) -> str:
    text = json.dumps(decides, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_SETTINGS_DIGITS]
