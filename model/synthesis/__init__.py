"""Synthetic follow-ups of a labelled CT: lesions change, and the patient is scanned again."""
