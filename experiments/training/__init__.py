"""The training of a run: its seeds, its epochs, and what it takes over from an earlier run."""
