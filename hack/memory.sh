#!/usr/bin/env bash
# Runs the tests that start the operator in a control group with a limit of memory.
#
#   hack/memory.sh TEST…        those whose names contain TEST; ends with 77, SKIPPED, where no such group can be made
#   hack/memory.sh --prepare    prints what is in the way
#
# A container has such a group. What is in its memory counts, and what it has read and written of files.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
SKIP=77
locked=()
[ -z "${CI:-}" ] || locked=(--locked)

# Prints the folder in which groups of memory are made: that of version 1, if it controls memory, else of version 2.
hierarchy() {
  awk '$3 == "cgroup" && ("," $4 ",") ~ /,memory,/ { one = $2 }
       $3 == "cgroup2" { two = $2 }
       END { print one ? one : two }' /proc/mounts
}

# Makes a group in the folder, limits it, and starts a process in it.
is_possible() {
  local group=$1/node-insights-memory-$$-probe limit=memory.max status=0
  mkdir "$group" || return
  [ -e "$group/$limit" ] || limit=memory.limit_in_bytes
  echo 67108864 > "$group/$limit" && bash -c 'echo $$ > "$0/cgroup.procs"' "$group" || status=1
  rmdir "$group" || status=1
  return $status
}

# Prints why it cannot be done here, and nothing if it can.
what_is_in_the_way() {
  local folder
  if [ "$(uname -s)" != Linux ]; then echo 'this is not Linux'; return; fi
  folder=$(hierarchy)
  if [ -z "$folder" ]; then echo 'no control groups are mounted here'; return; fi
  if [ "$(id -u)" != 0 ]; then echo 'only root may make control groups'; return; fi
  is_possible "$folder" 2>/dev/null || echo "no control group with a limit of memory can be made in $folder"
}

# run PROGRAM TEST…: that no test was found is a failure as well.
run() {
  local program=$1 log status
  shift
  log=$(mktemp)
  cargo test --workspace --all-features "${locked[@]}" --test "$program" -- --ignored --nocapture "$@" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  if [ "$status" = 0 ] && ! grep -Eq '^test result: ok\. [1-9]' "$log"; then
    echo "memory: $program has no such test: $*" >&2
    status=1
  fi
  rm -f "$log"
  return "$status"
}

in_the_way=$(what_is_in_the_way)
if [ -n "$in_the_way" ]; then
  if [ "${1:-}" = --prepare ]; then echo "$in_the_way"; else echo "memory: SKIPPED: $in_the_way" >&2; fi
  exit $SKIP
fi
[ "${1:-}" != --prepare ] || exit 0
[ $# -gt 0 ] || { echo 'usage: hack/memory.sh TEST…' >&2; exit 2; }
# That a limit holds at all is looked at first.
run memory_limit && run integration "$@"
