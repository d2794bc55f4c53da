"""The whole loop over all cases: prompts, predictions, scores. One case's failure never loses the others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..case.tumor_clicks import TumorClick, write_tumor_clicks
from ..data.provenance import stamp_of
from ..errors import LongilesionError, OutputError, WeightsError, one_line
from .case_record import (
    CaseRecord,
    claim_settings,
    clicks_path,
    mask_path,
    read_case_record,
    write_case_record,
)
from .loaded_case import BoolArray, LoadedCase, load_protocol_case
from .protocol_cases import FoundCases, ProtocolCase
from .protocol_network import Segment
from .protocol_options import ProtocolOptions
from .step_prompts import StepState, case_prompts, case_style, read_step_state
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
        WeightsError: the weights cannot be loaded.
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
    for number, case in enumerate(found.cases):
        log.info("case %s (%d of %d)", case.name, number + 1, len(found.cases))
        try:
            records.append(_run_case(case, number, output, options, segment_case))
        except (OutputError, WeightsError):  # would meet all other cases, too
            raise
        except Exception as error:
            known = isinstance(error, LongilesionError)
            log.error("case %s failed: %s", case.name, one_line(error), exc_info=None if known else error)
            failures[case.name] = error
    return ProtocolResult(tuple(records), failures)


def _run_case(
    case: ProtocolCase, number: int, output: Path, options: ProtocolOptions, segment: Segment
) -> CaseRecord:
    style = case_style(options, number)
    record = read_case_record(output, case.name, stamp_of(case.paths, style or ""))
    missing = options.steps[len(record.steps) :]
    if not missing:
        log.info("case %s: all %d steps were done before", case.name, len(record.steps))
        return record
    loaded = load_protocol_case(case)
    for warning in loaded.scan.warnings:
        log.warning("%s", warning)
    prompts, notes = case_prompts(loaded, options, style)
    for note in notes:
        log.warning("%s", note)
    record = record.model_copy(update={"warnings": (*loaded.scan.warnings, *notes)})
    last = read_step_state(output, loaded, record.steps[-1].step) if record.steps else None
    for step in missing:
        start = time.perf_counter()
        clicks = prompts(step, last)
        # The same prompts give the same mask.
        mask = last.mask if last is not None and last.clicks == clicks else segment(loaded, clicks)
        last = StepState(clicks, mask)
        record = record.with_step(_write_step(loaded, step, last, output, time.perf_counter() - start))
        write_case_record(output, record)
    return record


def _write_step(case: LoadedCase, step: int, state: StepState, output: Path, seconds: float) -> StepRecord:
    write_tumor_clicks(clicks_path(output, case.name, step), state.clicks, case.scan.file_grid.file_point)
    case.scan.write_mask(mask_path(output, case.name, step), state.mask)
    record = measure_step(step, state.clicks, case.truth, case.in_file(state.mask), case.voxel_ml, seconds)
    log.info("case %s, step %d: %d points, %.1f s", case.name, step, len(state.clicks), seconds)
    return record
