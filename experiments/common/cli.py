"""What every command shares: flag files by bare name, and errors in one line."""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib.util
import logging
import os
import pathlib
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Container, Generator, Iterable, Sequence
from typing import NoReturn

from absl import app, flags
from absl import logging as absl_logging

from hrnn_jax import errors
from hrnn_jax.files.recipe_formats import REMOVED, UNTIL_FORMAT_4
from hrnn_jax.presets import PRESETS

from ..rendering import help_page
from . import interrupt, plugins

assert __package__ is not None
PACKAGE = __package__.rpartition(".")[0]  # experiments in a checkout, another name when installed
typed: set[str] = set()  # flags of the command line itself, not of a flag file
_line_of: dict[str, str] = {}  # of each flag that a flag file has: the file and the line
HELP = {"-h", "-help", "--help", "--helpshort", "--helpfull"}
SHIPPED = pathlib.Path(__file__).parents[1] / "flags"
# With the default that they had. Those of orbax stand in the flags of runs of earlier versions.
_PASSED_OVER = REMOVED | dict.fromkeys(
    (
        "experimental_orbax_use_distributed_barrier",
        "experimental_orbax_use_distributed_process_id",
    ),
    False,
)


def module(name: str) -> str:
    """Return the full name of a module, as `python -m` wants it: of "run", experiments.run."""
    return f"{PACKAGE}.{name}"


def command(name: str) -> str:
    """Return how a command is typed here: `.venv/bin/python -m experiments.run`, `hrnn-jax run`."""
    if PACKAGE == "experiments":
        return f"{_typed(pathlib.Path(sys.executable))} -m {module(name)}"
    return f"{_typed(pathlib.Path(sys.executable).with_name('hrnn-jax'))} {name}"


def installs(extra: str) -> str:
    """Return the command that installs one of setup.cfg's extras."""
    python = _typed(pathlib.Path(sys.executable))
    what = f"--editable '.[{extra}]'" if PACKAGE == "experiments" else f"'hrnn_jax[{extra}]'"
    return f"{python} -m pip install {what}"


@contextlib.contextmanager
def extra(name: str) -> Generator[None]:
    """Answer an import of a package that is not installed by the command that installs it.

    name: the extra of setup.cfg that has what the block imports.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in (PACKAGE.partition(".")[0], "hrnn_jax"):
            raise
        fail(errors.InputError(f"the package {package} is missing: {installs(name)}"))


def needs(name: str, package: str) -> None:
    """Answer at once that a package is missing which only other processes of this command import.

    name: its extra of setup.cfg.
    """
    with extra(name):
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(name=package)


def _typed(program: pathlib.Path) -> str:
    """Return a program as it is typed in the working directory."""
    if program.is_relative_to(pathlib.Path.cwd()):
        return shlex.quote(str(program.relative_to(pathlib.Path.cwd())))
    on_path = shutil.which(program.name) == str(program)
    return program.name if on_path else shlex.quote(str(program))


def run(
    main: Callable[..., None],
    *,
    folders: bool = False,
    whole: bool = True,
    hint: str = "",
    defaults: Callable[[], Sequence[str]] = list,
) -> None:
    """Parse the flags and run `main`.

    folders: `main` takes a list, the arguments that are no flags; other commands refuse those.
    whole: the command knows every flag of a run, so that an unknown one in a flag file is an
    error; other commands take what they know. hint: what ctrl-C says on how to go on. defaults: of
    flags that were parsed, returns others that hold where these are silent. Exit code 2 for the
    user's errors, 1 for a diverged run, 130 for ctrl-C.
    """
    if "JAX_ENABLE_X64" in os.environ:  # set for other programs: all is computed in 32 bits here
        os.environ["JAX_ENABLE_X64"] = "0"

    def guarded(positional: Sequence[str]) -> None:
        absl_logging.set_verbosity(absl_logging.WARNING)  # orbax and jax tell too much
        for name in ("absl", "asyncio"):  # orbax again: what fails in its threads is raised as well
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            interrupt.raise_from_here()
            if len(positional) > 1 and not folders:
                raise errors.InputError(
                    f"unexpected argument {positional[1]!r}: flags begin with --, see --help"
                )
            main(*([positional[1:]] if folders else []))
            _end_if_unread()
        except (errors.InputError, OSError) as error:
            _end_if_unread("\n" if isinstance(error, BrokenPipeError) else "")
            failed.append(error)
            fail(error)
        except errors.DivergedError as error:
            fail(error, code=1)
        except KeyboardInterrupt:
            interrupt.end(hint)

    def unraisable(what: sys.UnraisableHookArgs) -> None:
        """End at a ctrl-C in code that lets no exception out, such as jax's hook on gc.

        Other exceptions that follow an error, or name a closed event loop, come from threads that
        were writing a checkpoint: they are not printed.
        """
        if issubclass(what.exc_type, KeyboardInterrupt):
            interrupt.end(hint)
        if not failed and str(what.exc_value) != "Event loop is closed":
            before(what)

    said = logging.StreamHandler(sys.stdout)
    said.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("hrnn_jax")
    logger.handlers = [said]
    logger.setLevel(logging.INFO)
    logger.propagate = False  # absl would print it once more
    failed: list[Exception] = []
    before, sys.unraisablehook = sys.unraisablehook, unraisable  # to the end of the process
    about = sys.modules[main.__module__].__doc__ or ""
    app.run(
        guarded, flags_parser=functools.partial(parse, whole=whole, defaults=defaults, about=about)
    )


def parse(
    argv: Sequence[str],
    *,
    whole: bool,
    defaults: Callable[[], Sequence[str]],
    about: str = "",
) -> list[str]:
    """Parse flags, with flag files expanded by us: absl looks in the working directory only.

    about: what --help says first.
    """
    if asked := HELP & {*argv[1:]}:
        with may_go_unread():
            _print_help(about, argv[0], whole="--helpfull" in asked)
        sys.exit()
    try:
        given = expand(argv[1:], whole=whole)
        typed.clear()
        typed.update(split(argument)[0] for argument in argv[1:] if argument.startswith("-"))
        plugins.load(given)
        positional = flags.FLAGS([argv[0], *given])
        if first := defaults():
            plugins.load([*first, *given])
            positional = flags.FLAGS([argv[0], *first, *given])
        return positional
    except flags.UnrecognizedFlagError as error:
        hint = near(error.flagname, flags.FLAGS, "--") or "--help lists all"
        where = _written(error.flagname, argv)
        fail(errors.InputError(f"{where}--{error.flagname} is no flag of this command: {hint}"))
    except (flags.Error, errors.InputError) as error:
        text = str(error).removeprefix("flag ")  # as absl begins them
        if found := re.match(r"--(\w+)=(.*?): value should be one of <(.*)>$", text):
            if hint := near(found[2], found[3].split("|")):
                text += f"; {hint}"
            if found[1] in ("model", "loss", "dataset"):
                text += (
                    f"; --plugin=MODULE imports the module that registers a {found[1]} of your own"
                )
        of_flag = re.match(r"--(\w+)", text)
        fail(errors.InputError((_written(of_flag[1], argv) if of_flag else "") + text))


def near(name: str, known: Iterable[str], dashes: str = "") -> str:
    """Ask whether the name that is most like another one was meant; "" where none is."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {dashes}{found[0]}?" if found else ""


def _written(name: str, argv: Sequence[str]) -> str:
    """Return the flag file and the line in which a flag stands, as the beginning of a message."""
    is_typed = any(split(argument)[0] == name for argument in argv if argument.startswith("-"))
    return "" if is_typed or name not in _line_of else f"{_line_of[name]}: "


@contextlib.contextmanager
def may_go_unread() -> Generator[None]:
    """Print what the block prints, and end without a word where it is read no further."""
    try:
        yield
        _end_if_unread()
    except BrokenPipeError:
        _end_if_unread("\n")


def _end_if_unread(probe: str = "") -> None:
    """End as a shell's programs do where no one reads standard output, as before `| head -1`.

    probe: what is written to find out, where nothing may be left to flush.
    """
    try:
        print(probe, end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
        sys.exit(128 + signal.SIGPIPE)


def _print_help(about: str, program: str, *, whole: bool) -> None:
    """Print the page of --help: the flags of this package and, in the `whole` one, absl's."""
    own: list[flags.Flag] = []
    others: list[flags.Flag] = []
    for name, defined in flags.FLAGS.flags_by_module_dict().items():
        (own if name == program or name.startswith(module("")) else others).extend(defined)
    about = re.sub(r"python -m experiments\.(\w+)", lambda m: command(m[1]), about)
    shipped = sorted(path.name for path in SHIPPED.glob("*.flags"))
    print(help_page.page(about, own, others if whole else (), shipped), end="")


def flag_file(besides: Container[str] = ()) -> str:
    """Return the values of this package's flags as the lines of a flag file.

    Flags of other packages are not known to every command, as jax is not always loaded.

    Args:
        besides: Names of flags that are left out, as they belong to one call.
    """
    lines = [
        defined.serialize()
        for name, of_module in flags.FLAGS.flags_by_module_dict().items()
        if name == sys.argv[0] or name.startswith(module(""))
        for defined in of_module
        if defined.name not in besides and defined.value is not None
    ]
    return "".join(f"{line}\n" for line in lines if line)


def fail(error: Exception, code: int = 2) -> NoReturn:
    """Print the error as one line and exit, in the words of the command line.

    Arguments that are flags here are named as flags, and an extra is installed as it is here.
    """
    text = re.sub(r"`(\w+)`", lambda m: f"--{m[1]}" if m[1] in flags.FLAGS else m[1], str(error))
    text = re.sub(r"pip install 'hrnn_jax\[(\w+)\]'", lambda m: installs(m[1]), text)
    print("error:", " ".join(text.split()), file=sys.stderr)
    sys.exit(code)


def expand(
    argv: Sequence[str], within: tuple[pathlib.Path, ...] = (), *, whole: bool = True
) -> list[str]:
    """Replace each --flagfile by the flags it holds, or else (not `whole`) by those known here.

    A name is looked for in the working directory, beside the file that names it, and in
    experiments/flags. within: the files being expanded, outermost first.

    Raises InputError where a flag file would replace a --model, or a preset, that stands before it.
    """
    result: list[str] = []
    argv = _joined(argv)
    chosen = ("", "")  # what has set the model, and the model
    for number, argument in enumerate(argv):
        flag, _, name = argument.partition("=")
        if flag not in ("--flagfile", "-flagfile"):
            result += [*_preset(number, argv, whole=whole), argument]
            if model := _model([argument]):
                chosen = (argument, model)
            continue
        path = _find(name, within)
        if path in within:
            raise errors.InputError(f"flag file {path} includes itself")
        lines = []
        for number, line in enumerate(map(str.strip, _text(path).splitlines()), start=1):
            if not line or line.startswith(("#", "//")) or _is_removed(line, path):
                continue
            if not line.startswith("-"):
                raise errors.InputError(
                    f"{path}, line {number}: {line!r} is no flag: write --name=value"
                )
            if whole or split(line)[0] in (*flags.FLAGS, "flagfile"):
                lines.append(line)
                _line_of[split(line)[0]] = f"{path}, line {number}"
        of_file = expand(lines, (*within, path), whole=whole)
        model = _model(of_file)
        if model and chosen[1] not in ("", model):
            in_file = f"{within[-1]}: " if within else ""
            raise errors.InputError(
                f"{in_file}{chosen[0]} stands before {argument}, which sets --model={model}: "
                f"put {argument} first"
            )
        if model in PRESETS:
            chosen = (argument, model)
        result += of_file
    return result


def _model(argv: Sequence[str]) -> str:
    """Return the model of expanded flags: the last one; "" where there is none."""
    given = [split(argument) for argument in argv if argument.startswith("-")]
    return next((value for name, value in reversed(given) if name == "model"), "")


def _joined(argv: Sequence[str]) -> list[str]:
    """Return each `--name value` as `--name=value`, where absl takes the next argument too."""
    result = []
    rest = iter(argv)
    for argument in rest:
        name = argument.lstrip("-")
        takes_next = argument.startswith("-") and (
            name == "flagfile" or (name in flags.FLAGS and not flags.FLAGS[name].boolean)
        )
        value = next(rest, None) if takes_next else None
        result.append(argument if value is None else f"{argument}={value}")
    return result


def _text(path: pathlib.Path) -> str:
    """Read a flag file, which an editor may have begun with a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise errors.InputError(f"{path} is not in UTF-8: save the flag file in that") from error


def _preset(number: int, argv: Sequence[str], *, whole: bool) -> list[str]:
    """Return the flags that the --model at a place of `argv` stands for.

    Those next to it in `argv` go before the preset's, also where a flag file stands between: they
    are repeated. A --model that a later one replaces stands for none.
    """
    model = _model([argv[number]])
    if model not in PRESETS or _model(argv[number + 1 :]):
        return []
    _, values = PRESETS[model]
    own = {split(other)[0] for other in argv if other.startswith("-")}
    kept = {flag: value for flag, value in values.items() if flag not in own}
    preset = [f"--{flag}={value}" for flag, value in kept.items() if whole or flag in flags.FLAGS]
    return preset + [flag for flag in argv[:number] if split(flag)[0] in values]


def split(argument: str) -> tuple[str, str]:
    """Return the name and the value of a flag; of --nocurve: curve and false."""
    name, _, value = argument.lstrip("-").partition("=")
    if name.startswith("no") and name not in flags.FLAGS:
        return name.removeprefix("no"), "false"
    return name, value


def _is_removed(line: str, path: pathlib.Path) -> bool:
    """Tell whether a line of a flag file sets a removed flag to the value it had by default.

    Raises InputError where it sets one to another value, unless no value has an effect.
    """
    name, value = split(line)
    if name in UNTIL_FORMAT_4:
        return True
    if name not in _PASSED_OVER:
        return False
    if value.lower() == str(_PASSED_OVER[name]).lower():
        return True
    raise errors.InputError(
        f"{path}: {line} is not a flag of this version any more: remove it, or use the version "
        "that wrote the file"
    )


def _find(name: str, within: tuple[pathlib.Path, ...]) -> pathlib.Path:
    folders = [pathlib.Path(), *(path.parent for path in within[-1:]), SHIPPED]
    for folder in folders:
        if name and (folder / name).is_file():
            return (folder / name).resolve()
    shipped = sorted(path.name for path in SHIPPED.glob("*.flags"))
    hint = near(name, [*shipped, *(path.name for path in pathlib.Path().glob("*.flags"))])
    in_file = f"{_line_of.get('flagfile', within[-1])}: " if within else ""
    asked = f" ({hint})" if hint else ""
    raise errors.InputError(
        f"{in_file}no flag file {name!r} here{asked}, and none of the shipped ones: "
        f"{', '.join(shipped)}"
    )
