"""A log in parts by its users, and the steps of a recipe on one part at a time.

A user is in part h mod P, where h is the CRC-32 of the UTF-8 text of the raw id. Most steps see one
user at a time. Before one that must know of all users, each part stops and tells what it has of
that total; the totals are merged, and each part goes on with them. So P parts hold just the events
that one holds.
"""
