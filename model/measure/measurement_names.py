"""Names of the files of measurements, which a run that begins deletes."""

from __future__ import annotations

JSON_NAME, LESIONS_NAME, PATIENT_NAME = "measurements.json", "lesions.csv", "patient.csv"
MEASUREMENT_NAMES = (JSON_NAME, LESIONS_NAME, PATIENT_NAME)
