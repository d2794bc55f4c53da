"""Scans, prompts and cases: their data classes, and reading and writing their files. Independent of torch."""
