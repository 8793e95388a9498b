"""Rows of the benchmark about the service."""
