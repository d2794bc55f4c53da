# shellcheck shell=bash
# The Python environment of the checkout: made once in .venv/, used again while nothing it is made from changes.
# Source this file; do not run it.
#
# TORCH_INDEX_URL   package index for torch alone (a CPU-only build, or one for another CUDA)

checkout=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
venv=$checkout/.venv
python=$venv/bin/python
runtime_files=("$checkout/requirements-torch.txt" "$checkout/requirements.txt")
dev_files=("${runtime_files[@]}" "$checkout/requirements-train.txt" "$checkout/requirements-serve.txt" "$checkout/requirements-dev.txt")

fail() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

find_python() {
    local candidate
    for candidate in python3.11 python3 python3.12 python3.13; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer with its venv module found; install python3.11 and python3.11-venv"
}

fingerprint() {   # fingerprint FILE...: of all that decides what gets installed; empty without a working .venv
    { printf '%s\n' "${TORCH_INDEX_URL:-}"; cat -- "$@"; } 2>/dev/null | "$python" -c '
import hashlib, sys
print(hashlib.sha256(repr(sys.version_info[:2]).encode() + sys.stdin.buffer.read()).hexdigest())'
}

# A stamp is written after the last install step, so an interrupted install leaves none.
is_stamped() {   # is_stamped NAME FILE...
    local stamp=$venv/$1
    shift
    [ -x "$python" ] && [ -s "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint "$@" 2>/dev/null)" ]
}

write_stamp() {   # write_stamp NAME FILE...
    local stamp=$venv/$1
    shift
    fingerprint "$@" >"$stamp.new"
    mv -f -- "$stamp.new" "$stamp"
}

pip_install() {
    local quiet=--quiet
    if [ -t 1 ]; then quiet=; fi   # somebody watches: show the progress of large downloads
    # The torch files bound every step: no package may bring another torch.
    "$python" -m pip install --disable-pip-version-check ${quiet:+"$quiet"} "$@" || fail "the packages could not be installed"
}

prepare_runtime() {
    local base
    if is_stamped installed-runtime "${runtime_files[@]}"; then return; fi
    base=$(find_python) || exit 1
    echo "Making .venv/ with $base: once, some minutes."
    rm -f -- "$venv/installed-runtime" "$venv/installed-dev"
    "$base" -m venv --clear "$venv" || fail "$venv could not be made"
    pip_install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} -r "$checkout/requirements-torch.txt"
    pip_install -r "$checkout/requirements-torch.txt" -r "$checkout/requirements.txt"
    write_stamp installed-runtime "${runtime_files[@]}"
}

prepare_dev() {
    if is_stamped installed-dev "${dev_files[@]}"; then return; fi
    echo "Adding the packages of the tests to .venv/."
    rm -f -- "$venv/installed-dev"
    pip_install -r "$checkout/requirements-torch.txt" -r "$checkout/requirements.txt" -r "$checkout/requirements-dev.txt"
    write_stamp installed-dev "${dev_files[@]}"
}

prepare_environment() {   # prepare_environment runtime|dev
    # Two runs started at once must not install over each other; without flock (macOS) the user takes care.
    exec 9>"$checkout/.venv.lock"
    if command -v flock >/dev/null 2>&1; then flock 9; fi
    prepare_runtime
    if [ "$1" = dev ]; then prepare_dev; fi
    exec 9>&-
}
