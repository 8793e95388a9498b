"""Files: how they are written and locked, checkpoints, the formats of a run folder's recipe."""
