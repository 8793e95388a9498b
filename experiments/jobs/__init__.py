"""Grids of runs, and the pool of processes that makes them."""
