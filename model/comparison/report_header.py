"""What stands above the table: the data, the settings, how much was run, which folds collapsed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

from ..network.plan import Plan
from ..training.config import TrainingConfig
from .inputs import DataSet, Inputs
from .ledger import Ledger, Training
from .variants import FEW_FOLDS, HEADLINE, ROWS, Stages, TablePreset

_OF_ROWS = ("variant", "heat_map")


def heading_of(
    inputs: Inputs,
    preset: TablePreset,
    overrides: Sequence[str],
    stages: Mapping[str, Stages],
    ledger: Ledger,
    left: int,
) -> tuple[str, ...]:
    """The paragraphs above the table.

    Args:
        stages: the settings of each row, by name.
        left: how many steps the budget did not reach.
    """
    return (
        "# Held-out patients, in the form of [Kirchhoff2025]'s Table 1",
        "\n".join(f"- {line}" for line in _facts(inputs, preset, overrides, stages)),
        "\n".join(f"- {line}" for line in _rules(inputs)),
        "\n".join(f"- {line}" for line in _state(ledger, left)),
    )


def _facts(
    inputs: Inputs, preset: TablePreset, overrides: Sequence[str], stages: Mapping[str, Stages]
) -> Iterator[str]:
    yield f"Data: {_described(inputs.data)}, {inputs.folds} folds."
    if inputs.pretraining is not None:
        kept = (
            "one for all folds"
            if inputs.shares_pretraining
            else "for each fold without its held-out patients"
        )
        yield f"Pretraining: {_described(inputs.pretraining)}; {kept}."
    if inputs.test is not None:
        yield f"Test: {_described(inputs.test)}; none of these patients and scans is in the data above."
    given = f", with {' '.join(overrides)}" if overrides else ""
    yield f"Preset `{preset.name}`{given}. {_planned(inputs.plan)}."
    scratch = next(row for row in ROWS if not row.is_pretrained)
    yield f"From scratch: `{_settings(stages[scratch.name].config)}`."
    yield f"Fine-tuning: `{_settings(stages[HEADLINE.name].config)}`."
    if (first := stages[HEADLINE.name].pretraining) is not None:
        yield f"Pretraining: `{_settings(first)}`."


def _described(data: DataSet) -> str:
    counts = ((data.patients, "patient"), (data.pairs, "pair"), (data.lesions, "lesion"))
    return f"`{data.path.name}`, " + ", ".join(f"{n} {noun}{'' if n == 1 else 's'}" for n, noun in counts)


def _planned(plan: Plan) -> str:
    spacing, patch, features = (
        " x ".join(f"{number:g}" for number in numbers)
        for numbers in (plan.spacing_zyx, plan.patch_size_zyx, plan.architecture.features_per_stage)
    )
    return f"Network: spacing {spacing} mm, patch {patch} (z y x), stages of {features} features"


def _settings(config: TrainingConfig) -> str:
    """Settings that are not the default, as key=value; not those by which rows differ."""
    default = TrainingConfig()
    names = [field.name for field in fields(config) if field.name not in _OF_ROWS]
    known = ("epochs", "iterations", "batch_size", "learning_rate")
    shown = [n for n in names if n in known or getattr(config, n) != getattr(default, n)]
    return " ".join(f"{name}={_text(getattr(config, name))}" for name in shown)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _rules(inputs: Inputs) -> Iterator[str]:
    few = f"0-{min(FEW_FOLDS, inputs.folds) - 1}"
    yield (
        "Each fold is asked about its own held-out patients, on their original images. "
        f"{HEADLINE.title} has all {inputs.folds} folds, the other rows have folds {few}; it is shown on "
        "these as well, to be compared."
    )
    yield (
        "Scores by `evaluate --definition longitudinal`: merged lesions are one; means over the lesions of a "
        "scan, then over scans. Dice in percent, with its 95 % interval over patients. The points are "
        "propagated ones where nothing else is said."
    )
    yield "Minutes trained: pretraining + training, of all folds shown together, as their logs have them."


def _state(ledger: Ledger, left: int) -> Iterator[str]:
    minutes = sum(call.minutes for call in ledger.calls)
    done = (
        "everything was run"
        if not left
        else f"{_counted(left, 'step')} left; what is not done stands as not run"
    )
    yield f"{minutes:.0f} minutes by the clock, in {_counted(len(ledger.calls), 'call')}: {done}."
    for line in dict.fromkeys(_trained(training) for training in ledger.trainings):
        if line:
            yield line
    for answer in ledger.answers:
        if answer.failed:
            who = f"fold {answer.folds[0]}" if len(answer.folds) == 1 else f"folds {', '.join(answer.folds)}"
            yield (
                f"**{answer.row}: {who} left {_counted(len(answer.failed), 'lesion')} without an answer** "
                f"({answer.asked}, {answer.question}), with the worst score; asked about again by the next "
                f"call: {'; '.join(answer.failed)}."
            )


def _trained(training: Training) -> str:
    """What has to be said of a fold; of a pretraining that serves all folds the same for each."""
    after = f"after {training.epochs} of {training.of_epochs} epochs"
    if training.state == "collapsed" and training.in_pretraining and training.shares_pretraining:
        return f"**{training.row}: all folds have collapsed** {after}: {training.reason}."
    if training.state == "collapsed":
        return f"**{training.row}: fold {training.fold} has collapsed** {after}: {training.reason}."
    if training.state == "begun":
        return f"{training.row}: fold {training.fold} was stopped {after}, and goes on at the next call."
    return ""


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
