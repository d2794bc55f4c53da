"""Simulated clicks and scribbles for PET/CT, by rules of challenges and of training. No network, no files."""
