"""Rows of the benchmark about training over a mesh of devices."""
