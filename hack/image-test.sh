#!/usr/bin/env bash
# Builds the container image without an engine, as the Dockerfile says, and runs the operator from it on real nodes:
# `make image-test`.
#
#   hack/image-test.sh          does it; ends with 77, SKIPPED, where this machine does not allow it
#   hack/image-test.sh --due    says why it need not be done now, or cannot be done here; ends with 77 if so
#
# It takes minutes, so `make test` does it only after a change of what the image is made with, or if NIGHTLY=1; in CI
# only if NIGHTLY=1. What passed is remembered in the user's cache folder.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf 'image-test: %s\n' "$*" >&2; }

SKIP=77
export ENGINE=none IMAGE='' PLATFORMS='' RUST_DIGEST='' RUNTIME_DIGEST=''
made_with=$(sha256sum Dockerfile .dockerignore Cargo.lock hack/image*.sh tests/buildkit/go.mod | sha256sum)
passed=${XDG_CACHE_HOME:-$HOME/.cache}/node-insights/image/passed-${made_with:0:16}

why_not_due() {
  if [ "${NIGHTLY:-}" = 1 ]; then return; fi
  if [ -n "${CI:-}" ]; then
    echo 'in CI only nightly (NIGHTLY=1 .ci/run; at the desk make image-test)'
  elif [ -e "$passed" ]; then
    echo 'what the image is made with has not changed since it passed (make image-test does it all the same)'
  fi
}

# Prints why it cannot be done here, and nothing if it can.
what_is_in_the_way() { hack/image.sh --prepare && hack/e2e.sh --prepare; }

if [ "${1:-}" = --due ]; then
  reason=$(why_not_due)
  [ -z "$reason" ] || { echo "$reason"; exit $SKIP; }
  what_is_in_the_way
  exit
fi
status=0
reason=$(what_is_in_the_way) || status=$?
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
