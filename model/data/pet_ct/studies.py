"""A data set of PET/CT studies before anything of it is decoded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from ..dataset import Problem


@dataclass(frozen=True, slots=True)
class PetCtStudy:
    """CT and PET of one examination, with all of its tumour.

    Attributes:
        scan_id: unique in the data set.
        patient_id: the patient.
        ct: the CT file, HU.
        pet: the PET file, SUV; on the grid of the CT or another one.
        labels: labelmap on the grid of the CT, tumour above 0; None if it is not labelled.
        organs: labelmap of organs on the grid of the CT, 0 elsewhere; None without one.
    """

    scan_id: str
    patient_id: str
    ct: Path
    pet: Path
    labels: Path | None
    organs: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """CT, PET and those labelmaps that there are; the CT first."""
        return tuple(path for path in (self.ct, self.pet, self.labels, self.organs) if path is not None)

    def with_absolute_paths(self) -> PetCtStudy:
        """The study with absolute paths."""
        return replace(
            self,
            ct=self.ct.absolute(),
            pet=self.pet.absolute(),
            labels=self.labels.absolute() if self.labels is not None else None,
            organs=self.organs.absolute() if self.organs is not None else None,
        )


@dataclass(frozen=True)
class PetCtCohort:
    """A data set of studies.

    Attributes:
        name: of the data set.
        studies: those of all patients.
        problems: what the reader could not use and left out.
    """

    name: str
    studies: tuple[PetCtStudy, ...]
    problems: tuple[Problem, ...] = field(default=())

    @property
    def patients(self) -> tuple[str, ...]:
        """The patients' ids, sorted."""
        return tuple(sorted({study.patient_id for study in self.studies}))

    def without_patients(self, patients: frozenset[str]) -> PetCtCohort:
        """The data set without all studies of some patients."""
        kept = tuple(study for study in self.studies if study.patient_id not in patients)
        return replace(self, studies=kept)
