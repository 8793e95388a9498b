"""Which folder a run has when none is named, which run is the newest, and who may write into it."""
