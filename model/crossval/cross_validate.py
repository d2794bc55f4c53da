"""Cross-validation: each fold predicts its held-out patients; all predictions are scored together."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from ..errors import InputError
from ..evaluation.records import LesionRecord
from .pairs import EvaluationPair
from .point_setting import PointSetting
from .predict import predict_pairs
from .scores import Score, read_pair_records, score_of, write_score_tables

log = logging.getLogger(__name__)

CROSS_VALIDATION_FOLDER = "cross_validation"
_DEFAULT_SETTING = PointSetting()


def cross_validate(
    pairs: Sequence[EvaluationPair],
    held_out: Mapping[str, Sequence[str]],
    weights: Path,
    output: Path,
    device: str = "auto",
    setting: PointSetting = _DEFAULT_SETTING,
) -> Score:
    """Predict the held-out patients of each fold, and score all predictions together.

    Predictions go to ``output/fold_N``, records and tables of all folds to ``output``. Pairs predicted
    earlier with the same weights are not predicted again. Logs the score of each fold, and that of all.

    Args:
        pairs: of the whole data set.
        held_out: name of a fold -> its validation patients.
        weights: the model folder.
        output: folder of the cross-validation.
        device: auto, cpu, cuda or cuda:N.
        setting: follow-up points to prompt with.

    Raises:
        InputError: there is no fold, a fold has no pair of scans, or original files are missing.
        WeightsError: a fold is missing or cannot be used.
        OutputError: a file cannot be written.
    """
    if not held_out:
        raise InputError(f"{weights}: no fold has held-out patients; expected one or more to validate")
    records: list[LesionRecord] = []
    scores: list[Score] = []
    for fold, patients in held_out.items():
        fold_pairs = [pair for pair in pairs if pair.patient_id in set(patients)]
        if not fold_pairs:
            raise InputError(f"fold {fold}: holds out no patient with a pair of scans; expected one or more")
        folder = output / f"fold_{fold}"
        predict_pairs(fold_pairs, weights, [fold], [(setting, folder)], device)
        fold_records = read_pair_records(fold_pairs, folder)
        records += fold_records
        scores.append(score_of(fold_records))
        log.info("cross-validation, fold %s: %s", fold, describe_score(scores[-1]))
    write_score_tables(records, output)
    score = score_of(records)
    fold_dice = [one.dice for one in scores if one.dice is not None]
    mean = ""
    if fold_dice and len(scores) > 1:
        mean = f"; mean Dice of {len(scores)} folds {fmean(fold_dice):.4f}"
    log.info("cross-validation, all held-out patients: %s%s", describe_score(score), mean)
    return score


def describe_score(score: Score) -> str:
    """Format a score as one line."""
    missed = f"FNvol {_format(score.fn_voxels, 0)} voxels ({_format(score.fn_ml, 3)} ml)"
    false = f"FPvol {_format(score.fp_voxels, 0)} voxels ({_format(score.fp_ml, 3)} ml)"
    lesions = f"{score.lesions} lesions, {score.patients} patients"
    failed = f", {score.failed} lesions WITHOUT PREDICTION" if score.failed else ""
    return f"Dice {_format(score.dice)}, {missed}, {false}, {lesions}{failed}"


def _format(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
