"""One case from its input folder to its output folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..case.case import Case, CaseFiles
from ..case.case_places import CasePlaces, PairPlaces, PlatformPlaces
from ..case.challenge import empty_labelmaps, read_case, write_labelmap_files
from ..case.folder_lock import locked_folder
from ..case.geometry import Array, Geometry
from ..errors import InputError, OutputError, WeightsError
from ..inference.case_result import CaseResult
from ..inference.lazy_backend import LazyBackend
from ..inference.run_report import (
    RunRecord,
    lesion_table,
    run_document,
    run_file,
    write_extras,
    write_unread_record,
)
from ..inference.segment_case import CaseSegmentation
from ..inference.time_budget import Clock, TimeBudget
from ..inference.timed_backend import TimedBackend
from ..measure.measurement_names import MEASUREMENT_NAMES
from ..propagation.pair_registrations import RegistrationCache
from ..propagation.register import DEFAULT_BACKEND
from ..timing import Timings
from .segment import CaseRunOptions

if TYPE_CHECKING:  # torch is imported while the images are read, not before
    from ..inference.load import LoadedModel

log = logging.getLogger(__name__)

# Labelmaps are compressed, written, and read back; scans are only read.
_WRITING_TIMES_READING = 1.5


class CaseRun:
    """Reads a case, segments it, and writes its outputs; finished lesions can be written at any time.

    Args:
        options: of the run.
        model: loaded already; None loads that of the options.
        clock: tells the time for the budget of the options.
    """

    def __init__(
        self, options: CaseRunOptions, model: LoadedModel | None = None, clock: Clock = time.monotonic
    ) -> None:
        self.options = options
        self._budget = TimeBudget(options.time_budget, clock) if options.time_budget is not None else None
        self._output_lock = Lock()
        self._is_writing, self.is_closed = False, False
        self._model = model
        self.timings = Timings()
        self.places = _places_of(options)
        self.backend = LazyBackend(options.case.backend, options.model.registration_device)
        timed = self._budget and TimedBackend(self.backend, options.case.backend, self._budget)
        self._registrations = RegistrationCache(timed or self.backend)
        self._files: CaseFiles | None = None
        self._segmentation: CaseSegmentation | None = None
        self._is_locking, self._locks = Lock(), ExitStack()
        self._is_locked = False

    def execute(self) -> CaseResult:
        """Read, segment, write and verify.

        Raises:
            LongilesionError: see `errors`; lesions that were finished before an error of the computation
                are written.
        """
        self._lock_folders()
        self._remove_stale_files()
        if self.options.case.backend is not None:
            self.backend.load()  # an unknown name is reported before any work is done
        try:
            result = self._segment()
            self._begin_writing()
            with self.timings.stage("write"):
                write_labelmap_files(self._with_grids(result))
        except (InputError, WeightsError, OutputError):
            raise
        except Exception:
            if self.is_closed:
                raise
            try:
                self.write_unfinished()  # whatever went wrong, finished lesions are kept
            except Exception:  # the first error is the one to report
                log.exception("the unfinished result could not be written")
            raise
        self._report(result)
        return result

    @property
    def is_late(self) -> bool:
        """True once the time is spent; never before the case is read, or while its results are written."""
        is_open = self._segmentation is not None and not (self._is_writing or self.is_closed)
        return is_open and self._budget is not None and self._budget.left <= 0

    def _begin_writing(self) -> None:
        """Write from here on, unless another thread already does so because the run is late."""
        with self._output_lock:
            if self.is_closed:
                raise OutputError("the run is late and its results were written; they are not replaced")
            self._is_writing = True

    def finish_in_time(self) -> dict[str, Any]:
        """Write what is finished, and of the other lesions the baseline mask at their point.

        To be called from another thread while `execute` works, whose results are dropped from then on.

        Returns:
            The record of the run.

        Raises:
            OutputError: an output cannot be written or does not read back.
        """
        with self._output_lock:
            if self._is_writing:
                raise OutputError("the results are being written; expected to wait for them")
            self.is_closed = True
        assert self._segmentation is not None and self._budget is not None
        from .late_case import finish_late  # brings torch

        self._segmentation, result = finish_late(self._segmentation, self._budget)
        is_finished = not result.unfinished_ids
        write_labelmap_files(self._with_grids(result))
        self.places.remove_partial()
        self._report(result, is_finished)
        return run_document(self._record(result, is_finished))

    def release_folders(self) -> None:
        """Let other runs write into the output folders; a process that ends does so by itself."""
        with self._is_locking:
            self._locks.close()
            self._is_locked = False

    def write_unfinished(self) -> str:
        """Write the lesions that are finished; scans without any get an all-zero labelmap.

        The interface requires a labelmap of every follow-up scan. The exit code, the returned sentence, and
        ``finished`` in run.json show that lesions without voxels have not been segmented.

        Returns:
            A sentence that names the lesions that are not finished.

        Raises:
            InputError: the files of the case cannot be found.
            OutputError: they cannot be written, or another run writes into the folder.
        """
        self._lock_folders()  # a signal may come before the run has begun
        if self._segmentation is None:
            return self._write_unread()
        result = self._segmentation.merge(is_finished=False)
        write_labelmap_files(self._with_grids(result), verify=False)
        self.places.remove_partial()
        if self.options.extras_dir is not None:
            self._write_extras(result, is_finished=False)
        return _unfinished_words(result)

    def _write_unread(self) -> str:
        """Write empty labelmaps before the case is read; returns a sentence about that.

        A case without baseline masks gets no labelmaps: only the loaded weights decide whether it is refused.
        """
        self.places.remove_partial()
        self._remove_stale_files()
        files = self._files or self.places.find()
        is_checked = self._files is not None or all(scan.mask is not None for scan in files.baseline)
        empty = empty_labelmaps(files) if is_checked else {}
        labelmaps = {self.places.labelmap(slot): labelmap for slot, labelmap in empty.items()}
        write_labelmap_files(labelmaps, verify=False)
        if self.options.extras_dir is not None:
            write_unread_record(self.options.extras_dir, list(labelmaps))
        if labelmaps:
            return "UNFINISHED: no lesion was segmented; the empty labelmaps say nothing about them"
        return "UNFINISHED: no lesion was segmented, and no labelmap was written"

    def _remove_stale_files(self) -> None:
        """Delete labelmaps and record of an earlier run."""
        self.places.remove_stale()
        if self.options.extras_dir is None:
            return
        for name in (run_file(Path()).name, *MEASUREMENT_NAMES):
            record = self.options.extras_dir / name
            try:
                record.unlink(missing_ok=True)
            except OSError as error:
                raise OutputError(
                    f"{record}: cannot be replaced ({error.strerror}); expected a writable folder"
                ) from error

    def _lock_folders(self) -> None:
        """Lock the output folders until the process ends: another run must not mix in its files."""
        with self._is_locking:
            if self._is_locked:
                return
            folders = (self.options.output_dir, self.options.extras_dir)
            for folder in dict.fromkeys(folder for folder in folders if folder is not None):
                self._locks.enter_context(locked_folder(folder))
            self._is_locked = True

    def _segment(self) -> CaseResult:
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="weights") as pool:
            loading = pool.submit(self._load_model)  # while the case is read and its lesions are located
            self._files = self._found(loading.result)
            case = self._read(self._files)
            segmentation = CaseSegmentation(
                case, self.options.case, self._registrations, self.timings, self._budget
            )
            self._segmentation = segmentation
            return segmentation.run(loading.result)

    def _load_model(self) -> LoadedModel:
        if self._model is not None:
            return self._model
        with self.timings.stage("import torch"):
            from ..inference.load import load_model
        with self.timings.stage("load weights"):
            return load_model(self.options.weights_dir, self.options.model)

    def _found(self, model: Callable[[], LoadedModel]) -> CaseFiles:
        """The files of the case; masks may be missing if the network takes none, or on request."""
        files = self.places.find()
        is_bare = any(scan.mask is None for scan in files.baseline)
        if is_bare and not self.options.case.segment_baseline and model().ensemble.variant.takes_mask:
            self.places.require_masks(files)
        return files

    def _read(self, files: CaseFiles) -> Case:
        with self.timings.stage("read"):
            case = read_case(files, self.options.clicks)
        if self._budget is not None:
            self._budget.keep_for_writing(_WRITING_TIMES_READING * self.timings.seconds["read"])
        for warning in case.warnings:
            log.warning("%s", warning)
        return case

    def _report(self, result: CaseResult, is_finished: bool = True) -> None:
        if self.options.extras_dir is not None:
            with self.timings.stage("extras"):
                self._write_extras(result, is_finished)
                self._write_measurements(result)
        log.info("\n%s\n", lesion_table(result.outcomes))
        for path in self._outputs(result):
            log.info("labelmap: %s", path)
        if self.options.extras_dir is not None:
            log.info("record:   %s", self.options.extras_dir / "run.json")

    def document(self, result: CaseResult) -> dict[str, Any]:
        """The record of the run, as it is written to run.json."""
        return run_document(self._record(result))

    def _write_extras(self, result: CaseResult, is_finished: bool = True) -> None:
        options = self.options
        assert options.extras_dir is not None
        record = self._record(result, is_finished)
        write_extras(options.extras_dir, record, options.per_lesion, options.case.keep_probabilities)

    def _record(self, result: CaseResult, is_finished: bool = True) -> RunRecord:
        options = self.options
        assert self._segmentation is not None
        return RunRecord(
            options={
                "overlap": options.case.overlap,
                "clicks": options.clicks,
                "backend": options.case.backend or DEFAULT_BACKEND,
                "boost": options.case.boost,
                "segment_baseline": options.case.segment_baseline,
                "tta": options.model.tta,
                "point_rounding": options.model.point_rounding,
                "deterministic": options.model.deterministic,
                "time_budget": options.time_budget,
            },
            result=result,
            model=self._segmentation.model,
            outputs=self._outputs(result),
            seconds=self.timings.seconds,
            is_finished=is_finished,
            baseline_name=self.places.baseline_name,
        )

    def _outputs(self, result: CaseResult) -> tuple[Path, ...]:
        """The labelmaps of the follow-ups and, where it lies beside them, of a segmented baseline."""
        outputs = [self.places.labelmap(slot) for slot in result.labelmaps]
        if self.places.baseline_name is not None and result.baseline is not None:
            outputs.append(self.options.output_dir / self.places.baseline_name)
        return tuple(outputs)

    def _with_grids(self, result: CaseResult) -> dict[Path, tuple[Array, Geometry]]:
        return {
            self.places.labelmap(slot): (labelmap, result.geometry(slot))
            for slot, labelmap in result.labelmaps.items()
        }

    def _write_measurements(self, result: CaseResult) -> None:
        """Measure the lesions of a finished run into the folder of its extras."""
        from ..report.case_measures import write_case_measurements  # after the labelmaps are safe

        assert self._segmentation is not None and self.options.extras_dir is not None
        model = self._segmentation.model
        folds = model.manifest.folds if model is not None else ()
        for path in write_case_measurements(self.options.extras_dir, result, self.places.patient, folds):
            log.info("measurements: %s", path)


def _unfinished_words(result: CaseResult) -> str:
    ids = result.unfinished_ids
    if not ids:
        return "all lesions were finished until then and were written"
    names = ", ".join(map(str, ids[:8])) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
    return f"UNFINISHED: not segmented, and empty in the labelmaps without being vanished: lesions {names}"


def _places_of(options: CaseRunOptions) -> CasePlaces:
    if options.pair is not None:
        return PairPlaces(options.pair, options.output_dir)
    return PlatformPlaces(options.input_dir, options.output_dir)
