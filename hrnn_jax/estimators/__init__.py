"""Models as objects: data frames in, data frames out, the same methods for every model."""
