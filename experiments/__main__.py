"""Run a command by its name: `hrnn-jax run --flagfile=video.flags`.

The same as `python -m experiments.run --flagfile=video.flags` in a checkout; this is the console
command that the package installs.
"""

from __future__ import annotations

import difflib
import runpy
import sys

from .common.cli import may_go_unread, module

COMMANDS = {
    "run": "train and evaluate one model on one data set",
    "tune": "search hyper-parameters on the validation split",
    "compare": "print run folders side by side",
    "describe": "print Tables 1 and 4 of a data set",
    "serve": "serve recommendations from a run folder over HTTP",
    "export": "write a network's weights for use with numpy alone",
    "reproduce": "the paper's tables and figures",
    "comparison": "tune, run and compare all models with one budget",
    "report": "write the paper's report from its CSV files",
    "check": "compare a fresh Table 3 with the shipped one",
    "benchmark": "measure what training, evaluation and serving cost",
    "check_gpu": "reproduce recorded steps on a GPU, and measure it",
}
HELP = ("-h", "--help", "--helpfull", "help")


def main() -> None:
    """Run the command that the first argument names; exit code 2 where it names none."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in (*COMMANDS, *HELP, ""):
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else "--help lists all"
        print(f"error: {name!r} is no command: {hint}", file=sys.stderr)
        sys.exit(2)
    if name not in COMMANDS:
        width = max(map(len, COMMANDS))
        lines = [f"  {command:<{width}}  {text}" for command, text in COMMANDS.items()]
        usage = "\n".join(
            ["usage: hrnn-jax COMMAND [FLAGS]; COMMAND --help lists the flags", *lines]
        )
        with may_go_unread():
            print(usage, file=sys.stdout if name else sys.stderr)
        sys.exit(0 if name else 2)
    sys.argv = sys.argv[1:]
    runpy.run_module(module(name), run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
