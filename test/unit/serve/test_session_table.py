"""Sessions of a server: their age, and those that are used while they are closed."""

from __future__ import annotations

import pytest

from model.case.atomic_files import discard_unfinished_files
from model.interactive.session import Session
from model.serve.session_table import RefusedRequestError, ServerLimits, SessionTable, UploadKind
from test.helpers.tiny_pet_ct import tiny_pet_ct_model


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _table() -> tuple[SessionTable, _Clock]:
    clock, model = _Clock(), tiny_pet_ct_model()
    return SessionTable(lambda: Session(model), ServerLimits(sessions=2, idle_seconds=60), clock), clock


def test_sessions_without_requests_are_closed_and_their_files_deleted() -> None:
    table, clock = _table()
    first, second = table.open(), table.open()
    with table.using(first) as held:
        held.keep_upload(UploadKind.CT, held.new_upload())
        folder = held.folder
    clock.now = 50
    with table.using(second):
        pass
    clock.now = 61
    table.close_idle()
    assert len(table) == 1 and not folder.exists()
    with pytest.raises(RefusedRequestError, match="no session has this token"), table.using(first):
        pass
    third = table.open()
    assert len({first, second, third}) == 3 and len(third) >= 32
    table.close_all()
    assert len(table) == 0


def test_uploads_are_deleted_if_a_signal_ends_the_process() -> None:
    table, _ = _table()
    with table.using(table.open()) as held:
        held.keep_upload(UploadKind.PET, held.new_upload())
        unread, broken = held.uploads[UploadKind.PET], held.new_upload()
        discard_unfinished_files()
        assert not unread.exists() and not broken.exists()
    table.close_all()


def test_a_session_in_use_is_neither_expired_nor_deleted() -> None:
    table, clock = _table()
    token = table.open()
    with table.using(token) as held:
        clock.now = 1000
        table.close_idle()
        assert len(table) == 1
        path = held.new_upload()
        table.close(token)
        assert path.exists()
    assert not held.folder.exists()
