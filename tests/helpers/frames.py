"""One frame as each library that users may have has it."""

import pytest

LIBRARIES = ["polars", "lazy", "arrow", "pandas"]


def of_library(frame, library):
    """Return a frame of polars as one of LIBRARIES; skips the test where pandas is missing."""
    if library == "pandas":
        pytest.importorskip("pandas")
    made = {"lazy": frame.lazy, "arrow": frame.to_arrow, "pandas": frame.to_pandas}
    return made[library]() if library in made else frame
