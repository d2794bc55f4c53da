"""Prepare a data set for training: check, plan, preprocess, split into folds."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from ..case.atomic_files import remove_partial_files
from ..case.folder_lock import locked_folder
from ..case.geometry import Geometry
from ..case.lesion_json import write_json
from ..errors import InputError, OutputError, one_line
from ..network.plan import Plan
from .checks import CheckedCohort, check_cohort
from .dataset import Cohort, Problem, RawScan
from .folds import FoldsDocument, added_patients, check_folds, patient_folds, write_folds
from .formats.readers import read_cohort
from .original_files import write_sources
from .planning.fingerprint import fingerprint_of, write_fingerprint
from .planning.plan_files import preparation_of, transfer_plan, write_dataset, write_plan
from .planning.planner import PlanOptions, plan_configuration
from .prepared_grid import prepared_grid
from .prepared_pairs import prepared_pairs
from .preprocess import PreparationJob, is_prepared, prepare_scan
from .scan_survey import ScanSurvey, survey_scans
from .store import INDEX_FILE, IndexDocument, PairDocument, read_scan_document, scan_folder
from .workers import run_jobs

CHECKS_FILE = "checks.json"
SURVEY_FOLDER = "survey"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """Options of `prepare`.

    Attributes:
        data: the data set, a folder or a manifest.
        output: folder of the prepared data set.
        data_format: "auto" or a format of `read_cohort`.
        plan_options: options of the planner.
        plan: the plan of another data set, used unchanged in place of planning.
        folds: number of folds; 0 draws none, e.g. for pretraining on all patients.
        seed: seed of folds, HU samples and point tables.
        excluded: patients to leave out of everything.
        workers: number of processes.
        is_strict: stop if the data set has any problem.
        check_only: check the data set and do nothing else.
    """

    data: Path
    output: Path
    data_format: str = "auto"
    plan_options: PlanOptions = field(default_factory=PlanOptions)
    plan: Path | None = None
    folds: int = 5
    seed: int = 0
    excluded: tuple[str, ...] = ()
    workers: int = 1
    is_strict: bool = False
    check_only: bool = False


def prepare(options: PrepareOptions) -> None:
    """Check, plan, preprocess and split a data set; scans that are prepared already are kept.

    Problems and progress are logged.

    Raises:
        InputError: the data set cannot be read, nothing of it can be used, or it has problems and
            `is_strict` is set.
        OutputError: the output cannot be written, or another run writes there.
        WeightsError: the given plan cannot be used.
    """
    with locked_folder(options.output):
        remove_partial_files(options.output, options.output / SURVEY_FOLDER)
        _prepare(options)


def _prepare(options: PrepareOptions) -> None:
    checked, surveys = _checked(options)
    if options.check_only:
        return
    cohort = checked.cohort
    check_planned_folds(options, cohort.patients, ((one.scan_id, one.patient_id) for one in cohort.scans))
    plan = _planned(options, cohort, surveys)
    log_plan(plan)
    geometries = {scan.scan_id: surveys[scan.scan_id].geometry for scan in cohort.scans}
    likes = _sign_references(cohort, geometries)
    _preprocess(options, cohort, plan, likes)
    grids = {name: prepared_grid(geometry, likes[name], plan) for name, geometry in geometries.items()}
    pairs, vanished = prepared_pairs(options.output, cohort, geometries, grids)
    log_problems(vanished)
    write_checks(options.output, [*checked.problems, *vanished])
    if not pairs:
        raise InputError(f"{options.data}: no lesion is left at the plan's spacing; expected one or more")
    patients = {pair.patient_id for pair in pairs}
    write_patient_folds(options, cohort.patients, patients)  # refuses to change folds
    write_sources(options.output, cohort)
    _write_index(options, cohort.name, plan, pairs)


def _checked(options: PrepareOptions) -> tuple[CheckedCohort, dict[str, ScanSurvey]]:
    """Read and check the data set; log all of its problems before raising for any.

    A conflict with the folds of the output folder is raised first, except with `check_only`.
    """
    cohort = read_cohort(options.data, options.data_format)
    log_unknown_exclusions(options, cohort.patients)
    cohort = cohort.without(frozenset(options.excluded))
    if options.folds and not options.check_only:  # before anything is written
        check_folds(options.output, cohort.patients, options.folds, options.seed)
    surveys = survey_scans(cohort.scans, options.output / SURVEY_FOLDER, options.seed, options.workers)
    checked = check_cohort(cohort, surveys)
    log_problems(checked.problems)
    write_checks(options.output, checked.problems)
    _log_usable(cohort, checked)
    check_strictly(options, len(checked.faults))
    if not checked.cohort.lesions:
        raise InputError(
            f"{options.data}: no lesion can be used, for the reasons above; expected lesions that a baseline "
            "and a follow-up of one patient show"
        )
    return checked, surveys


def log_unknown_exclusions(options: PrepareOptions, patients: Iterable[str]) -> None:
    """Log each excluded patient that the data set lacks."""
    for name in sorted(set(options.excluded) - set(patients)):
        log.info("note: --exclude %s: no such patient in %s", name, options.data)


def check_strictly(options: PrepareOptions, faults: int) -> None:
    """Check that a data set has no problem if the options want it so.

    Raises:
        InputError: it has problems, which are listed in the log and the file of checks.
    """
    if options.is_strict and faults:
        raise InputError(
            f"{options.data}: {faults} problems, listed above and in {options.output / CHECKS_FILE}; "
            "expected none with --strict"
        )


def log_problems(problems: Sequence[Problem]) -> None:
    """Log each problem of a data set in a line."""
    for problem in problems:
        log.info("%s", problem)


def _log_usable(cohort: Cohort, checked: CheckedCohort) -> None:
    usable, faults = checked.cohort, len(checked.faults)
    log.info(
        "%s: %d problems, %d notes; %d lesions in %d of %d scans of %d patients can be used",
        cohort.name,
        faults,
        len(checked.problems) - faults,
        len(usable.lesions),
        len(usable.scans),
        len(cohort.scans),
        len(usable.patients),
    )


def log_plan(plan: Plan) -> None:
    """Log spacing, patch and stages of a plan."""
    log.info(
        "plan: spacing %s mm, patch %s (z y x), %d stages of %s features",
        _numbers(plan.spacing_zyx),
        _numbers(plan.patch_size_zyx),
        len(plan.architecture.strides),
        _numbers(plan.architecture.features_per_stage),
    )


def check_planned_folds(
    options: PrepareOptions, patients: Sequence[str], scans: Iterable[tuple[str, str]]
) -> None:
    """Raise for folds that are impossible or in conflict before hours of work, with nothing changed yet.

    Args:
        options: of the run.
        patients: candidates for the folds.
        scans: scan id and patient of each of their scans.

    Raises:
        InputError: fewer patients than folds, or the output folder has other folds.
    """
    if options.folds:
        patient_folds(patients, options.folds, options.seed)
        prepared = {
            patient
            for name, patient in scans
            if read_scan_document(scan_folder(options.output, name)) is not None  # whatever it was made from
        }
        added = added_patients(options.output, patients, prepared)
        check_folds(options.output, patients, options.folds, options.seed, added)


def _planned(options: PrepareOptions, cohort: Cohort, surveys: Mapping[str, ScanSurvey]) -> Plan:
    """Write the fingerprint and the plan."""
    fingerprint = fingerprint_of([surveys[scan.scan_id] for scan in cohort.scans])
    write_fingerprint(options.output, fingerprint)
    write_dataset(options.output, len(cohort.scans))
    if options.plan is not None:
        return transfer_plan(options.plan, options.output, cohort.name)
    planned = plan_configuration(fingerprint, options.plan_options)
    return write_plan(options.output, cohort.name, fingerprint, planned)


def _sign_references(cohort: Cohort, geometries: Mapping[str, Geometry]) -> dict[str, Geometry]:
    """Geometry of the patient's last scan, by scan: all scans of a patient take its axis signs.

    Inference turns a baseline to its follow-up, which is the same for two scans. Signs rarely differ.
    """
    last: dict[str, RawScan] = {}
    for scan in cohort.scans:
        if scan.patient_id not in last or scan.order >= last[scan.patient_id].order:
            last[scan.patient_id] = scan
    return {scan.scan_id: geometries[last[scan.patient_id].scan_id] for scan in cohort.scans}


def _preprocess(options: PrepareOptions, cohort: Cohort, plan: Plan, likes: Mapping[str, Geometry]) -> None:
    jobs = [
        PreparationJob(
            scan, likes[scan.scan_id], plan, scan_folder(options.output, scan.scan_id), options.seed
        )
        for scan in cohort.scans
    ]
    remove_index(options.output / INDEX_FILE)
    missing = [job for job in jobs if not is_prepared(job)]
    for _ in run_jobs(prepare_scan, missing, options.workers, "preparing"):
        pass
    log.info("%d scans prepared, %d were already", len(missing), len(jobs) - len(missing))


def remove_index(path: Path) -> None:
    """Remove the index of an earlier run, so that an interrupted run leaves no data set to train on.

    Raises:
        OutputError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be removed ({one_line(error)}); expected a writable folder"
        ) from error


def _write_index(options: PrepareOptions, name: str, plan: Plan, pairs: tuple[PairDocument, ...]) -> None:
    excluded = tuple(sorted(set(options.excluded)))
    index = IndexDocument(name=name, preparation=preparation_of(plan), excluded=excluded, pairs=pairs)
    write_json(options.output / INDEX_FILE, index.model_dump(mode="json"), decimals=None)


def write_patient_folds(options: PrepareOptions, usable: Sequence[str], patients: Set[str]) -> None:
    """Split the patients who have lesions left; of all usable ones resampling may have lost some.

    Args:
        options: of the run.
        usable: all candidates for the folds.
        patients: those to split.

    Raises:
        InputError: the output folder has other folds.
        OutputError: a file cannot be written.
    """
    if not options.folds:
        log.info("no folds, as --folds is 0")
        return
    folds = patient_folds(sorted(patients), options.folds, options.seed)
    document = FoldsDocument(
        seed=options.seed,
        count=options.folds,
        patients=len(patients),
        excluded=tuple(sorted(set(options.excluded))),
        lost=tuple(sorted(set(usable) - patients)),
    )
    write_folds(options.output, folds, document)
    sizes = ", ".join(str(len(fold.val)) for fold in folds)
    log.info("%d folds by seed %d, with %s patients to validate on", options.folds, options.seed, sizes)


def write_checks(output: Path, problems: Sequence[Problem]) -> None:
    """Write the problems of a data set to `checks.json`."""
    listed = [
        {
            "file": problem.file,
            "text": problem.text,
            "consequence": problem.consequence,
            "note": problem.is_note,
        }
        for problem in problems
    ]
    write_json(output / CHECKS_FILE, {"problems": listed})


def _numbers(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)
