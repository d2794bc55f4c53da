"""The manifests of the PET/CT cohort."""

from __future__ import annotations

from pathlib import Path

from model.data.formats.pet_ct_sets import is_pet_ct_set, read_pet_ct_cohort
from test.cohort.make_pet_ct import list_studies


def test_held_back_patients_are_in_the_test_set_alone(tmp_path: Path) -> None:
    list_studies(tmp_path / "real", tmp_path / "cohort")
    cohort, test = (read_pet_ct_cohort(tmp_path / "cohort" / f"{name}.csv") for name in ("cohort", "test"))
    assert is_pet_ct_set(tmp_path / "cohort" / "cohort.csv", "auto")
    assert len(cohort.studies) == 20 and test.patients == ("STS_003", "STS_025", "STS_028")
    assert not set(cohort.patients) & set(test.patients)
    study = test.studies[0]
    assert study.pet.resolve() == (tmp_path / "real/sts_ibsi/STS_003/PET_image.nii.gz").resolve()
