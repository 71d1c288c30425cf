#!/usr/bin/env bash
# Runs the long forms of the tests under fault, one after the other, and finally prints a summary: `make soak`.
#
#   hack/soak.sh HOURS
#
# The random faults and changes take HOURS; the others run before and take minutes, of which the fuzzer takes ten.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
hours=${1:?how many hours}
export NODE_INSIGHTS_SOAK=1 NODE_INSIGHTS_SOAK_HOURS=$hours

hack/control-plane.sh kube-apiserver etcd kubectl kube-controller-manager || exit 1
cargo test --all-features --no-run --test integration --test flood --test faults || exit 1

results=()
failed=0
# ended NAME STARTED RESULT
ended() {
  case $3 in passed | SKIPPED*) ;; *) failed=1 ;; esac
  results+=("$(printf '%-34s %6d s  %s' "$1" $((SECONDS - $2)) "$3")")
}

# run NAME TEST FILTER [VARIABLE=VALUE …]: fails if no test matches the filter.
run() {
  local name=$1 test=$2 filter=$3 started=$SECONDS result=passed log status
  shift 3
  printf '\n=== %s\n' "$name"
  log=$(mktemp)
  env "$@" cargo test --quiet --all-features --test "$test" "$filter" -- --include-ignored --nocapture 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  if [ "$status" -ne 0 ]; then
    result=FAILED
  elif ! grep -Eq '^test result: ok\. [1-9]' "$log"; then
    result='FAILED: no such test'
  fi
  rm -f "$log"
  ended "$name" "$started" "$result"
}

fuzz() {
  local started=$SECONDS result=passed
  printf '\n=== fuzzer\n'
  hack/fuzz.sh 600 || result=FAILED
  ended fuzzer "$started" "$result"
}

# Where no cgroup can be created, it is skipped, with the reason, and never counted as passed.
memory() {
  local started=$SECONDS result=passed reason
  printf '\n=== 20,000 nodes in 128 MiB\n'
  if ! reason=$(hack/memory.sh --prepare); then
    result="SKIPPED: $reason"
  elif ! hack/memory.sh twenty_thousand_nodes_fit; then
    result=FAILED
  fi
  ended '20,000 nodes in 128 MiB' "$started" "$result"
}

fuzz
memory
run 'leaders, 200 faults' integration no_replica NODE_INSIGHTS_FAULTS=200
run 'ports, 10,000 of each bad client' flood ''
run 'random faults and changes' faults soak::

printf '\n=== Summary, %d s\n' "$SECONDS"
printf '%s\n' "${results[@]}"
exit "$failed"
