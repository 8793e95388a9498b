"""The tuned comparison: its grid, tables and report."""
