"""Readers of PET/CT data sets: nnU-Net's layout with two channels, and a manifest with a column ``pet``.

nnU-Net's layout, as the challenge is released: ``imagesTr/<case>_0000`` is the CT, ``<case>_0001`` the PET,
``labelsTr/<case>`` the tumour; ``organsTr/<case>``, if it is there, labels organs. The challenge's cases are
named ``fdg_<patient>_<study>`` and ``psma_<patient>_<study>``; any other case is a patient of its own.

A manifest has a row for each study:

========= ==============================================================
patient   any name
timepoint any name, unique within the patient
image     the CT
pet       the PET, in SUV
labels    labelmap on the grid of the CT, tumour above 0
organs    optional: labelmap of organs on the grid of the CT; may be empty
========= ==============================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...case.text_files import read_table
from ...case.two_channels import CT_ENDING, PET_ENDING, case_of_channel, find_named_image
from ...errors import InputError
from ..dataset import Problem
from ..pet_ct.studies import PetCtCohort, PetCtStudy
from .longiseg import PATIENTS_FILE
from .manifest import REQUIRED_COLUMNS
from .readers import MANIFEST_FILE

PET_COLUMN, _ORGANS_COLUMN = "pet", "organs"
_COLUMNS = (*REQUIRED_COLUMNS[:3], PET_COLUMN, *REQUIRED_COLUMNS[3:])
_EXPECTED_COLUMNS = f"columns {', '.join(_COLUMNS)}, and optionally {_ORGANS_COLUMN}"
_EXPECTED_FOLDER = "imagesTr with <case>_0000 (CT) and <case>_0001 (PET), and labelsTr with <case>"
_CHALLENGE_CASE = re.compile(r"((?:fdg|psma)_[0-9a-z]+)_.+", re.I)


def is_pet_ct_set(path: Path, data_format: str) -> bool:
    """True if a data set is one of PET/CT studies.

    Args:
        path: a folder or a manifest.
        data_format: as given: `auto`, `pet-ct`, or the format of other data.

    Raises:
        InputError: a manifest cannot be read.
    """
    if data_format == "pet-ct":
        return True
    if (manifest := _manifest_of(path)) is not None and data_format in ("auto", "manifest"):
        columns, _ = read_table(manifest, f"a manifest with {_EXPECTED_COLUMNS}")
        return PET_COLUMN in columns
    if data_format != "auto" or (path / PATIENTS_FILE).is_file():
        return False
    return any(case_of_channel(file, PET_ENDING) is not None for file in (path / "imagesTr").glob("*"))


def read_pet_ct_cohort(path: Path) -> PetCtCohort:
    """Read the studies of a PET/CT data set; no image is opened.

    Raises:
        InputError: it cannot be read, or holds no study.
    """
    if not path.exists():
        raise InputError(f"{path}: is missing; expected {_EXPECTED_FOLDER}, or a manifest")
    manifest = _manifest_of(path)
    cohort = _read_folder(path) if manifest is None else _read_study_manifest(manifest)
    if not cohort.studies:
        first = f" ({cohort.problems[0].text})" if cohort.problems else ""
        expected = _EXPECTED_FOLDER if manifest is None else _EXPECTED_COLUMNS
        raise InputError(f"{path}: lists no study that can be used{first}; expected {expected}")
    return cohort


def _manifest_of(path: Path) -> Path | None:
    if path.is_file():
        return path
    return path / MANIFEST_FILE if (path / MANIFEST_FILE).is_file() else None


def _read_folder(folder: Path) -> PetCtCohort:
    images = folder / "imagesTr"
    names = {case_of_channel(file, CT_ENDING) for file in images.glob("*")}
    studies, problems = list[PetCtStudy](), list[Problem]()
    for case in sorted(name for name in names if name is not None):
        try:
            studies.append(_listed_study(folder, case))
        except InputError as error:
            problems.append(Problem(images / f"{case}{CT_ENDING}", str(error), "the study is left out"))
    return PetCtCohort(folder.resolve().name, tuple(studies), tuple(problems))


def _listed_study(folder: Path, case: str) -> PetCtStudy:
    """The files of a case; InputError if one is missing or there several times."""
    ct, pet = (find_named_image(folder / "imagesTr", f"{case}{one}") for one in (CT_ENDING, PET_ENDING))
    labels = find_named_image(folder / "labelsTr", case)
    if ct is None or pet is None or labels is None:
        missing = f"PET {case}{PET_ENDING}" if pet is None else f"labelmap labelsTr/{case}"
        raise InputError(f"has no {missing}; expected an image")
    organs = find_named_image(folder / "organsTr", case)
    return PetCtStudy(case, _patient_of(case), ct, pet, labels, organs)


def _patient_of(case: str) -> str:
    """The patient of a case, who may have several studies if it is one of the challenge's."""
    match = _CHALLENGE_CASE.fullmatch(case)
    return match[1] if match is not None else case


def _read_study_manifest(path: Path) -> PetCtCohort:
    columns, rows = read_table(path, f"a manifest with {_EXPECTED_COLUMNS}")
    missing = [name for name in _COLUMNS if name not in columns]
    unknown = [name for name in columns if name not in (*_COLUMNS, _ORGANS_COLUMN)]
    for fault, names in (("is missing", missing), ("is unknown beside PET/CT", unknown)):
        if names:
            listed = ", ".join(map(repr, names))
            raise InputError(f"{path}: the column {listed} {fault}; expected {_EXPECTED_COLUMNS}")
    studies, problems = dict[str, PetCtStudy](), list[Problem]()
    for row in rows:
        for text in _faults(row.cells, studies):
            problems.append(Problem(path, f"row {row.line}: {text}", "the row is left out"))
            break
        else:
            study = _study(path.parent, row.cells)
            studies[study.scan_id] = study
    name = path.resolve().parent.name if path.stem == "manifest" else path.stem
    return PetCtCohort(name, tuple(studies.values()), tuple(problems))


def _faults(cells: Mapping[str, str], earlier: Mapping[str, PetCtStudy]) -> Iterator[str]:
    for column in _COLUMNS:
        if not cells.get(column):
            yield f"{column} is empty; expected a value"
    name = f"{cells.get('patient')}_{cells.get('timepoint')}"
    if name in earlier:
        yield f"patient and time point {name} are listed twice"


def _study(folder: Path, cells: Mapping[str, str]) -> PetCtStudy:
    return PetCtStudy(
        scan_id=f"{cells['patient']}_{cells['timepoint']}",
        patient_id=cells["patient"],
        ct=folder / cells["image"],
        pet=folder / cells[PET_COLUMN],
        labels=folder / cells["labels"],
        organs=folder / cells[_ORGANS_COLUMN] if cells.get(_ORGANS_COLUMN) else None,
    )
