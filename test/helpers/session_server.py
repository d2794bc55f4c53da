"""The server of interactive sessions, running in a thread on a free port."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from model.interactive.load_pet_ct import PetCtModel
from model.serve.session_table import ServerLimits, SessionTable
from model.serve.web_app import SessionServer


@dataclass(frozen=True)
class RunningServer:
    port: int
    table: SessionTable


@contextmanager
def running_server(model: PetCtModel, limits: ServerLimits) -> Iterator[RunningServer]:
    sessions = SessionServer(model, limits)
    config = uvicorn.Config(sessions.app(), log_config=None, access_log=False, lifespan="on")
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        try:
            yield RunningServer(listener.getsockname()[1], sessions.table)
        finally:
            server.should_exit = True
            thread.join()
