"""The flags of preparing a log in parts, and what they show while it is prepared."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Generator

from absl import flags

from hrnn_jax.config import setting
from hrnn_jax.preprocess.user_parts.parallel import Parts

from . import config_flags, progress


@dataclasses.dataclass(frozen=True)
class PartsFlags:
    """In how many parts a log is prepared, and by which processes.

    Attributes:
        parts: Prepare the log in this many parts by a hash of the user, with less memory at a time.
            What is trained is the same.
        workers: Processes that prepare the parts side by side. Needs the extra parts.
        scheduler: HOST:PORT of a Dask scheduler whose workers prepare the parts in place of
            --workers. They see the log and --prepared_dir under the same names. Needs the extra
            parts.
    """

    parts: int = setting(1, least=1)
    workers: int = setting(1, least=1)
    scheduler: str | None = setting(None)


FLAGS = flags.FLAGS
config_flags.define_command(PartsFlags, "data")


@contextlib.contextmanager
def shown() -> Generator[Parts]:
    """Yield the parts that the flags ask for, and show how far they are: lines in a pipe.

    Raises:
        InputError: the flags do not go together.
    """
    with contextlib.ExitStack() as stack:
        bars: dict[str, Callable[..., None]] = {}  # by what is done

        def show(what: str, done: int, of: int) -> None:
            if what not in bars:
                stack.close()  # the bar before
                bars[what] = stack.enter_context(progress.bar(what, of, "tasks"))
            bars[what](1)
            if done == of and not sys.stderr.isatty():
                print(f"{what}: {of} done", flush=True)

        yield Parts(FLAGS.parts, FLAGS.workers, FLAGS.scheduler or None, show)
