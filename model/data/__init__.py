"""Data sets in several formats, and their preparation for training."""
