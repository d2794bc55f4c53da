"""Report of a run: `run.json`, the table of lesions, and the optional images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..case.case import LesionResult, PointSource, PromptPoint, Scan
from ..case.images import write_image
from ..case.lesion_json import write_json
from ..case.text_files import aligned_text
from ..propagation.confidence import PropagatedPoint
from .case_result import CaseResult, LesionOutcome, LesionStatus
from .run_facts import computing_facts, files_facts, finite_number, grid_facts, memory_facts, software_facts

if TYPE_CHECKING:  # brings torch
    from .load import LoadedModel


@dataclass(frozen=True, eq=False)
class RunRecord:
    """Contents of the record of a run.

    Attributes:
        options: the options that matter for the result, as they are written.
        result: the segmented case.
        model: None if it was not loaded yet.
        outputs: the labelmaps' files.
        seconds: wall time by stage.
        is_finished: False if the run ended before all lesions were segmented.
        baseline_name: of the labelmap of a segmented baseline in the folder; None names it by its scan.
    """

    options: Mapping[str, Any]
    result: CaseResult
    model: LoadedModel | None
    outputs: tuple[Path, ...]
    seconds: Mapping[str, float]
    is_finished: bool = True
    baseline_name: str | None = None

    def baseline_path(self, scan: Scan) -> Path:
        """Where the labelmap of a segmented baseline scan lies in the folder."""
        return Path(self.baseline_name) if self.baseline_name else baseline_file(scan.slot, scan.time_point)


def run_file(folder: Path) -> Path:
    """The record of a run in the folder of its extras."""
    return folder / "run.json"


def write_unread_record(folder: Path, outputs: Sequence[Path]) -> None:
    """Write run.json of a run that ended before the case was read: nothing is known of its lesions.

    Raises:
        OutputError: it cannot be written.
    """
    document = {**software_facts(), "finished": False, "lesions": None, "outputs": list(outputs)}
    write_json(run_file(folder), document)


def write_extras(folder: Path, run: RunRecord, per_lesion: bool, probabilities: bool) -> None:
    """Write run.json, segmented baselines and, if wanted, masks and probabilities of each lesion.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_json(run_file(folder), run_document(run), decimals=None)  # grids need all of their digits
    baseline = run.result.baseline
    if baseline is not None:
        for scan in run.result.case.baseline.scans:
            if scan.slot in baseline.labelmaps:
                write_image(
                    folder / run.baseline_path(scan), baseline.labelmaps[scan.slot], scan.file_geometry
                )
    for lesion in (*(baseline.results if baseline is not None else ()), *run.result.lesions):
        stem = f"{lesion.prompt.followup.name}_lesion-{lesion.prompt.lesion_id:05d}"
        if per_lesion:
            _write_mask(folder / "lesions" / f"{stem}.mha", lesion)
        if probabilities:
            _write_probability(folder / "probabilities" / f"{stem}.mha", lesion)


def baseline_file(slot: str, time_point: str) -> Path:
    """Path of the labelmap of a segmented baseline scan in the folder."""
    return Path("baseline") / f"{slot}-{time_point}.mha"


def _write_mask(path: Path, lesion: LesionResult) -> None:
    """Write the lesion's own mask (0, 1) on the grid of its scan, before overlaps are resolved."""
    scan = lesion.prompt.followup
    mask = np.zeros(scan.geometry.shape_zyx, np.uint8)
    mask[lesion.box.slices] = lesion.mask
    write_image(path, scan.file_grid.file_labels(mask), scan.file_geometry)


def _write_probability(path: Path, lesion: LesionResult) -> None:
    """Write the patch's foreground probabilities, float32, as an image in world coordinates."""
    if lesion.support is None or lesion.support_probability is None or lesion.support.is_empty:
        return
    scan = lesion.prompt.followup
    box, values = scan.file_grid.file_values(lesion.support, lesion.support_probability)
    if not box.is_empty:
        write_image(path, values, scan.file_geometry.cropped(box))


def run_document(run: RunRecord) -> dict[str, Any]:
    """The contents of run.json."""
    result = run.result
    case = result.case
    return {
        **software_facts(),
        "finished": run.is_finished,
        "options": dict(run.options),
        "model": _model(run),
        "scans": [_scan(scan) for scan in (*case.baseline.scans, *case.followup.scans)],
        "registrations": [
            {
                "followup": record.followup,
                "baseline": record.baseline,
                "seconds": round(record.seconds, 3),
                "similarity": finite_number(record.similarity),
                "reliable": record.is_reliable,
            }
            for record in result.registrations
        ],
        "lesions": [_lesion(outcome, run) for outcome in result.outcomes],
        "segmented_baseline": _segmented_baseline(run),
        "plausibility": [note.document() for note in result.notes],
        "warnings": list(result.warnings),
        "outputs": [str(path) for path in run.outputs],
        "seconds": {name: round(value, 3) for name, value in run.seconds.items()},
        "peak_memory_mib": memory_facts(run.model.ensemble if run.model is not None else None),
    }


def _model(run: RunRecord) -> dict[str, Any] | None:
    if run.model is None:
        return None
    ensemble, manifest = run.model.ensemble, run.model.manifest
    return {**files_facts(manifest), "heat_map": str(ensemble.heat_map), **computing_facts(ensemble)}


def _scan(scan: Scan) -> dict[str, Any]:
    return {
        "scan": scan.name,
        "file": scan.path.name if scan.path is not None else None,
        **grid_facts(scan.file_grid),
    }


def _segmented_baseline(run: RunRecord) -> dict[str, Any] | None:
    """The lesions that were segmented in the baseline, and their labelmaps; null without such lesions."""
    result = run.result
    if result.baseline is None:
        return None
    scans = [scan for scan in result.case.baseline.scans if scan.slot in result.baseline.labelmaps]
    return {
        "labelmaps": [str(run.baseline_path(scan)) for scan in scans],
        "lesions": [
            {
                "lesion_id": lesion.prompt.lesion_id,
                **_point(lesion.prompt.baseline, lesion.prompt.baseline_point, None),
                "volume_ml": finite_number(lesion.volume_ml),
                "message": lesion.message,
            }
            for lesion in result.baseline.lesions
        ],
    }


def _lesion(outcome: LesionOutcome, run: RunRecord) -> dict[str, Any]:
    model, segmented = run.model, run.result.baseline
    document: dict[str, Any] = {"lesion_id": outcome.lesion_id, "status": str(outcome.status)}
    prompt, estimate = outcome.prompt, outcome.estimate
    if prompt is not None:
        document |= {
            "new": prompt.is_new and outcome.status is not LesionStatus.EMPTY,
            "baseline": _point(prompt.baseline, prompt.baseline_point, estimate)
            | {
                "has_mask": prompt.has_mask,
                "is_segmented": segmented is not None and segmented.of(prompt) is not None,
            },
            "followup": _point(prompt.followup, prompt.followup_point, estimate),
        }
    document["volume_baseline_ml"] = finite_number(outcome.volume_baseline_ml)
    document["volume_followup_ml"] = finite_number(outcome.volume_followup_ml)
    if outcome.message:
        document["message"] = outcome.message
    if (odd := outcome.odd_fold) is not None and model is not None:
        document["odd_fold"] = {
            "fold": model.manifest.folds[odd.position],
            "dice": finite_number(odd.dice),
            "others_dice": finite_number(odd.others_dice),
        }
    if (spread := outcome.fold_spread) is not None:
        document["folds"] = {
            "dice": finite_number(spread.dice),
            "volume_spread": finite_number(spread.volume_spread),
        }
    return document


def _point(scan: Scan, point: PromptPoint, estimate: PropagatedPoint | None) -> dict[str, Any]:
    """A point of a prompt; a propagated one with its estimated error, null if that is unknown."""
    document: dict[str, Any] = {
        "scan": scan.name,
        "source": str(point.source),
        "point_xyz": [round(value, 4) for value in scan.file_point_xyz(point.point_zyx)],
        "point_mm": [round(value, 4) for value in scan.geometry.zyx_to_world(point.point_zyx)],
    }
    if estimate is not None and point.source is PointSource.PROPAGATED:
        document |= {
            "confidence_mm": finite_number(estimate.confidence_mm),
            "in_view": estimate.in_view,
            "is_flagged": estimate.is_flagged,
        }
    return document


def point_words(point: PromptPoint, estimate: PropagatedPoint | None = None) -> str:
    """Describe the source of a point, e.g. "given" or "propagated 14.0 mm, look at it"."""
    if estimate is None or point.source is not PointSource.PROPAGATED:
        return str(point.source)
    error = f" {estimate.confidence_mm:.1f} mm" if math.isfinite(estimate.confidence_mm) else ""
    return f"{point.source}{error}" + (", look at it" if estimate.is_flagged else "")


def _before_words(outcome: LesionOutcome) -> str:
    """The baseline's volume; "new" for a lesion that only the follow-up shows, "-" if it is not known."""
    if outcome.prompt is not None and outcome.prompt.is_new:
        return "-" if outcome.status is LesionStatus.EMPTY else "new"
    if outcome.prompt is not None and outcome.volume_baseline_ml is None:
        return "-"  # the baseline has no mask of it, and it was not segmented there
    return f"{outcome.volume_baseline_ml or 0:.2f}"


def lesion_table(outcomes: Sequence[LesionOutcome]) -> str:
    """Format the lesions as a text table: point, its source and estimated error, volumes, status."""
    if not outcomes:
        return "no lesions: the case has no clicks and no mask labels"
    rows = [("lesion", "follow-up scan", "point (x, y, z)", "source", "before ml", "after ml", "status")]
    for outcome in sorted(outcomes, key=lambda outcome: outcome.lesion_id):
        lesion_id, status, prompt = str(outcome.lesion_id), str(outcome.status), outcome.prompt
        if prompt is None:
            rows.append((lesion_id, "-", "-", "-", "-", "-", status))
            continue
        point = prompt.followup.file_point_xyz(prompt.followup_point.point_zyx)
        after = outcome.volume_followup_ml
        rows.append(
            (
                lesion_id,
                str(prompt.followup.slot),
                ", ".join(f"{value:.1f}" for value in point),
                point_words(prompt.followup_point, outcome.estimate),
                _before_words(outcome),
                "-" if after is None else f"{after:.2f}",
                status,
            )
        )
    return aligned_text(rows)
