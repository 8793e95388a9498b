"""The state file of live users."""
