"""Baselines without a network: counting and session-kNN."""
