"""How the service is watched and run: its measurements, and weights that are swapped."""
