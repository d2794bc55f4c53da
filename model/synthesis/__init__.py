"""Synthetic follow-ups of a labelled CT: lesions that change, and another examination of the patient."""
