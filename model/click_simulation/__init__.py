"""Simulated clicks for PET/CT, by the challenge's rules and by those of training. No network, no files."""
