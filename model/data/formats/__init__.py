"""Readers of the data set formats, one module per format."""
