"""Personalised session-based recommendation with hierarchical recurrent networks (HRNN).

Quadrana, Karatzoglou, Hidasi and Cremonesi, "Personalizing Session-based Recommendations with
Hierarchical Recurrent Neural Networks", RecSys 2017.

Letters in shape comments: T steps, B lanes, V items, H units, S seeds, E events, U users,
W lanes that open a session with a history, K steps per update, N test cases.
"""
