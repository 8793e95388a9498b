"""Methods without a network: counting and session-kNN."""
