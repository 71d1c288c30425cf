#!/usr/bin/env bash
# Builds the container image from the Dockerfile without an engine, and runs the operator from it on real nodes:
# `make image-test`.
#
#   hack/image-test.sh          runs it; exits with 77, SKIPPED, where this machine does not allow it
#   hack/image-test.sh --due    prints why it need not run now, or cannot run here, and then exits with 77
#
# It takes minutes, so `make test` runs it only after a change of the image's inputs, or if NIGHTLY=1; in CI only if
# NIGHTLY=1. Passed runs are recorded in the user's cache folder.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf 'image-test: %s\n' "$*" >&2; }

SKIP=77
export ENGINE=none IMAGE='' PLATFORMS='' RUST_DIGEST='' RUNTIME_DIGEST=''
inputs=$(sha256sum Dockerfile .dockerignore Cargo.lock hack/image*.sh tests/buildkit/go.mod | sha256sum)
passed=${XDG_CACHE_HOME:-$HOME/.cache}/node-insights/image/passed-${inputs:0:16}

why_not_due() {
  if [ "${NIGHTLY:-}" = 1 ]; then return; fi
  if [ -n "${CI:-}" ]; then
    echo 'in CI only nightly (NIGHTLY=1 .ci/run; locally make image-test)'
  elif [ -e "$passed" ]; then
    echo 'the inputs of the image have not changed since it passed (make image-test runs it anyway)'
  fi
}

# Prints why it cannot run here; nothing if it can.
find_obstacle() { hack/image.sh --prepare && hack/e2e.sh --prepare; }

if [ "${1:-}" = --due ]; then
  reason=$(why_not_due)
  [ -z "$reason" ] || { echo "$reason"; exit $SKIP; }
  find_obstacle
  exit
fi
status=0
reason=$(find_obstacle) || status=$?
if [ "$status" != 0 ]; then
  say "SKIPPED: $reason"
  exit "$status"
fi
started=$SECONDS
image=$(hack/image.sh)
say "Built in $((SECONDS - started)) s; running it on real nodes"
NODE_INSIGHTS_E2E_IMAGE=$image hack/e2e.sh
mkdir -p "$(dirname "$passed")"
touch "$passed"
say "Passed in $((SECONDS - started)) s"
