"""Other libraries beside this one: the same log, the same clock, one process and one core each.

What runs in the virtual environments of the other libraries is in `scripts`, which is no package.
"""
