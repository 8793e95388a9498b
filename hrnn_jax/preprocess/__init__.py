"""From a raw event log to a prepared data set (Section 4.1). polars only; jax is never imported."""
