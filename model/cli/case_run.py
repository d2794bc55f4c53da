"""One case from its input folder to its output folder."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from ..case.case import Case, CaseFiles, CaseResult, LesionOutcome, LesionResult, LesionStatus, Scan, Slot
from ..case.challenge import (
    discover,
    empty_labelmaps,
    output_paths,
    read_case,
    remove_partial_outputs,
    remove_stale_outputs,
    write_labelmaps,
)
from ..case.geometry import Array, Geometry
from ..errors import InputError, LongilesionError, OutputError, WeightsError, one_line
from ..inference.locate import LocatedLesions, Locator
from ..inference.merge import label_dtype, merge
from ..inference.report import RunRecord, lesion_table, point_words, write_extras
from ..propagation.confidence import PropagatedPoint
from ..propagation.pair_registrations import RegistrationCache
from ..propagation.register import DEFAULT_BACKEND, Backend, Registration, RegistrationImage, backend
from ..timing import Timings
from .segment import CaseRunOptions

if TYPE_CHECKING:  # torch is imported while the images are read, not before
    from ..inference.load import LoadedModel
    from ..inference.segmenter import LesionFailure

log = logging.getLogger(__name__)


class AllLesionsFailedError(LongilesionError):
    """No lesion of the case could be computed; its labelmaps are empty."""


class NamedBackend:
    """A back end by its name, imported when it is first needed: a case with all its clicks needs none."""

    def __init__(self, name: str, device: str) -> None:
        self._name = name
        self._device = device
        self._backend: Backend | None = None

    def load(self) -> Backend:
        """InputError where there is no such back end."""
        self._backend = self._backend or backend(self._name, self._device)
        return self._backend

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        return self.load().register(fixed, moving)


class Run:
    """Carries a case through its stages; what is finished can be written at any moment."""

    def __init__(self, options: CaseRunOptions) -> None:
        self.options = options
        self.timings = Timings()
        self.files: CaseFiles | None = None
        self.case: Case | None = None
        self.located = LocatedLesions((), (), ())
        self.lesion_ids: tuple[int, ...] = ()
        self.baseline_ml: dict[tuple[str, int], float] = {}
        self.backend = NamedBackend(
            options.case.backend or DEFAULT_BACKEND, options.model.registration_device
        )
        self.registrations = RegistrationCache(self.backend)
        self.model: LoadedModel | None = None
        self._lock = Lock()
        self._results: list[LesionResult] = []
        self._failures: list[LesionFailure] = []

    def execute(self) -> CaseResult:
        """Read, locate, predict, merge, write and verify.

        Raises:
            LongilesionError: as told in `errors`; when lesions were finished before it, they are written.
        """
        remove_stale_outputs(self.options.output_dir)
        if self.options.case.backend is not None:
            self.backend.load()  # a name that is none is told before anything is done
        try:
            with ThreadPoolExecutor(max_workers=1, thread_name_prefix="weights") as pool:
                loading = pool.submit(self._load_model)
                self._read_and_locate()
                self.model = loading.result()
            self._predict(self.model)
            result = self._write()
        except (InputError, WeightsError, OutputError):
            raise
        except Exception:
            try:
                self.write_unfinished()  # whatever went wrong, what is done is kept
            except Exception:  # and what went wrong first is what is told
                log.exception("the unfinished result could not be written")
            raise
        self._report(result)
        return result

    def write_unfinished(self) -> None:
        """Write the lesions that are done, and an all-zero labelmap for each scan that has none."""
        if self.case is None:
            files = self.files or discover(self.options.input_dir)
            write_labelmaps(empty_labelmaps(files), self.options.output_dir, verify=False)
            remove_partial_outputs(self.options.output_dir)
            return
        result = self._merged(ended=True)
        write_labelmaps(self._with_grids(result), self.options.output_dir, verify=False)
        remove_partial_outputs(self.options.output_dir)
        if self.options.extras_dir is not None:
            self._write_extras(result)

    @property
    def failed_ids(self) -> tuple[int, ...]:
        """Lesions that could not be computed, while others could."""
        with self._lock:
            ids = {failure.prompt.lesion_id for failure in self._failures}
        return tuple(sorted(ids | {failure.lesion_id for failure in self.located.failures}))

    @property
    def finished(self) -> tuple[LesionResult, ...]:
        with self._lock:
            return tuple(self._results)

    def _load_model(self) -> LoadedModel:
        with self.timings.stage("import torch"):
            from ..inference.load import load_model
        with self.timings.stage("load weights"):
            return load_model(self.options.weights_dir, self.options.model)

    def _read_and_locate(self) -> None:
        with self.timings.stage("read"):
            self.files = discover(self.options.input_dir)
            case = read_case(self.files, self.options.clicks)
        for warning in case.warnings:
            log.warning("%s", warning)
        with self.timings.stage("locate"):
            locator = Locator(case, self.registrations)
            self.lesion_ids = tuple(locator.lesion_ids())
            self.baseline_ml = {
                (scan.name, lesion_id): label.voxels * scan.geometry.voxel_volume_ml
                for scan in case.baseline.scans
                for lesion_id, label in locator.labels[scan.name].items()
            }
            self.case = case
            self.located = locator.locate()

    def _predict(self, model: LoadedModel) -> None:
        from ..inference.robust import case_segmenter
        from ..inference.segmenter import LesionFailure

        prompts = self.located.prompts
        segmenter = case_segmenter(model, self.options.case, self.timings)
        for number, answer in enumerate(segmenter.segment(prompts), 1):
            with self._lock:
                if isinstance(answer, LesionFailure):
                    self._failures.append(answer)
                else:
                    self._results.append(answer)
            _log_answer(answer, f"{number}/{len(prompts)}", self.located.estimates.get(answer.prompt))
        reasons = [one_line(failure.error) for failure in self._failures]
        reasons += [lesion.reason for lesion in self.located.failures]
        if reasons and not self._results:
            raise AllLesionsFailedError(f"none of the {len(reasons)} lesions could be computed: {reasons[0]}")

    def _write(self) -> CaseResult:
        with self.timings.stage("merge"):
            result = self._merged(ended=False)
        with self.timings.stage("write"):
            write_labelmaps(self._with_grids(result), self.options.output_dir)
        return result

    def _merged(self, ended: bool) -> CaseResult:
        assert self.case is not None
        dtype = label_dtype(self.lesion_ids)
        results = self.finished
        labelmaps: dict[Slot, Array] = {}
        for scan in self.case.followup.scans:
            mine = [result for result in results if result.prompt.followup is scan]
            labelmaps[scan.slot] = merge(scan, mine, self.options.case.overlap, dtype)
        warnings = (*self.case.warnings, *self.located.warnings)
        if self.model is not None:
            warnings += (*self.model.warnings, *self.model.ensemble.notes)
        records = self._records(labelmaps, results, LesionStatus.UNFINISHED if ended else LesionStatus.FAILED)
        return CaseResult(labelmaps, records, warnings)

    def _records(
        self, labelmaps: dict[Slot, Array], results: tuple[LesionResult, ...], unanswered: LesionStatus
    ) -> tuple[LesionOutcome, ...]:
        records = []
        done = {id(result.prompt): result for result in results}
        with self._lock:
            failed = {id(failure.prompt): one_line(failure.error) for failure in self._failures}
        for prompt in self.located.prompts:
            before = self.baseline_ml.get((prompt.baseline.name, prompt.lesion_id), 0.0)
            result = done.get(id(prompt))
            if result is None:
                status = LesionStatus.FAILED if id(prompt) in failed else unanswered
                message = failed.get(id(prompt))
                records.append(LesionOutcome(prompt.lesion_id, status, prompt, before, None, message))
                continue
            after = _volume_ml(prompt.followup, labelmaps[prompt.followup.slot], result)
            message = "other lesions claimed all of its voxels" if not after and result.mask.any() else None
            status = LesionStatus.SEGMENTED if after else LesionStatus.EMPTY
            records.append(LesionOutcome(prompt.lesion_id, status, prompt, before, after, message))
        for lesion in self.located.unanswered:
            records.append(LesionOutcome(lesion.lesion_id, LesionStatus.OUT_OF_VIEW, message=lesion.reason))
        for lesion in self.located.failures:
            records.append(LesionOutcome(lesion.lesion_id, LesionStatus.FAILED, message=lesion.reason))
        return tuple(records)

    def _with_grids(self, result: CaseResult) -> dict[Slot, tuple[Array, Geometry]]:
        assert self.case is not None
        return {
            scan.slot: (result.labelmaps[scan.slot], scan.file_geometry) for scan in self.case.followup.scans
        }

    def _write_extras(self, result: CaseResult) -> None:
        options = self.options
        assert self.case is not None and options.extras_dir is not None
        slots = [scan.slot for scan in self.case.followup.scans]
        record = RunRecord(
            options={
                "overlap": options.case.overlap,
                "clicks": options.clicks,
                "backend": options.case.backend or DEFAULT_BACKEND,
                "boost": options.case.boost,
                "tta": options.model.tta,
                "deterministic": options.model.deterministic,
            },
            case=self.case,
            result=result,
            lesions=self.finished,
            model=self.model,
            registrations=self.registrations.records,
            outputs=tuple(output_paths(options.output_dir, slots)),
            seconds=self.timings.seconds,
            estimates=self.located.estimates,
        )
        write_extras(options.extras_dir, record, options.per_lesion, options.case.keep_probabilities)

    def _report(self, result: CaseResult) -> None:
        assert self.case is not None
        if self.options.extras_dir is not None:
            with self.timings.stage("extras"):
                self._write_extras(result)
        log.info("\n%s\n", lesion_table(result.records, self.located.estimates))
        for path in output_paths(self.options.output_dir, [scan.slot for scan in self.case.followup.scans]):
            log.info("labelmap: %s", path)
        if self.options.extras_dir is not None:
            log.info("record:   %s", self.options.extras_dir / "run.json")


def _volume_ml(scan: Scan, labelmap: Array, result: LesionResult) -> float:
    voxels = scan.axes.array(labelmap)[result.box.slices] == result.prompt.lesion_id
    return int(np.count_nonzero(voxels)) * scan.geometry.voxel_volume_ml


def _log_answer(
    answer: LesionResult | LesionFailure, progress: str, estimate: PropagatedPoint | None
) -> None:
    prompt = answer.prompt
    where = f"lesion {prompt.lesion_id} in {prompt.followup.name} ({progress})"
    if isinstance(answer, LesionResult):
        volume = int(np.count_nonzero(answer.mask)) * prompt.followup.geometry.voxel_volume_ml
        point = point_words(prompt.followup_point, estimate)
        log.info("%s: %.2f ml, point %s", where, volume, point)
    else:
        log.error("%s: failed: %s", where, one_line(answer.error))
