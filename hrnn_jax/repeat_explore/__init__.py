"""A mixture of two probabilities on top of a network: to repeat an item of the past, or explore."""
