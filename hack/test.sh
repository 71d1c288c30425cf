#!/usr/bin/env bash
# Runs the checks of this repository, all or those named, and says at the end how each one went:
# `make test`.
#
#   hack/test.sh [format] [lints] [documentation] [tests] [memory] [e2e] [image] [dependencies] [advisories]
#                [sbom] [spelling]
#
# A check that fails does not keep the others from running. One that cannot be done here is
# SKIPPED, with the reason: never counted as passed.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
all=(format spelling dependencies advisories lints documentation sbom tests memory e2e image)
[ $# -gt 0 ] || set -- "${all[@]}"

# Where only this runs, a stale Cargo.lock is a mistake; at the desk cargo may bring it up to date.
locked=()
[ -z "${CI:-}" ] || locked=(--locked)

# What a check returns when it cannot be done; the reason stands in $skipped.
SKIP=77
skipped=''
# How long fetching the advisories may take: some 10 MB.
FETCH_SECONDS=120

# First, so that nobody waits for a test that is silently building one. These four are what the
# tests start; each is looked for before it is built.
control_plane() { hack/control-plane.sh kube-apiserver etcd kubectl kube-controller-manager; }

# For the tests of the chart.
helm() { hack/helm.sh 3 && hack/helm.sh 4; }

# For the tests of the alerts and of the dashboard.
prometheus() { hack/prometheus.sh promtool && hack/prometheus.sh prometheus; }

format() { cargo fmt --all --check; }

# What users run has no feature, so that is read by itself.
lints() {
  cargo clippy --workspace --all-targets --all-features "${locked[@]}" -- -D warnings &&
    cargo clippy --lib --bins "${locked[@]}" -- -D warnings
}

# What is documented is read here, with the private items, so a link to one of those is fine.
documentation() { RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --workspace --no-deps --document-private-items "${locked[@]}"; }

# One failed test does not hide those of the programs after it. The features only add to what is there
# without them, so one build tests both.
tests() { cargo test --workspace --all-features --no-fail-fast "${locked[@]}"; }

# 5,000 nodes in a control group of 64 MiB; 20,000 are a part of make soak.
memory() {
  local status
  skipped=$(hack/memory.sh --prepare)
  status=$?
  [ "$status" = 0 ] || return "$status"
  hack/memory.sh five_thousand_nodes_fit
}

# On real nodes; what stands in the way of that is the reason why it is skipped.
e2e() {
  local status
  skipped=$(hack/e2e.sh --prepare)
  status=$?
  [ "$status" = 0 ] || return "$status"
  hack/e2e.sh
}

# The same on the image that the Dockerfile makes, where that is due.
image() {
  local status
  skipped=$(hack/image-test.sh --due)
  status=$?
  [ "$status" = 0 ] || return "$status"
  hack/image-test.sh
}

deny() {
  local tool
  tool=$(hack/tool.sh cargo-deny) || return
  "$tool" --workspace "$@"
}

# The fuzzer has a lock file of its own, which a change of our dependencies changes as well. A warning of cargo-deny
# is an exception that nobody needs any more.
dependencies() {
  if ! cargo update --workspace --locked --quiet --manifest-path tests/fuzz/Cargo.toml; then
    echo 'Bring the lock file of the fuzzer up to date: cargo update --workspace --manifest-path tests/fuzz/Cargo.toml' >&2
    return 1
  fi
  deny --locked check -D warnings bans licenses sources
}

advisories() {
  local tool
  tool=$(hack/tool.sh cargo-deny) || return
  if ! GIT_TERMINAL_PROMPT=0 timeout "$FETCH_SECONDS" "$tool" fetch db; then
    skipped='the advisory database cannot be reached'
    return $SKIP
  fi
  # Not fetched twice: what was fetched is what is judged.
  deny --locked --offline check -D warnings advisories
}

# Writes it as well, to target/sbom.
sbom() { hack/sbom.sh; }

spelling() {
  local tool
  tool=$(hack/tool.sh typos) || return
  # Hidden files are ours as well, but not what git keeps.
  "$tool" --config typos.toml --hidden --exclude .git
}

results=()
failed=()
run() {
  local name=$1 started=$SECONDS status result
  printf '\n=== %s\n' "$name"
  "$name"
  status=$?
  case $status in
    0) result=passed ;;
    "$SKIP") result="SKIPPED: $skipped" ;;
    *) result=FAILED; failed+=("$name") ;;
  esac
  printf '=== %s: %s, %d s\n' "$name" "$result" $((SECONDS - started))
  results+=("$(printf '%-14s %5d s  %s' "$name" $((SECONDS - started)) "$result")")
}

for name in "$@"; do
  case " ${all[*]} " in
    *" $name "*) ;;
    *) echo "test: no check '$name': know ${all[*]}" >&2; exit 2 ;;
  esac
done
hack/prerequisites.sh git lints || exit 1

case " $* " in *' tests '*) run control_plane; run helm; run prometheus ;; esac
for name in "$@"; do run "$name"; done

printf '\n=== Summary, %d s\n' "$SECONDS"
printf '%s\n' "${results[@]}"
if [ ${#failed[@]} -gt 0 ]; then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
