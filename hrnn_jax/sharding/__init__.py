"""Training over a mesh of devices, of one process or several: tables by row, lanes by device."""
