"""The paragraphs above the table: data, settings, how scores are computed, and the state of all runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from ..training.config import TrainingConfig, to_plain
from .inputs import ComparisonContext, DataSet
from .ledger import Ledger, PredictionEntry, TrainingEntry
from .variants import FEW_FOLDS, HEADLINE, PRESET, ROWS

_ALWAYS_SHOWN = ("epochs", "iterations", "batch_size", "learning_rate")
_RULES = (
    "Scores by `evaluate --definition longitudinal`: merged lesions are one; means over the lesions of a "
    "scan, then over scans. Dice in percent, with its 95 % interval over patients. Points are propagated "
    "unless stated otherwise.",
    "The floors need no network: the baseline mask pasted at the follow-up point, or warped by the "
    "registration, and the region grown at the point (`evaluate --floor`).",
    "Minutes trained: pretraining + training, summed over the folds of the line, from their logs.",
)


def report_header(
    context: ComparisonContext, overrides: Sequence[str], ledger: Ledger, steps_left: int
) -> tuple[str, ...]:
    """The paragraphs above the table.

    Args:
        context: data and settings of the comparison.
        overrides: the user's settings, as key=value.
        ledger: the state of all runs.
        steps_left: the number of steps that the budget did not reach.
    """
    few = f"0-{min(FEW_FOLDS, context.fold_count) - 1}"
    folds = (
        "Each fold predicts its own held-out patients, on their original images. "
        f"{HEADLINE.title} and the floors have all {context.fold_count} folds, the other rows have folds "
        f"{few}; the former are shown on these as well, for comparison."
    )
    return (
        "# Held-out patients, in the form of [Kirchhoff2025]'s Table 1",
        _bullets(_facts(context, overrides)),
        _bullets((folds, *_RULES)),
        _bullets(_state(ledger, steps_left)),
    )


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _facts(context: ComparisonContext, overrides: Sequence[str]) -> Iterator[str]:
    yield f"Data: {_described(context.data)}, {context.fold_count} folds."
    if context.pretraining is not None:
        each = "for each fold without its held-out patients"
        folds = "one for all folds" if context.shares_pretraining else each
        yield f"Pretraining: {_described(context.pretraining)}; {folds}."
    if context.test is not None:
        yield f"Test: {_described(context.test)}; none of these patients and scans is in the data above."
    given, plan = f", with {' '.join(overrides)}" if overrides else "", context.plan
    spacing, patch, features = (
        " x ".join(f"{number:g}" for number in numbers)
        for numbers in (plan.spacing_zyx, plan.patch_size_zyx, plan.architecture.features_per_stage)
    )
    yield (
        f"Preset `{PRESET}`{given}. Network: spacing {spacing} mm, patch {patch} (z y x), stages of "
        f"{features} features."
    )
    scratch = next(row for row in ROWS if not row.is_pretrained)
    headline = context.configs[HEADLINE.name]
    yield f"From scratch: `{_settings(context.configs[scratch.name].training)}`."
    yield f"Fine-tuning: `{_settings(headline.training)}`."
    if headline.pretraining is not None:
        yield f"Pretraining: `{_settings(headline.pretraining)}`."


def _described(data: DataSet) -> str:
    counts = ((data.patients, "patient"), (data.pairs, "pair"), (data.lesions, "lesion"))
    return f"`{data.path.name}`, " + ", ".join(_counted(number, noun) for number, noun in counts)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _settings(config: TrainingConfig) -> str:
    """Settings other than the defaults, as key=value, without those in which rows differ."""
    defaults = asdict(TrainingConfig())
    return " ".join(
        f"{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in to_plain(config).items()
        if name not in ("variant", "heat_map") and (name in _ALWAYS_SHOWN or value != defaults[name])
    )


def _state(ledger: Ledger, steps_left: int) -> Iterator[str]:
    minutes, calls = sum(call.minutes for call in ledger.calls), _counted(len(ledger.calls), "call")
    left = f"{_counted(steps_left, 'step')} left; missing results show as not run"
    yield f"{minutes:.0f} minutes by the clock, in {calls}: {left if steps_left else 'everything was run'}."
    # A collapsed pretraining of all folds has the same line for each of them.
    yield from dict.fromkeys(line for entry in ledger.trainings if (line := training_line(entry)))
    yield from (_failed_line(entry) for entry in ledger.predictions if entry.failed)


def training_line(entry: TrainingEntry) -> str:
    """A line on a fold that collapsed or was stopped; "" for any other."""
    after = f"after {entry.epochs} of {entry.of_epochs} epochs"
    if entry.state == "collapsed":
        is_shared = entry.in_pretraining and entry.shares_pretraining
        folds = "all folds have" if is_shared else f"fold {entry.fold} has"
        return f"**{entry.row}: {folds} collapsed** {after}: {entry.reason}."
    if entry.state == "begun":
        return f"{entry.row}: fold {entry.fold} was stopped {after}, and continues with the next call."
    return ""


def _failed_line(entry: PredictionEntry) -> str:
    folds = f"fold {entry.folds[0]}" if len(entry.folds) == 1 else f"folds {', '.join(entry.folds)}"
    return (
        f"**{entry.row}: {folds} could not predict {_counted(len(entry.failed), 'lesion')}** "
        f"({entry.patients}, {entry.setting}), scored as missed and predicted again by the next call: "
        f"{'; '.join(entry.failed)}."
    )
