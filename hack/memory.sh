#!/usr/bin/env bash
# Runs the tests that start the operator in a cgroup with a memory limit.
#
#   hack/memory.sh TEST…        those whose names contain TEST; exits with 77, SKIPPED, where no such cgroup can be created
#   hack/memory.sh --prepare    prints the obstacle, if there is one
#
# Containers run in such a cgroup. It counts their memory, including the page cache.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
SKIP=77
locked=()
[ -z "${CI:-}" ] || locked=(--locked)

# Prints the folder for memory cgroups: that of v1, if it has the memory controller, otherwise that of v2.
hierarchy() {
  awk '$3 == "cgroup" && ("," $4 ",") ~ /,memory,/ { one = $2 }
       $3 == "cgroup2" { two = $2 }
       END { print one ? one : two }' /proc/mounts
}

# Creates a cgroup in the folder, sets its limit, and starts a process in it.
try_cgroup() {
  local group=$1/node-insights-memory-$$-probe limit=memory.max status=0
  mkdir "$group" || return
  [ -e "$group/$limit" ] || limit=memory.limit_in_bytes
  echo 67108864 > "$group/$limit" && bash -c 'echo $$ > "$0/cgroup.procs"' "$group" || status=1
  rmdir "$group" || status=1
  return $status
}

# Prints why it cannot run here; nothing if it can.
find_obstacle() {
  local folder
  if [ "$(uname -s)" != Linux ]; then echo 'this is not Linux'; return; fi
  folder=$(hierarchy)
  if [ -z "$folder" ]; then echo 'no cgroups are mounted here'; return; fi
  if [ "$(id -u)" != 0 ]; then echo 'creating cgroups needs root'; return; fi
  try_cgroup "$folder" 2>/dev/null || echo "no cgroup with a memory limit can be created in $folder"
}

# run PROGRAM TEST…: fails if no test matches.
run() {
  local program=$1 log status
  shift
  log=$(mktemp)
  cargo test --workspace --all-features "${locked[@]}" --test "$program" -- --ignored --nocapture "$@" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  if [ "$status" = 0 ] && ! grep -Eq '^test result: ok\. [1-9]' "$log"; then
    echo "memory: no test in $program matches: $*" >&2
    status=1
  fi
  rm -f "$log"
  return "$status"
}

obstacle=$(find_obstacle)
if [ -n "$obstacle" ]; then
  if [ "${1:-}" = --prepare ]; then echo "$obstacle"; else echo "memory: SKIPPED: $obstacle" >&2; fi
  exit $SKIP
fi
[ "${1:-}" != --prepare ] || exit 0
[ $# -gt 0 ] || { echo 'usage: hack/memory.sh TEST…' >&2; exit 2; }
# First check that a limit is enforced at all.
run memory_limit && run integration "$@"
