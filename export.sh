#!/usr/bin/env bash
# Write the two files that grand-challenge takes: the image and, separately, the weights ("Models" there); and the
# image's bill of materials: its Python packages, as CycloneDX JSON.
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
write() {   # write NAME COMMAND...: the command's output as NAME
    local name=$1
    shift
    part=$target/.$name.part
    "$@" >"$part"
    mv -f -- "$part" "$target/$name"
    printf '%s  %s\n' "$(du -h "$target/$name" | cut -f1)" "$target/$name"
}

image() { docker save "$tag" | gzip -c; }
weights() { tar -C "$weights" -czf - .; }
bill_of_materials() {
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check -r "$checkout/requirements-release.txt" >&2
    docker run --rm --network none --entrypoint /opt/venv/bin/python "$tag" -m pip list --format=freeze |
        "$tools/bin/cyclonedx-py" requirements --pyproject "$checkout/pyproject.toml" --output-reproducible -o - -
}

standin=$(docker image inspect --format '{{index .Config.Labels "ci.standin-base"}}' "$tag" 2>/dev/null) ||
    fail "there is no image $tag; run ./build.sh first"
# A stand-in base is made from the building machine's own settings; such an image is for tests only.
[ "$standin" != 1 ] || fail "$tag was built on a stand-in base and must not be uploaded; build it with ./build.sh"
[ -f "$weights/plans.json" ] || fail "$weights holds no weights (plans.json is missing)"

mkdir -p -- "$target"
tools=$(mktemp -d)
trap 'rm -rf -- "${part:-}" "$tools"' EXIT
name=$(printf '%s' "$tag" | tr '/:' '--')
write "$name.sbom.json" bill_of_materials
write "$name.tar.gz" image
write weights.tar.gz weights
echo "Upload the first file as the container image and the second one under the algorithm's Models."
