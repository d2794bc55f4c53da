"""Validation of trained networks on patients they have not seen, on the original files."""
