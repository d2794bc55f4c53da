"""Lesions on a scan → measurements: volume, diameters, shape, density."""
