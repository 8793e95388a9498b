"""Flags made from the settings of dataclasses, and configs made from the flags.

A default, its bounds and its meaning stand once, in `hrnn_jax.config`. A flag that the chosen model
does not use is refused where it was typed, and passed over where a flag file set it: a flag file
may serve several models.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from absl import flags

from hrnn_jax import errors
from hrnn_jax.config import Setting, meanings, settings, unmet_need
from hrnn_jax.presets import PRESETS, network_of

from ..rendering import help_page
from . import cli

FLAGS = flags.FLAGS
Config = TypeVar("Config")
_NUMBERS = {int: flags.IntegerParser, float: flags.FloatParser}
_used_by: dict[str, list[Sequence[str]]] = {}  # flag -> models, by config


class _Number(flags.ArgumentParser):
    """Reads a finite number within the bounds of a setting."""

    def __init__(self, kind: type, setting: Setting) -> None:
        self._text, self._setting = _NUMBERS[kind](), setting
        self.syntactic_help = self._text.syntactic_help

    def parse(self, argument: Any) -> Any:
        try:
            number = self._text.parse(argument)
        except ValueError as error:
            raise ValueError(f"give {self.syntactic_help}") from error
        if problem := self._setting.problem(number):
            raise ValueError(problem)
        return number

    def flag_type(self) -> str:
        return self._text.flag_type()


class _Path(flags.ArgumentParser):
    """Reads a path; an empty one, as of an unset variable of a shell, would stand for another."""

    def parse(self, argument: str) -> str:
        if problem := Setting(is_path=True).problem(argument):
            raise ValueError(problem)
        return argument


def define_command(table: type, group: str = "command") -> None:
    """Define a flag for each setting of a dataclass that is no config: its bounds hold at once.

    group: where --help lists them, see `help_page.TITLES`.
    """
    define({table: group}, has_bounds=True)


def define(
    configs: Mapping[type, str], *, optional: bool = False, has_bounds: bool = False
) -> None:
    """Define a flag for each setting of some config classes.

    A setting that several classes have is one flag without a default, as each has its own.
    configs: the classes, and where --help lists their flags, see `help_page.TITLES`. optional: no
    flag has a default, as something else than the class decides.
    """
    owners: dict[str, list[type]] = {}
    for config in configs:
        for name, setting in settings(config).items():
            _used_by.setdefault(name, []).append(setting.models)
            owners.setdefault(name, []).append(config)
    for name, of_name in owners.items():
        is_open = optional or len(of_name) > 1
        texts = []
        for config in of_name:
            default = _default(config, name)
            text = meanings(config)[name]
            if is_open and default not in (None, (), ""):
                text += f" Default: {_text(default)}."
            texts += [] if text in texts else [text]  # of configs that share a setting, once
        config, text = of_name[0], " ".join(texts)
        default = None if is_open else _default(config, name)
        kind, setting = _type(config, name), settings(config)[name]
        help_page.describe(name, configs[config], setting, _models(name))
        if setting.choices:
            flags.DEFINE_enum(name, default, setting.choices, text)
        elif kind in _NUMBERS:  # a config checks its bounds itself, where a model uses it
            number = _Number(kind, setting if has_bounds else Setting())
            flags.DEFINE(number, name, default, text, serializer=flags.ArgumentSerializer())
        elif setting.is_path:
            flags.DEFINE(_Path(), name, default, text, serializer=flags.ArgumentSerializer())
        elif kind is bool:
            flags.DEFINE_bool(name, default, text)
        elif kind is str:
            flags.DEFINE_string(name, default, text)
        else:  # tuples of text or numbers
            flags.DEFINE_list(name, default and [*map(str, default)], text)


def is_used(name: str, model: str) -> bool:
    """Say whether a model uses a flag; a flag of no config is used by all."""
    return name not in _used_by or network_of(model) in _models(name)


def _models(name: str) -> set[str]:
    """Return the models that use a flag, also those that were registered since it was defined."""
    return {model for models in _used_by[name] for model in models}


def refuse_unused(model: str) -> None:
    """Raise InputError if a flag was typed that the model does not use."""
    for name in cli.typed:
        if not is_used(name, model):
            presets = [preset for preset in PRESETS if is_used(name, preset)]
            raise errors.InputError(
                f"--{name} is not used by --model={model}: drop it; models that use it: "
                f"{', '.join([*sorted(_models(name)), *presets])}"
            )


def make(config: type[Config], model: str, values: Mapping[str, Any]) -> Config:
    """Make a config from the flags that the model uses, and from `values`, which go first.

    What has no effect beside the other flags is refused where it was typed, and else left out.
    """
    known, model = settings(config), network_of(model)
    given = {
        name: value(name)
        for name, setting in known.items()
        if name not in values and value(name) is not None and model in setting.models
    }
    fields = dataclasses.fields(config)  # pyright: ignore[reportArgumentType]
    defaults = {field.name: field.default for field in fields}
    for name in list(given):
        need = unmet_need(known[name], {**defaults, **values, **given})
        if need is None or given[name] == defaults[name]:
            continue
        if name in cli.typed:
            raise errors.InputError(
                f"--{name}={_text(given[name])} has no effect without {need}: drop it, or give that"
            )
        del given[name]
    return config(**values, **given)


def value(name: str) -> Any:
    """Return the value of a flag, a list as a tuple."""
    found = FLAGS[name].value
    return tuple(found) if isinstance(found, list) else found


def _default(config: type, name: str) -> Any:
    return config.__dataclass_fields__[name].default


def _type(config: type, name: str) -> Any:
    """Return a field's type, without None."""
    hint = typing.get_type_hints(config)[name]
    if isinstance(hint, types.UnionType):
        [hint] = set(typing.get_args(hint)) - {types.NoneType}
    return hint


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
