"""Flags made from the settings of configs, and configs made from the flags.

A default, its bounds and its meaning stand once, in `hrnn_jax.config`. A flag that the chosen model
does not use is refused where it was typed, and passed over where a flag file set it: a flag file
may serve several models.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from absl import flags

from hrnn_jax import errors
from hrnn_jax.config import Setting, meanings, settings, unmet_need

from . import cli

FLAGS = flags.FLAGS
Config = TypeVar("Config")
_used_by: dict[str, set[str]] = {}  # flag -> models


def define(*configs: type, optional: bool = False) -> None:
    """Define a flag for each setting of some config classes.

    A setting that several classes have is one flag without a default, as each has its own.
    optional: no flag has a default, as something else than the class decides.
    """
    found: dict[str, list[tuple[type, Setting]]] = {}
    for config in configs:
        for name, setting in settings(config).items():
            found.setdefault(name, []).append((config, setting))
    for name, places in found.items():
        texts = []
        for config, setting in places:
            used_by(name, setting.models)
            default = _default(config, name)
            shown = "" if default in (None, (), "") else f" Default: {_text(default)}."
            texts.append(meanings(config)[name] + (shown if optional or len(places) > 1 else ""))
        [config, setting], *others = places
        default = None if optional or others else _default(config, name)
        _define(name, _type(config, name), setting.choices, default, " ".join(texts))


def used_by(name: str, models: tuple[str, ...]) -> None:
    """Note which models use a flag, in addition to those noted before."""
    _used_by.setdefault(name, set()).update(models)


def is_used(name: str, model: str) -> bool:
    """Say whether a model uses a flag; a flag of no config is used by all."""
    return name not in _used_by or model in _used_by[name]


def refuse_unused(model: str) -> None:
    """Raise InputError if a flag was typed that the model does not use."""
    for name in cli.typed():
        if not is_used(name, model):
            raise errors.InputError(
                f"--{name} is not used by --model={model}: drop it; models that use it: "
                f"{', '.join(sorted(_used_by[name]))}"
            )


def make(config: type[Config], model: str, values: Mapping[str, Any]) -> Config:
    """Make a config from the flags that the model uses, and from `values`, which go first.

    What has no effect beside the other flags is refused where it was typed, and else left out.
    """
    known = settings(config)
    given = {
        name: _value(FLAGS[name].value, _type(config, name))
        for name, setting in known.items()
        if name not in values and FLAGS[name].value is not None and model in setting.models
    }
    defaults = {field.name: field.default for field in dataclasses.fields(config)}  # type: ignore
    for name in list(given):
        need = unmet_need(known[name], {**defaults, **values, **given})
        if need is None or given[name] == defaults[name]:
            continue
        if name in cli.typed():
            raise errors.InputError(
                f"--{name}={_text(given[name])} has no effect without {need}: drop it, or give that"
            )
        del given[name]
    return config(**values, **given)


def _default(config: type, name: str) -> Any:
    [field] = [field for field in dataclasses.fields(config) if field.name == name]
    return field.default


def _type(config: type, name: str) -> Any:
    """Return a field's type, without None."""
    hint = typing.get_type_hints(config)[name]
    if isinstance(hint, types.UnionType):
        [hint] = [part for part in typing.get_args(hint) if part is not types.NoneType]
    return hint


def _define(name: str, kind: Any, choices: tuple[str, ...], default: Any, text: str) -> None:
    if choices:
        flags.DEFINE_enum(name, default, choices, text)
    elif kind is bool:
        flags.DEFINE_bool(name, default, text)
    elif kind is int:
        flags.DEFINE_integer(name, default, text)
    elif kind is float:
        flags.DEFINE_float(name, default, text)
    else:  # tuples of text or numbers
        flags.DEFINE_list(name, default if default is None else [str(v) for v in default], text)


def _value(given: Any, kind: Any) -> Any:
    return tuple(given) if isinstance(given, list) else given


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
