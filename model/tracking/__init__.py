"""Tracking of lesions over time points."""
