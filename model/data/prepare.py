"""What `train prepare` does: a data set as it comes -> one that training reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

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
from .scan_survey import ScanSurvey, SurveyJob, known_survey, survey_scan
from .store import INDEX_FILE, IndexDocument, PairDocument, read_document, scan_folder
from .workers import each

CHECKS_FILE = "checks.json"
_SURVEY_FOLDER = "survey"


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """``plan`` is that of another data set, taken as it is; ``plan_options`` are not looked at then.

    Without ``folds`` (0) none are drawn, as for pretraining on everybody.
    """

    data: Path
    output: Path
    form: str = "auto"
    plan_options: PlanOptions = field(default_factory=PlanOptions)
    plan: Path | None = None
    folds: int = 5
    seed: int = 0
    excluded: tuple[str, ...] = ()
    workers: int = 1
    is_strict: bool = False
    check_only: bool = False


def prepare(options: PrepareOptions, say: Callable[[str], None]) -> None:
    """Check, plan, preprocess and split a data set; what was done before of the same input is not repeated.

    Args:
        say: takes a line for the user.

    Raises:
        InputError: the data set cannot be read, nothing of it can be used, or strictness forbids to go on.
        OutputError: the output cannot be written.
        WeightsError: the given plan is none.
    """
    checked, surveys = _checked(options, say)
    if options.check_only:
        return
    cohort = checked.cohort
    _check_folds(options, cohort)
    plan = _planned(options, cohort, surveys)
    architecture = plan.architecture
    say(
        f"plan: spacing {_numbers(plan.spacing_zyx)} mm, patch {_numbers(plan.patch_size_zyx)} (z y x), "
        f"{len(architecture.strides)} stages of {_numbers(architecture.features_per_stage)} features"
    )
    geometries = {scan.scan_id: surveys[scan.scan_id].geometry for scan in cohort.scans}
    likes = _sign_givers(cohort, geometries)
    _preprocess(options, cohort, plan, likes, say)
    grids = {name: prepared_grid(grid, likes[name], plan) for name, grid in geometries.items()}
    pairs, vanished = prepared_pairs(options.output, cohort, geometries, grids)
    for problem in vanished:
        say(str(problem))
    _write_checks(options.output, [*checked.problems, *vanished])
    if not pairs:
        raise InputError(f"{options.data}: no lesion is left at the plan's spacing; expected one or more")
    _write_folds(options, cohort.patients, {pair.patient_id for pair in pairs}, say)  # refuses other ones
    write_sources(options.output, cohort)
    _write_index(options, cohort.name, plan, pairs)


def _checked(
    options: PrepareOptions, say: Callable[[str], None]
) -> tuple[CheckedCohort, dict[str, ScanSurvey]]:
    """Read and check the data set; every problem of it is told before it is given up.

    Folds that the folder's own ones forbid are refused first, unless nothing but checks is asked for.
    """
    cohort = read_cohort(options.data, options.form)
    for name in sorted(set(options.excluded) - set(cohort.patients)):
        say(f"note: {options.data}: has no patient {name}; nothing of them is excluded, as nothing is there")
    cohort = cohort.without(frozenset(options.excluded))
    if options.folds and not options.check_only:  # before anything is written
        check_folds(options.output, cohort.patients, options.folds, options.seed)
    surveys = _surveys(options, cohort)
    checked = check_cohort(cohort, surveys)
    for problem in checked.problems:
        say(str(problem))
    _write_checks(options.output, checked.problems)
    kept, faults = checked.cohort, len(checked.faults)
    say(
        f"{cohort.name}: {faults} problems, {len(checked.problems) - faults} notes; "
        f"{len(kept.lesions)} lesions in {len(kept.scans)} of {len(cohort.scans)} scans of "
        f"{len(kept.patients)} patients can be used"
    )
    if options.is_strict and checked.faults:
        raise InputError(
            f"{options.data}: {len(checked.faults)} problems, listed above and in "
            f"{options.output / CHECKS_FILE}; expected none with --strict"
        )
    if not kept.lesions:
        raise InputError(
            f"{options.data}: no lesion can be used, for the reasons above; expected lesions that a baseline "
            "and a follow-up of one patient show"
        )
    return checked, surveys


def _check_folds(options: PrepareOptions, cohort: Cohort) -> None:
    """Refuse impossible and other folds now rather than after hours, before the data set is touched."""
    if options.folds:
        output, patients = options.output, cohort.patients
        patient_folds(patients, options.folds, options.seed)
        added = added_patients(output, patients, _prepared_patients(output, cohort))
        check_folds(output, patients, options.folds, options.seed, added)


def _prepared_patients(output: Path, cohort: Cohort) -> set[str]:
    """Patients of whom the folder holds a prepared scan already, whatever it was made from."""
    return {
        scan.patient_id
        for scan in cohort.scans
        if read_document(scan_folder(output, scan.scan_id)) is not None
    }


def _surveys(options: PrepareOptions, cohort: Cohort) -> dict[str, ScanSurvey]:
    """What each scan's files tell, by scan."""
    jobs = [SurveyJob(scan, _survey_file(options.output, scan), options.seed) for scan in cohort.scans]
    known = {job.scan.scan_id: known_survey(job) for job in jobs}
    surveys = {name: survey for name, survey in known.items() if survey is not None}
    missing = [job for job in jobs if job.scan.scan_id not in surveys]
    for job, survey in each(survey_scan, missing, options.workers, "checking"):
        surveys[job.scan.scan_id] = survey
    return surveys


def _survey_file(output: Path, scan: RawScan) -> Path:
    return output / _SURVEY_FOLDER / f"{quote(scan.scan_id, safe=' +=@')}.json"


def _planned(options: PrepareOptions, cohort: Cohort, surveys: Mapping[str, ScanSurvey]) -> Plan:
    """Write the plan, and what it was made from."""
    fingerprint = fingerprint_of([surveys[scan.scan_id] for scan in cohort.scans])
    write_fingerprint(options.output, fingerprint)
    write_dataset(options.output, len(cohort.scans))
    if options.plan is not None:
        return transfer_plan(options.plan, options.output, cohort.name)
    planned = plan_configuration(fingerprint, options.plan_options)
    return write_plan(options.output, cohort.name, fingerprint, planned)


def _sign_givers(cohort: Cohort, geometries: Mapping[str, Geometry]) -> dict[str, Geometry]:
    """For each scan the geometry of its patient's last one, whose axis signs all of them take.

    Inference turns a baseline to its follow-up; of two scans that is the same. Signs rarely differ.
    """
    last: dict[str, RawScan] = {}
    for scan in cohort.scans:
        if scan.patient_id not in last or scan.order >= last[scan.patient_id].order:
            last[scan.patient_id] = scan
    return {scan.scan_id: geometries[last[scan.patient_id].scan_id] for scan in cohort.scans}


def _preprocess(
    options: PrepareOptions,
    cohort: Cohort,
    plan: Plan,
    likes: Mapping[str, Geometry],
    say: Callable[[str], None],
) -> None:
    jobs = [
        PreparationJob(
            scan, likes[scan.scan_id], plan, scan_folder(options.output, scan.scan_id), options.seed
        )
        for scan in cohort.scans
    ]
    _forget_index(options.output / INDEX_FILE)
    missing = [job for job in jobs if not is_prepared(job)]
    for _ in each(prepare_scan, missing, options.workers, "preparing"):
        pass
    say(f"{len(missing)} scans prepared, {len(jobs) - len(missing)} were already")


def _forget_index(path: Path) -> None:
    """Remove the index of an earlier run: stopped halfway, this one leaves no data set to train on."""
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


def _write_folds(
    options: PrepareOptions, usable: Sequence[str], patients: Set[str], say: Callable[[str], None]
) -> None:
    """The folds of the patients of whom lesions are left; of all usable ones, some may be lost."""
    if not options.folds:
        say("no folds, as asked for")
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
    say(f"{options.folds} folds by seed {options.seed}, with {sizes} patients to validate on")


def _write_checks(output: Path, problems: Sequence[Problem]) -> None:
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
