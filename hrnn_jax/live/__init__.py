"""Recommendations for live users."""
