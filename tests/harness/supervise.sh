# Runs a program and kills it when the process that started it is gone.
#
#   bash -c "$(<supervise.sh)" supervise STDOUT_LOG STDERR_LOG DATA PROGRAM [ARGUMENT…]
#
# The starter holds the other end of our stdin and never has to do anything: when it exits, panics
# or is killed with SIGKILL, the kernel closes that end, and on end of file we kill the program.
# A line "keep" instead lets the program run on without its starter. DATA, unless empty, is a folder
# that is removed with the program when the starter is gone.
#
# The first and only line of our stdout is the program's process id; our exit code is the program's
# (128 + the signal's number when a signal ended it).
set -u
stdout=$1 stderr=$2 data=$3
shift 3

exec 3<&0 # a background job would get /dev/null as its stdin
"$@" 3<&- </dev/null >>"$stdout" 2>>"$stderr" &
program=$!

{
  read -r -u 3 word
  [ "${word:-}" = keep ] || kill -KILL "$program"
} >/dev/null &
lifeline=$!

echo "$program"
wait "$program"
status=$?
kill "$lifeline"
# As nothing is ever written to it, readable means end of file: our starter is gone.
if [ -n "$data" ] && read -r -t 0 -u 3; then rm -rf -- "$data"; fi
exit "$status"
