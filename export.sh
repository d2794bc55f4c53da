#!/usr/bin/env bash
# Write the two files that grand-challenge takes: the image and, separately, the weights ("Models" there).
# usage: export.sh [IMAGE_TAG]      (default: longilesion:latest)
# WEIGHTS_DIR   the weights to pack (default: resources/weights)
# EXPORT_DIR    where to write (default: export)
set -euo pipefail
checkout=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
tag=${1:-longilesion:latest}
weights=${WEIGHTS_DIR:-$checkout/resources/weights}
target=${EXPORT_DIR:-$checkout/export}

fail() { printf 'export.sh: %s\n' "$*" >&2; exit 1; }

# A half-written file must never look like a finished one.
write() {   # write NAME COMMAND...: the command's output, gzipped, as NAME
    local name=$1
    shift
    part=$target/.$name.part
    "$@" | gzip -c >"$part"
    mv -f -- "$part" "$target/$name"
    printf '%s  %s\n' "$(du -h "$target/$name" | cut -f1)" "$target/$name"
}

standin=$(docker image inspect --format '{{index .Config.Labels "ci.standin-base"}}' "$tag" 2>/dev/null) ||
    fail "there is no image $tag; run ./build.sh first"
# A stand-in base is made from the building machine's own settings; such an image is for tests only.
[ "$standin" != 1 ] || fail "$tag was built on a stand-in base and must not be uploaded; build it with ./build.sh"
[ -f "$weights/plans.json" ] || fail "$weights holds no weights (plans.json is missing)"

mkdir -p -- "$target"
trap 'rm -f -- "${part:-}"' EXIT
write "$(printf '%s' "$tag" | tr '/:' '--').tar.gz" docker save "$tag"
write weights.tar.gz tar -C "$weights" -cf - .
echo "Upload the first file as the container image and the second one under the algorithm's Models."
