"""Reports of progress reach those who listen while they do."""

from __future__ import annotations

from model.progress import progress_listener, report_progress


def test_listeners_hear_while_they_listen() -> None:
    heard: list[tuple[str, int, int]] = []
    report_progress("lesions", 0, 2)
    with progress_listener(lambda *report: heard.append(report)):
        report_progress("lesions", 1, 2)
    report_progress("lesions", 2, 2)
    assert heard == [("lesions", 1, 2)]
