#!/usr/bin/env bash
# Build the image.
# usage: build.sh [IMAGE_TAG] [docker build options...]      (default tag: longilesion:latest)
# BASE_IMAGE        another base: one with torch (>= 2.6, not 2.9.*), or a plain Python >= 3.11
# API_METHOD        exec (default: one case per container) or invoke (a server, for the platform's second mode)
# TORCH_INDEX_URL   package index for torch, for a base without it
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

tag=longilesion:latest
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
    tag=$1
    shift
fi
options=(--platform linux/amd64 --tag "$tag")
if [ -n "${BASE_IMAGE:-}" ]; then options+=(--build-arg "BASE_IMAGE=$BASE_IMAGE"); fi
if [ -n "${API_METHOD:-}" ]; then options+=(--build-arg "API_METHOD=$API_METHOD"); fi
if [ -n "${TORCH_INDEX_URL:-}" ]; then options+=(--build-arg "TORCH_INDEX_URL=$TORCH_INDEX_URL"); fi
exec docker build "${options[@]}" "$@" .
