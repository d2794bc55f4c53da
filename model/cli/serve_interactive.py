"""The command ``serve-interactive``: click into a PET/CT in the browser."""

from __future__ import annotations

import argparse
import logging
import socket

from ..errors import ExitCode, InputError, LongilesionError
from .arguments import add_false_alarm_rules, add_model_options, add_pet_ct_weights, false_alarm_rules
from .interactive import pet_ct_folds, pet_ct_options

log = logging.getLogger(__name__)

_HOST = "127.0.0.1"  # of this computer alone: there are no users and no encryption


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add_pet_ct_weights(parser)
    add("--port", type=int, default=8765, help="port on this computer; 0 takes a free one (default: 8765)")
    add(
        "--max-sessions",
        type=_at_least_one,
        default=4,
        metavar="N",
        help="maximum number of open sessions (default: 4)",
    )
    add(
        "--idle-minutes",
        type=_at_least_one,
        default=60,
        metavar="N",
        help="close a session and delete its data after this long without a request (default: 60)",
    )
    add(
        "--max-upload-mib",
        type=_at_least_one,
        default=1024,
        metavar="N",
        help="maximum size of an uploaded image file (default: 1024)",
    )
    add(
        "--memory-mib",
        type=int,
        default=4096,
        metavar="N",
        help="memory that each session may use to cache predictions of tiles (default: 4096)",
    )
    add_false_alarm_rules(parser)
    add_model_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until the process is ended; returns the exit code.

    Raises:
        LongilesionError: see `errors`.
    """
    try:
        import uvicorn

        from ..serve.web_app import SessionServer
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "starlette"):
            raise
        raise LongilesionError(
            f"{error.name}: is not installed, but serve-interactive needs it; expected the extra 'serve' "
            "(pip install 'longilesion[serve]', in a checkout: pip install -r requirements-serve.txt)"
        ) from error
    from ..interactive.load_pet_ct import load_pet_ct_model
    from ..serve.session_table import ServerLimits

    limits = ServerLimits(
        sessions=arguments.max_sessions,
        idle_seconds=60.0 * arguments.idle_minutes,
        upload_bytes=arguments.max_upload_mib << 20,
    )
    rules = false_alarm_rules(arguments)
    with _listening(arguments.port) as listener:
        model = load_pet_ct_model(arguments.weights, pet_ct_options(arguments), pet_ct_folds(arguments))
        app = SessionServer(model, limits, arguments.memory_mib, rules).app()
        log.info(
            "open http://%s:%d in a browser on this computer; Ctrl-C ends", _HOST, listener.getsockname()[1]
        )
        config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, lifespan="on")
        uvicorn.Server(config).run(sockets=[listener])
    return ExitCode.SUCCESS


def _listening(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_HOST, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(f"--port {port}: cannot be used ({error}); expected a free port") from error
    return listener


def _at_least_one(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)
