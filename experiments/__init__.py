"""The commands: the only place with flags, paths and printing."""

from .common import interrupt

interrupt.end_while_importing()
interrupt.hold_hangups()
