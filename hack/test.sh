#!/usr/bin/env bash
# Runs all or the given checks of this repository, and finally prints a summary: `make test`.
#
#   hack/test.sh [format] [lints] [documentation] [tests] [memory] [e2e] [image] [dependencies] [advisories]
#                [sbom] [spelling]
#
# A failed check does not keep the others from running. One that cannot run here is SKIPPED, with the reason, and
# never counted as passed.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
all=(format spelling dependencies advisories lints documentation sbom tests memory e2e image)
[ $# -gt 0 ] || set -- "${all[@]}"

# In CI an outdated Cargo.lock is an error; locally cargo may update it.
locked=()
[ -z "${CI:-}" ] || locked=(--locked)

# The exit code of a check that cannot run; $skipped has the reason.
SKIP=77
skipped=''
# The timeout for fetching the advisories, about 10 MB.
FETCH_SECONDS=120

# First, so that no test silently builds one. These four are what the tests start; each is built only if it is not
# found.
control_plane() { hack/control-plane.sh kube-apiserver etcd kubectl kube-controller-manager; }

# For the tests of the chart.
helm() { hack/helm.sh 3 && hack/helm.sh 4; }

# For the tests of the alerts and of the dashboard.
prometheus() { hack/prometheus.sh promtool && hack/prometheus.sh prometheus; }

format() { cargo fmt --all --check; }

# Users run it without features, so that is checked separately.
lints() {
  cargo clippy --workspace --all-targets --all-features "${locked[@]}" -- -D warnings &&
    cargo clippy --lib --bins "${locked[@]}" -- -D warnings
}

# Includes private items, so links to them are allowed.
documentation() { RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --workspace --no-deps --document-private-items "${locked[@]}"; }

# A failed test does not hide failures in later programs. Features are additive, so one build covers both.
tests() { cargo test --workspace --all-features --no-fail-fast "${locked[@]}"; }

# 5,000 nodes in a cgroup of 64 MiB; 20,000 are a part of make soak.
memory() {
  local status
  skipped=$(hack/memory.sh --prepare)
  status=$?
  [ "$status" = 0 ] || return "$status"
  hack/memory.sh five_thousand_nodes_fit
}

# On real nodes; skipped with the obstacle, if there is one.
e2e() {
  local status
  skipped=$(hack/e2e.sh --prepare)
  status=$?
  [ "$status" = 0 ] || return "$status"
  hack/e2e.sh
}

# The same from the image of the Dockerfile, if that is due.
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

# The fuzzer has its own lock file, which has to follow our dependencies. A warning of cargo-deny is an unused
# exception.
dependencies() {
  if ! cargo update --workspace --locked --quiet --manifest-path tests/fuzz/Cargo.toml; then
    echo 'Update the lock file of the fuzzer: cargo update --workspace --manifest-path tests/fuzz/Cargo.toml' >&2
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
  # Offline, so that exactly what was fetched is checked.
  deny --locked --offline check -D warnings advisories
}

# Also writes it, to target/sbom.
sbom() { hack/sbom.sh; }

spelling() {
  local tool
  tool=$(hack/tool.sh typos) || return
  # Hidden files are included, but not those of git.
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
