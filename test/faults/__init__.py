"""Faults from outside, injected into real runs: `python -m test.faults --help`, docs/reliability.md."""
