"""Training: user-parallel batches, one update, the loop over an epoch."""
