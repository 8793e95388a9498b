"""Parts of the model that are not in the paper."""
