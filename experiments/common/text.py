"""Numbers and times as text, alike in all output."""

from __future__ import annotations

from typing import Any


def duration(seconds: float) -> str:
    """Format a time in its two largest units, as in 3 h 12 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def short(value: Any) -> str:
    """Format a number that is not whole with three digits; whole numbers and words stay as is."""
    text = str(value)
    try:
        return text if text.isdecimal() else f"{float(text):.3g}"
    except ValueError:
        return text
