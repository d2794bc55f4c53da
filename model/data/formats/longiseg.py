"""Reader of LongiSeg's raw layout, in both generations.

``dataset.json``, ``imagesTr/<scan>_0000.<ext>``, ``labelsTr/<scan>.<ext>`` (instance maps),
``patientsTr.json`` ({patient: [scan, ...]} in order of time), and the links of lesions: ``tracking.json``
or ``trackingTr.json`` (`longiseg_tracking`).

Without either file it is a set for pretraining: lesions are linked by their ids, and the *first* scan of a
patient is the follow-up of each other one, as in the published trainers.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from pathlib import Path

from ...case.longiseg_tracking import parse_tracking_entry, read_longiseg_object, read_tracking_tables
from ...case.raw_lesion import RawLesion
from ...case.stored_image import IMAGE_SUFFIXES
from ...errors import InputError
from ..dataset import Cohort, Links, Problem, RawPair, RawScan

PATIENTS_FILE = "patientsTr.json"
TRACKING_FILES = ("trackingTr.json", "tracking.json")


def read_longiseg(folder: Path) -> Cohort:
    """Read the scans and lesions of a LongiSeg folder; no image is opened.

    Faults of single lesions become problems of the cohort.

    Raises:
        InputError: one of its JSON files is missing or malformed as a whole.
    """
    suffix = read_longiseg_object(folder / "dataset.json").get("file_ending")
    scans = tuple(_scans(folder, str(suffix) if suffix else ""))
    name = folder.resolve().name
    tracking = next((folder / file for file in TRACKING_FILES if (folder / file).is_file()), None)
    if tracking is None:
        pairs = tuple(_pretraining_pairs(scans))
        return Cohort(name, scans, (), Links.SAME_ID, pairs)
    lesions: list[RawLesion] = []
    problems: list[Problem] = []
    scan_ids = {scan.scan_id for scan in scans}
    for where, patient, table in read_tracking_tables(tracking):
        for key in table:
            try:
                lesions.append(_listed(parse_tracking_entry(patient, key, table), scan_ids))
            except InputError as error:
                problems.append(Problem(tracking, f"{where}, lesion {key}: {error}", "it is left out"))
    return Cohort(name, scans, tuple(lesions), Links.EXPLICIT, problems=tuple(problems))


def _scans(folder: Path, suffix: str) -> Iterator[RawScan]:
    path = folder / PATIENTS_FILE
    seen: set[str] = set()
    for patient, names in read_longiseg_object(path).items():
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise InputError(f"{path}: {patient} has no list of scans; expected {{patient: [scan, ...]}}")
        for order, name in enumerate(names):
            if name in seen:
                raise InputError(f"{path}: scan {name} is listed twice; expected each scan once")
            seen.add(name)
            image = _file(folder / "imagesTr", f"{name}_0000", suffix)
            yield RawScan(name, patient, order, image, _file(folder / "labelsTr", name, suffix))


def _file(folder: Path, stem: str, suffix: str) -> Path:
    """The file of a scan; if it is missing, the path that was expected."""
    suffixes = ([suffix] if suffix else []) + list(IMAGE_SUFFIXES)
    paths = [folder / f"{stem}{ending}" for ending in suffixes]
    return next((path for path in paths if path.is_file()), paths[0])


def _pretraining_pairs(scans: tuple[RawScan, ...]) -> Iterator[RawPair]:
    firsts = {scan.patient_id: scan for scan in scans if scan.order == 0}
    for scan in scans:
        if scan.order > 0:
            yield RawPair(baseline=scan.scan_id, followup=firsts[scan.patient_id].scan_id)


def _listed(lesion: RawLesion, scan_ids: Set[str]) -> RawLesion:
    """A lesion whose scans are listed, too."""
    for which, name in (("img_bl", lesion.baseline), ("img_fu", lesion.followup)):
        if name not in scan_ids:
            raise InputError(f"{which} is {name!r}; expected a scan of {PATIENTS_FILE}")
    return lesion
