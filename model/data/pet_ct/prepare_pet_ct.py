"""Prepare a PET/CT data set for training: check, plan, preprocess, split into folds."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from ...case.atomic_files import remove_partial_files
from ...case.folder_lock import locked_folder
from ...case.lesion_json import write_json
from ...errors import InputError
from ...network.plan import PetCtPlan
from ..dataset import Problem
from ..folds import check_folds
from ..formats.pet_ct_sets import read_pet_ct_cohort
from ..planning.fingerprint import Fingerprint, intensities_of, write_fingerprint
from ..planning.plan_files import (
    pet_ct_preparation_of,
    transfer_pet_ct_plan,
    write_pet_ct_dataset,
    write_pet_ct_plan,
)
from ..planning.planner import plan_configuration
from ..prepare import (
    SURVEY_FOLDER,
    PrepareOptions,
    check_planned_folds,
    check_strictly,
    log_plan,
    log_problems,
    log_unknown_exclusions,
    remove_index,
    write_checks,
    write_patient_folds,
)
from ..store import INDEX_FILE, IndexDocument, PairDocument, scan_folder
from ..workers import run_jobs
from .prepare_study import StudyJob, is_study_prepared, prepare_study
from .prepared_study import write_study_sources
from .studies import PetCtCohort
from .study_survey import StudySurvey, survey_studies

log = logging.getLogger(__name__)

_Surveys = Mapping[str, StudySurvey]


def prepare_pet_ct(options: PrepareOptions) -> None:
    """Check, plan, preprocess and split a PET/CT data set; studies that are prepared already are kept.

    Problems and progress are logged.

    Raises:
        InputError: the data set cannot be read, nothing of it can be used, or it has problems and
            `is_strict` is set.
        OutputError: the output cannot be written, or another run writes there.
        WeightsError: the given plan cannot be used.
    """
    with locked_folder(options.output):
        remove_partial_files(options.output, options.output / SURVEY_FOLDER)
        cohort, surveys = _checked_studies(options)
        if options.check_only:
            return
        ids = ((study.scan_id, study.patient_id) for study in cohort.studies)
        check_planned_folds(options, cohort.patients, ids)
        plan = _planned(options, cohort, surveys)
        log_plan(plan.network)
        _preprocess(options, cohort, plan)
        write_patient_folds(options, cohort.patients, set(cohort.patients))
        write_study_sources(options.output, cohort)
        _write_index(options, cohort, plan)


def _checked_studies(options: PrepareOptions) -> tuple[PetCtCohort, dict[str, StudySurvey]]:
    """The usable studies; all problems are logged before raising for any."""
    cohort = read_pet_ct_cohort(options.data)
    log_unknown_exclusions(options, cohort.patients)
    cohort = cohort.without_patients(frozenset(options.excluded))
    if options.folds and not options.check_only:  # before anything is written
        check_folds(options.output, cohort.patients, options.folds, options.seed)
    folder = options.output / SURVEY_FOLDER
    surveys = survey_studies(cohort.studies, folder, options.seed, options.workers)
    problems = [*cohort.problems, *_problems(cohort, surveys)]
    faults = [problem for problem in problems if not problem.is_note]
    log_problems(problems)
    write_checks(options.output, problems)
    usable = tuple(study for study in cohort.studies if surveys[study.scan_id].fault is None)
    log.info(
        "%s: %d problems, %d notes; %d of %d studies of %d patients can be used, %d of them with tumour",
        cohort.name,
        len(faults),
        len(problems) - len(faults),
        len(usable),
        len(cohort.studies),
        len(cohort.patients),
        sum(surveys[study.scan_id].tumor_voxels > 0 for study in usable),
    )
    check_strictly(options, len(faults))
    if not usable:
        raise InputError(f"{options.data}: no study can be used, for the reasons above; expected one or more")
    return replace(cohort, studies=usable), surveys


def _problems(cohort: PetCtCohort, surveys: _Surveys) -> list[Problem]:
    found = [one for study in cohort.studies for one in surveys[study.scan_id].problems(study)]
    return sorted(found, key=lambda problem: problem.is_note)


def _planned(options: PrepareOptions, cohort: PetCtCohort, surveys: _Surveys) -> PetCtPlan:
    """Write the fingerprint and the plan."""
    used = [surveys[study.scan_id] for study in cohort.studies]
    fingerprint = Fingerprint(
        spacings_zyx=tuple(one.spacing_zyx for one in used if one.spacing_zyx is not None),
        shapes_zyx=tuple(one.shape_zyx for one in used),
        foreground=intensities_of([one.hu for one in used], "HU", "CTs in HU with their tumour"),
        sampled_voxels=sum(len(one.hu) for one in used),
    )
    pet = intensities_of([one.suv for one in used], "SUV", "PETs in SUV with their tumour")
    write_fingerprint(options.output, fingerprint)
    write_pet_ct_dataset(options.output, len(cohort.studies), max(one.organs for one in used))
    if options.plan is not None:
        return transfer_pet_ct_plan(options.plan, options.output, cohort.name)
    planned = plan_configuration(fingerprint, options.plan_options)
    return write_pet_ct_plan(options.output, cohort.name, fingerprint, pet, planned)


def _preprocess(options: PrepareOptions, cohort: PetCtCohort, plan: PetCtPlan) -> None:
    jobs = [
        StudyJob(study, plan, scan_folder(options.output, study.scan_id), options.seed)
        for study in cohort.studies
    ]
    remove_index(options.output / INDEX_FILE)
    missing = [job for job in jobs if not is_study_prepared(job)]
    for _ in run_jobs(prepare_study, missing, options.workers, "preparing"):
        pass
    log.info("%d studies prepared, %d were already", len(missing), len(jobs) - len(missing))


def _write_index(options: PrepareOptions, cohort: PetCtCohort, plan: PetCtPlan) -> None:
    """List each study as its own follow-up, without lesions."""
    pairs = tuple(
        PairDocument(patient_id=study.patient_id, baseline=study.scan_id, followup=study.scan_id, lesions=())
        for study in cohort.studies
    )
    index = IndexDocument(
        name=cohort.name,
        preparation=pet_ct_preparation_of(plan),
        excluded=tuple(sorted(set(options.excluded))),
        pairs=pairs,
    )
    write_json(options.output / INDEX_FILE, index.model_dump(mode="json"), decimals=None)
