"""Runs the live recommender on a disk, a clock and clients that fail, and checks all it answers.

    make fault-test SEEDS=10000     10,000 runs, one a seed, with a file, then with a database
    make fault-test SEED=17         one of each again, with its steps; STATES=file only one

Real: the recommender, the state store and SQLite. Simulated: what is below SQLite (`disk`), the
clock, the clients and the operator (`schedule`), and the network, which is a few lines of integers
(`network`). `oracle` replays the acknowledged events in plain Python.
"""
