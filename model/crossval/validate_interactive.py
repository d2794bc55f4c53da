"""Cross-validation of the interactive network: held-out studies with 0, 3, 7 and 10 clicks of each kind.

Each fold segments the studies of its held-out patients by the steps of the interactive protocol; the masks of
all folds are scored together.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..case.pet_ct_scan import PetCtFiles
from ..case.text_files import read_json
from ..data.dataset import safe_name
from ..data.pet_ct.studies import PetCtStudy
from ..errors import InputError
from ..inference.options import ModelOptions
from ..protocol.case_record import SETTINGS_FILE, CaseRecord
from ..protocol.protocol_cases import FoundCases, ProtocolCase
from ..protocol.protocol_network import ProtocolNetwork
from ..protocol.protocol_options import ProtocolOptions
from ..protocol.protocol_report import PAPER_STEPS, summary_table, write_protocol_report
from ..protocol.run_protocol import ProtocolResult, run_protocol

log = logging.getLogger(__name__)


def validate_interactive(
    studies: Sequence[PetCtStudy],
    held_out: Mapping[str, Sequence[str]],
    weights: Path,
    output: Path,
    device: str = "auto",
) -> dict[str, Any]:
    """Segment the held-out studies of each fold, and score all of them together.

    Masks and records go to ``output/fold_N``, tables of all folds to ``output``. Steps that were done with
    the same weights are not repeated; those of other weights are replaced. A study that fails is reported,
    and tried again by the next call.

    Args:
        studies: of the whole data set, with their original files.
        held_out: name of a fold -> its validation patients.
        weights: the model folder.
        output: folder of the cross-validation.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        The content of `summary.json`.

    Raises:
        InputError: a fold has no study.
        WeightsError: a fold is missing or cannot be used.
        OutputError: a file cannot be written.
    """
    options = ProtocolOptions(steps=PAPER_STEPS)
    records, failures = list[CaseRecord](), dict[str, Exception]()
    for fold, patients in held_out.items():
        cases = tuple(_case(study) for study in studies if study.patient_id in set(patients))
        if not cases:
            raise InputError(f"fold {fold}: holds out no study; expected one or more to validate")
        network = ProtocolNetwork((weights,), (int(fold),), ModelOptions(device=device))
        folder, settings = output / f"fold_{fold}", network.settings()
        _forget_other_weights(folder, settings)
        result = run_protocol(FoundCases(cases, {}), folder, options, settings, network.load)
        records += result.records
        failures |= result.failures
    summary = write_protocol_report(output, ProtocolResult(tuple(records), failures), options)
    for line in summary_table(summary).splitlines():
        log.info("cross-validation: %s", line)
    return summary


def _case(study: PetCtStudy) -> ProtocolCase:
    assert study.labels is not None, "prepared studies have labelmaps"
    return ProtocolCase(safe_name(study.scan_id), PetCtFiles(study.ct, study.pet), study.labels)


def _forget_other_weights(folder: Path, settings: Mapping[str, Any]) -> None:
    """Delete the masks and records of a fold that was trained anew since."""
    path = folder / SETTINGS_FILE
    if not path.exists():
        return
    try:
        earlier = read_json(path, "the settings of an earlier cross-validation")
    except InputError:
        earlier = None
    if isinstance(earlier, dict) and all(earlier.get(name) == value for name, value in settings.items()):
        return
    log.info("%s: holds predictions of other weights; its studies are predicted again", folder)
    shutil.rmtree(folder)
