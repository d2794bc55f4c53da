"""The whole loop over all cases: prompts, predictions, scores. One case's failure never loses the others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..case.tumor_clicks import ClickKind, TumorClick, write_tumor_clicks
from ..click_simulation.challenge_clicks import ChallengeRules, first_clicks
from ..data.provenance import stamp_of
from ..errors import LongilesionError, one_line
from .case_record import (
    CaseRecord,
    claim_settings,
    clicks_path,
    mask_path,
    read_case_record,
    write_case_record,
)
from .loaded_case import BoolArray, LoadedCase, load_protocol_case, simulated_clicks
from .protocol_cases import FoundCases, ProtocolCase
from .protocol_network import Segment
from .protocol_options import ProtocolOptions
from .step_scores import StepRecord, measure_step

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProtocolResult:
    """Records of the cases that are complete, and why the others failed, by name."""

    records: tuple[CaseRecord, ...]
    failures: Mapping[str, Exception] = field(default_factory=dict)


def run_protocol(
    found: FoundCases,
    output: Path,
    options: ProtocolOptions,
    network: Mapping[str, Any],
    segment: Callable[[], Segment],
) -> ProtocolResult:
    """Run the protocol over cases; steps that an earlier run has done are not repeated.

    Args:
        found: the cases.
        output: folder of the run.
        options: of the prompts.
        network: settings of the network, recorded beside the results.
        segment: loads the network; called once, and only if there is something to predict.

    Raises:
        InputError: the folder holds a run with other settings.
        OutputError: it cannot be written.
    """
    claim_settings(output, {**asdict(options), "steps": list(options.steps), **network})
    records, failures = list[CaseRecord](), dict[str, Exception](found.faults)
    loaded = list[Segment]()

    def segment_case(case: LoadedCase, clicks: tuple[TumorClick, ...]) -> BoolArray:
        if not loaded:
            loaded.append(segment())
        return loaded[0](case, clicks)

    for name, fault in found.faults.items():
        log.error("case %s cannot be used: %s", name, one_line(fault))
    for number, case in enumerate(found.cases, 1):
        log.info("case %s (%d of %d)", case.name, number, len(found.cases))
        try:
            records.append(_run_case(case, output, options, segment_case))
        except Exception as error:
            known = isinstance(error, LongilesionError)
            log.error("case %s failed: %s", case.name, one_line(error), exc_info=None if known else error)
            failures[case.name] = error
    return ProtocolResult(tuple(records), failures)


def _run_case(case: ProtocolCase, output: Path, options: ProtocolOptions, segment: Segment) -> CaseRecord:
    record = read_case_record(output, case.name, stamp_of(case.paths, ""))
    done = {step.step for step in record.steps}
    missing = [step for step in options.steps if step not in done]
    if not missing:
        log.info("case %s: all %d steps were done before", case.name, len(record.steps))
        return record
    loaded = load_protocol_case(case)
    for warning in loaded.scan.warnings:
        log.warning("%s", warning)
    clicks, notes = _case_clicks(loaded, options)
    record = record.model_copy(update={"warnings": (*loaded.scan.warnings, *notes)})
    for step in missing:
        record = record.with_step(_run_step(loaded, step, first_clicks(clicks, step), output, segment))
        write_case_record(output, record)
    return record


def _case_clicks(case: LoadedCase, options: ProtocolOptions) -> tuple[tuple[TumorClick, ...], list[str]]:
    """All clicks of a case, and a sentence if they are fewer than the last step needs."""
    if options.given_clicks:
        clicks = case.scan.clicks
    else:
        most = max(options.steps)
        rules = ChallengeRules(published=options.published)
        clicks = first_clicks(simulated_clicks(case, rules, options.seed), most)
    notes = []
    for kind in ClickKind:
        count = sum(click.kind is kind for click in clicks)
        is_needed = kind is ClickKind.BACKGROUND or bool(case.truth.any())
        if is_needed and count < max(options.steps):
            notes.append(f"{case.name}: has {count} {kind} clicks; later steps repeat them")
    for note in notes:
        log.warning("%s", note)
    return clicks, notes


def _run_step(
    case: LoadedCase, step: int, clicks: tuple[TumorClick, ...], output: Path, segment: Segment
) -> StepRecord:
    start = time.perf_counter()
    mask = segment(case, clicks)
    seconds = time.perf_counter() - start
    write_tumor_clicks(clicks_path(output, case.name, step), clicks, case.scan.file_grid.file_point)
    case.scan.write_mask(mask_path(output, case.name, step), mask)
    record = measure_step(step, clicks, case.truth, case.in_file(mask), case.voxel_ml, seconds)
    log.info("case %s, step %d: %d clicks, %.1f s", case.name, step, len(clicks), seconds)
    return record
