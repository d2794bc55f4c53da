"""Cross-validation: every fold answers about its own held-out patients, all answers make one evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from ..errors import InputError
from ..evaluation.records import LesionRecord
from ..training.job import Say
from .pairs import EvaluationPair
from .point_setting import PointSetting
from .predict import ask
from .scores import Score, read_pair_records, score_of, write_score_tables

CROSS_VALIDATION_FOLDER = "cross_validation"
_DEFAULT_QUESTION = PointSetting()


def cross_validate(
    pairs: Sequence[EvaluationPair],
    held_out: Mapping[str, Sequence[str]],
    weights: Path,
    output: Path,
    device: str = "auto",
    say: Say = print,
    question: PointSetting = _DEFAULT_QUESTION,
) -> Score:
    """Ask each fold about its held-out patients, and score all answers together.

    Answers are written to ``output/fold_N``, records and tables of all of them to ``output``. What is
    answered there already, of the same weights, is not asked again.

    Args:
        pairs: of the whole data set.
        held_out: fold -> its validation patients.
        say: takes a line for each fold, and one for all.

    Raises:
        InputError: no fold, a fold without a pair of scans, or original files that are not there any more.
        WeightsError: a fold is missing or cannot be used.
        OutputError: something cannot be written.
    """
    if not held_out:
        raise InputError(f"{weights}: no fold holds patients back; expected one or more to validate")
    records: list[LesionRecord] = []
    scores: list[Score] = []
    for fold, patients in held_out.items():
        own = [pair for pair in pairs if pair.patient_id in set(patients)]
        if not own:
            raise InputError(f"fold {fold}: holds back no patient with a pair of scans; expected one or more")
        folder = output / f"fold_{fold}"
        ask(own, weights, [fold], question, folder, device, say)
        answers = read_pair_records(own, folder, say)
        records += answers
        scores.append(score_of(answers))
        say(f"cross-validation, fold {fold}: {describe(scores[-1])}")
    write_score_tables(records, output)
    score = score_of(records)
    known = [one.dice for one in scores if one.dice is not None]
    mean = f"; mean Dice of {len(scores)} folds {fmean(known):.4f}" if known and len(scores) > 1 else ""
    say(f"cross-validation, all held-out patients: {describe(score)}{mean}")
    return score


def describe(score: Score) -> str:
    """A score in one line."""
    missed = f"FNvol {_shown(score.fn_voxels, 0)} voxels ({_shown(score.fn_ml, 3)} ml)"
    false = f"FPvol {_shown(score.fp_voxels, 0)} voxels ({_shown(score.fp_ml, 3)} ml)"
    lesions = f"{score.lesions} lesions, {score.patients} patients"
    failed = f", {score.failed} lesions WITHOUT ANSWER" if score.failed else ""
    return f"Dice {_shown(score.dice)}, {missed}, {false}, {lesions}{failed}"


def _shown(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
