"""Personalised session-based recommendation with hierarchical recurrent networks (HRNN).

Quadrana, Karatzoglou, Hidasi and Cremonesi, "Personalizing Session-based Recommendations with
Hierarchical Recurrent Neural Networks", RecSys 2017.

Letters in shape comments: T steps, B lanes, V items, H units, S seeds, E events, U users,
W lanes that open a session with a history, K steps per update, N test cases, L session layers,
R items of a user's past, F what is known of each.
"""
