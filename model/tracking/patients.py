"""What the command ``track`` does: patients one after the other, read, followed and written."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..case.lesion_json import check_writable
from ..case.scans import ClickUnits
from ..cli.arguments import model_options
from ..cli.point_options import choice_of, pair
from ..errors import InputError, LongilesionError, one_line
from ..inference.boost_options import Boosting, BoostOptions
from ..inference.robust import RobustSegmenter, SegmenterOptions, make_segmenter
from ..prompts.sampling import ChoiceOptions
from ..propagation.confidence import ConfidenceOptions, is_estimated
from ..propagation.register import DEFAULT_BACKEND, Backend, backend
from .discovery import discover_series
from .fates import FateOptions, LesionFate
from .series import ConfidenceRule, FollowOptions, PromptKind, Topology, TrackedTimePoint, read_series
from .series_files import PatientFiles
from .tracker import follow_each
from .writer import RECORD_NAME, SeriesWriter, remove_stale, safe_names

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrackOptions:
    """All choices of a run; see `track.add_arguments` for what each does."""

    series: Path
    output: Path
    source: str | None = None
    units: ClickUnits = "voxel"
    backend: str = DEFAULT_BACKEND
    follow: FollowOptions = FollowOptions()
    segmenter: SegmenterOptions = SegmenterOptions()

    def settings(self) -> dict[str, Any]:
        """What the record of a series says of how it was made."""
        return {
            "backend": self.backend,
            "follow": asdict(self.follow),
            "segmenter": self.segmenter.settings(),
            "clicks": self.units,
        }


def options_of(arguments: argparse.Namespace) -> TrackOptions:
    """The options of a parsed command line.

    Raises:
        InputError: values out of their range, or that clash.
    """
    return TrackOptions(
        series=arguments.series,
        output=arguments.output,
        source=arguments.source,
        units=arguments.clicks,
        backend=arguments.backend or DEFAULT_BACKEND,
        follow=_follow(arguments),
        segmenter=_segmenter(arguments),
    )


def _follow(arguments: argparse.Namespace) -> FollowOptions:
    fate = FateOptions(
        min_probability=arguments.min_probability,
        min_mean_probability=arguments.min_mean_probability,
        min_volume_ml=arguments.min_volume_ml,
        min_diameter_mm=arguments.min_diameter_mm,
        hu_window=pair(arguments.hu_window),
    )
    return FollowOptions(
        topology=Topology(arguments.topology),
        previous_mask=arguments.previous_mask,
        prompt=PromptKind(arguments.prompt),
        choice=_choice(arguments),
        seed=arguments.seed,
        overlap=arguments.overlap,
        fate=fate,
        confidence=_confidence(arguments),
        confidence_options=ConfidenceOptions(flag_mm=_positive("--flag-mm", arguments.flag_mm)),
    )


def _confidence(arguments: argparse.Namespace) -> ConfidenceRule:
    """As chosen; where the registration is given, the way back is that of the way there and says nothing."""
    if not is_estimated(arguments.backend or DEFAULT_BACKEND):
        return ConfidenceRule.SPREAD
    return ConfidenceRule(arguments.confidence)


def _segmenter(arguments: argparse.Namespace) -> SegmenterOptions:
    return SegmenterOptions(
        name=arguments.segmenter,
        weights_dir=arguments.weights,
        model=model_options(arguments),
        boost=BoostOptions(
            Boosting(arguments.boost), arguments.boost_mm, arguments.boost_count, arguments.seed
        ),
        component_rule=arguments.component_rule,
        component_limit_mm=_positive("--component-mm", arguments.component_mm),
    )


def _positive(option: str, value: float) -> float:
    if not value > 0:
        raise InputError(f"{option} {value:g}: expected more than 0")
    return value


def _choice(arguments: argparse.Namespace) -> ChoiceOptions | None:
    choice = choice_of(arguments)
    if arguments.sample_probability is not None and ":" in arguments.segmenter:
        raise InputError("--sample-probability: needs a model of ours, not your own function as --segmenter")
    return choice


def track(options: TrackOptions) -> int:
    """Follow all patients; returns the exit code, that of the first failure.

    One patient's failure leaves the others whole; what failed is told in one line on stderr.

    Raises:
        LongilesionError: the series, weights or options cannot be used, or the only patient failed.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    patients = discover_series(options.series)
    check_writable(options.output / RECORD_NAME)
    method = backend(options.backend, options.segmenter.model.registration_device)
    segmenter = make_segmenter(options.segmenter)
    folders = safe_names(files.patient for files in patients)
    errors: dict[str, BaseException] = {}
    failed: list[str] = []
    for number, files in enumerate(patients, 1):
        log.info("patient %s (%d of %d)", files.patient, number, len(patients))
        try:
            failed += _track_patient(
                files, options, method, segmenter, options.output / folders[files.patient]
            )
        except Exception as error:
            if len(patients) == 1:
                raise
            _log_failure(files.patient, error)
            errors[files.patient] = error
    _tell(errors, failed)
    codes = [getattr(error, "exit_code", LongilesionError.exit_code) for error in errors.values()]
    return codes[0] if codes else 0


def _track_patient(
    files: PatientFiles, options: TrackOptions, method: Backend, segmenter: RobustSegmenter, folder: Path
) -> list[str]:
    """Follow one patient; returns the lesions that could not be computed, in words."""
    start = time.perf_counter()
    remove_stale(folder, files)
    series = read_series(files, options.source, options.units)
    for warning in series.warnings:
        log.warning("%s", warning)
    settings = {**options.settings(), "model": segmenter.notes}
    writer = SeriesWriter(folder, series, settings, options.follow.prompt)
    failed = []
    for answered in follow_each(series, segmenter, method, options.follow):
        writer.add(answered)
        failed += _failures(files.patient, answered)
    log.info("record: %s (%.0f s)", writer.record_path, time.perf_counter() - start)
    return failed


def _failures(patient: str, answered: TrackedTimePoint) -> list[str]:
    lost = [
        lesion.lesion_id
        for lesion in answered.lesions
        if lesion.fate is not None and lesion.fate.fate is LesionFate.FAILED
    ]
    return [f"{patient} at {answered.name}: {', '.join(map(str, sorted(set(lost))))}"] if lost else []


def _log_failure(patient: str, error: Exception) -> None:
    if isinstance(error, LongilesionError):
        log.error("patient %s failed: %s", patient, one_line(error))
    else:
        log.error("patient %s failed: an unexpected fault", patient, exc_info=error)


def _tell(errors: dict[str, BaseException], failed: list[str]) -> None:
    """What went wrong in one line on stderr, where the user looks for it."""
    parts = []
    if failed:
        parts.append(f"lesions that could not be followed: {'; '.join(failed)}")
    if errors:
        reasons = "; ".join(f"{patient} ({one_line(error)})" for patient, error in errors.items())
        parts.append(f"patients that failed: {reasons}")
    if parts:
        sys.stdout.flush()
        print(f"{'. '.join(parts)}; all others are complete", file=sys.stderr, flush=True)
