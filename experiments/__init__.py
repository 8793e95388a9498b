"""The commands: the only place with flags, paths and printing."""
