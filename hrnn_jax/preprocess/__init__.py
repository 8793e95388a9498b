"""From a raw event log to a prepared folder (Section 4.1). Uses polars; never imports jax."""
