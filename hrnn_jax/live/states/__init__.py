"""The states of live users: which events make them, and which weights."""
