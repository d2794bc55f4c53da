"""One PET/CT from its files to its mask and extras."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..case.folder_lock import locked_folder
from ..case.pet_ct_outputs import RUN_FILE, prepare_extras, prepare_mask
from ..case.pet_ct_scan import PetCtFiles, PetCtScan, read_pet_ct
from ..case.scans import ClickUnits
from ..case.suv_checks import InjectedDose
from ..inference.options import ModelOptions
from ..interactive.false_alarm_rules import FalseAlarmRules
from ..timing import Timings

if TYPE_CHECKING:  # torch is imported while the images are read, not before
    from ..interactive.load_pet_ct import PetCtModel
    from ..interactive.segment_pet_ct import TumorSegmentation

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PetCtRunOptions:
    """One PET/CT and its mask; `interactive.add_arguments` describes each option.

    Attributes:
        files: CT, PET and clicks.
        mask: the file to write.
        weights: folders of the models.
        folds: numbers of the folds of each model; None takes all.
        click_units: of the points, voxel index (x, y, z) of the CT's file or world position (LPS, mm).
        dose: of a PET in Bq/ml.
        extras_dir: folder for run.json, lesions and probability; None writes none.
        organs: predict organs, too, and write them into ``extras_dir``.
        model: how the network is computed; its folds are not used.
        rules: against false alarms.
    """

    files: PetCtFiles
    mask: Path
    weights: Sequence[Path]
    folds: Sequence[int | str] | None = None
    click_units: ClickUnits = "voxel"
    dose: InjectedDose | None = None
    extras_dir: Path | None = None
    organs: bool = False
    model: ModelOptions = ModelOptions()
    rules: FalseAlarmRules = FalseAlarmRules()


def run_pet_ct(options: PetCtRunOptions, loaded: PetCtModel | None = None) -> None:
    """Segment one PET/CT, and write its mask and, if wanted, the extras.

    Args:
        options: of the run.
        loaded: the model, if it is loaded already; None loads that of the options.

    Raises:
        LongilesionError: see `errors`; neither mask nor extras are left then, not even earlier ones; a mask
            that was written stays if the extras cannot be.
    """
    timings, files = Timings(), options.files
    inputs = tuple(path for path in (files.ct, files.pet, files.clicks) if path is not None)
    with ExitStack() as locks:
        prepare_mask(options.mask, inputs)
        if options.extras_dir is not None:
            locks.enter_context(locked_folder(options.extras_dir))
            prepare_extras(options.extras_dir, (options.mask, *inputs))
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="weights") as pool:
            loading = pool.submit(lambda: loaded or _load_model(options, timings))  # while images are read
            scan = _read(options, timings)
            model = loading.result()
        with timings.stage("segment"):
            from ..interactive.segment_pet_ct import segment_pet_ct

            result = segment_pet_ct(model, scan.ct, scan.pet, scan.geometry, scan.clicks)
            if not options.rules.are_off:
                from ..interactive.false_alarms import with_rules

                result = with_rules(result, scan.pet, scan.geometry, scan.clicks, options.rules)
        with timings.stage("write"):
            scan.write_mask(options.mask, result.mask)
        volume_ml = int(result.mask.sum()) * scan.geometry.voxel_volume_ml
        log.info("%s: tumour of %.2f ml, from %d clicks", options.mask, volume_ml, len(result.clicks))
        if options.extras_dir is not None:
            _write_extras(options, options.extras_dir, scan, model, result, timings)


def _load_model(options: PetCtRunOptions, timings: Timings) -> PetCtModel:
    with timings.stage("import torch"):
        from ..interactive.load_pet_ct import load_pet_ct_model
    with timings.stage("load weights"):
        return load_pet_ct_model(options.weights, options.model, options.folds, options.organs)


def _read(options: PetCtRunOptions, timings: Timings) -> PetCtScan:
    with timings.stage("read"):
        scan = read_pet_ct(options.files, options.click_units, options.dose)
    for warning in scan.warnings:
        log.warning("%s", warning)
    return scan


def _write_extras(
    options: PetCtRunOptions,
    folder: Path,
    scan: PetCtScan,
    model: PetCtModel,
    result: TumorSegmentation,
    timings: Timings,
) -> None:
    from ..interactive.pet_ct_report import PetCtRecord, write_pet_ct_extras

    chosen: dict[str, Any] = {
        "clicks": options.click_units,
        "activity": asdict(options.dose) if options.dose is not None else None,
        "organs": options.organs,
        "tta": options.model.tta,
        "deterministic": options.model.deterministic,
        "rules": asdict(options.rules),
    }
    record = PetCtRecord(chosen, options.files, scan, model, result, options.mask, timings.seconds)
    total = write_pet_ct_extras(folder, record)
    log.info(
        "%d lesions: MTV %.2f ml, TLG %.2f ml, SUVmax %.2f, SUVpeak %.2f",
        *(total.lesions, total.volume_ml, total.glycolysis_ml, total.suv_max, total.suv_peak),
    )
    log.info("record: %s", folder / RUN_FILE)
