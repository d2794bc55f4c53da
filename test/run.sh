#!/usr/bin/env bash
# All checks that need no Docker: lint, format, types, unit, golden and end-to-end tests.
# usage: test/run.sh [--container] [pytest arguments...]
# --container: the container checks alone; builds the image, unless LONGILESION_IMAGE names one.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"
prepare_environment dev
cd -- "$checkout"

if [ "${1:-}" = --container ]; then
    shift
    exec "$python" -m pytest -m container -rs test/container "$@"
fi
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy model process.py
exec "$python" -m pytest "$@"
