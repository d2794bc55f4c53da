#!/usr/bin/env bash
# All checks that need no Docker: lint, format, types, unit, golden and end-to-end tests.
# usage: test/run.sh [--quick | --container] [pytest arguments...]
# --quick: lint, types, and the tests that take moments.
# --container: the container checks alone; builds the image, unless LONGILESION_IMAGE names one.
# LONGILESION_TEST_DATA: real scans that are not in the repository, see test/README.md.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"
prepare_environment dev
cd -- "$checkout"

unset PYTHONDONTWRITEBYTECODE   # many tests start a Python that imports the whole package

workers=$(nproc 2>/dev/null || echo 2)
workers=$((workers < 8 ? workers : 8))
# Whole files go to one process per core, each with one torch thread, so that no fixture of a file is made twice.
by_file=(--numprocesses "$workers" --dist loadfile --no-loadscope-reorder)

# mypy in one process per core; in a single one if it ends with 2, as on a machine too busy to start them in time.
check_types() {
    local code=0
    "$python" -m mypy --num-workers "$workers" || code=$?
    if [ "$code" -eq 2 ]; then "$python" -m mypy; else return "$code"; fi
}

if [ "${1:-}" = --container ]; then
    shift
    if [ -z "${LONGILESION_IMAGE:-}" ] && docker info >/dev/null 2>&1; then
        export LONGILESION_IMAGE=longilesion:test
        ./build.sh "$LONGILESION_IMAGE"
    fi
    exec "$python" -m pytest -m container -rs "${by_file[@]}" test/container "$@"
fi
selection=()
if [ "${1:-}" = --quick ]; then
    shift
    selection=(-m "not slow and not container")
fi
"$python" -m ruff check .
"$python" -m ruff format --check .
check_types
exec "$python" -m pytest "${by_file[@]}" --durations=30 --durations-min=3 "${selection[@]}" "$@"
