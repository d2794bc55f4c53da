#!/usr/bin/env bash
# One command on a fresh machine: makes .venv/, then segments the sample case.
# With arguments: passes them to process.py, e.g. ./run.sh --input CASE --output RESULT
# (the options of environment.sh and of "process.py --help" hold).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment runtime

if [ $# -eq 0 ]; then
    set -- --input "$checkout/test/sample/input" \
        --output "$checkout/out/sample/output" --extras "$checkout/out/sample/extras"
fi
exec "$python" "$checkout/process.py" "$@"
