"""Search spaces and study folders."""
