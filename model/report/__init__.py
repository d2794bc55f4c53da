"""Measurements of patients over time, and the files that show them."""
