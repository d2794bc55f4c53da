"""The command `measure`: its options, tables and exit codes."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from model.cli.measure import add_arguments, run
from model.errors import InputError
from test.helpers.labelled_scans import cube, write_labelled_scan


def _run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(words))


def test_two_scans_with_dates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = []
    for name, side in (("a", 8), ("b", 10)):
        ct, labels = write_labelled_scan(tmp_path, name, {1: cube((2, 4, 4), side)})
        words += ["--scan", str(ct), "--labelmap", str(labels)]
    words += ["-o", str(tmp_path / "out")]
    assert _run(*words, "--dates", "2024-01-01", "2024-03-01", "--patient", "P1") == 0
    shown = capsys.readouterr()
    assert "P1: volume" in shown.out and "followup-1 (day 60)" in shown.out
    assert str(tmp_path / "out" / "lesions.csv") in shown.out and shown.err == ""
    assert "PD " in shown.out and "no facts of the lesions are given" in shown.out
    facts = tmp_path / "facts.csv"
    facts.write_text("lesion,organ,target\n1,lung,no\n")
    assert _run(*words, "--facts", str(facts), "--volume-response", "-50", "90", "--sdtm", "S1") == 0
    assert (tmp_path / "out" / "rs.csv").read_text().startswith("STUDYID,DOMAIN,USUBJID,RSSEQ")
    assert "RECIST 1.1, target lesions none" in capsys.readouterr().out
    with pytest.raises(InputError, match="--volume-response: is 50 90"):
        _run(*words, "--volume-response", "50", "90")
    (tmp_path / "b-labels.nii.gz").write_bytes(b"no image")
    assert _run(*words) == 2
    assert capsys.readouterr().err.startswith("time points that could not be measured: patient at followup-1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no input: expected one of"),
        (("--track", "a", "--series", "b"), "--track and --series: expected one of"),
        (("--track", "a", "--extras", "b"), "--extras: is given with --track"),
        (("--track", "a", "--dates", "2024-01-01"), "--dates: are given with --track"),
        (("--scan", "a"), "--labelmap: 0 for 1 of --scan"),
        (("--track", "a", "--sdtm", " "), "--sdtm: is empty"),
        (("--track", "/nowhere"), "/nowhere: holds no tracking.json"),
        (("--case", "/nowhere", "b"), "/nowhere: the input folder is missing"),
    ],
)
def test_options_that_clash(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        _run(*words, "-o", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
