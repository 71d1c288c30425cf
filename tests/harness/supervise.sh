# Runs a program and ends it when the process that started it is gone.
#
#   bash -c "$(<supervise.sh)" supervise STDOUT_LOG STDERR_LOG DATA PROGRAM [ARGUMENT…]
#
# The starter holds the other end of our stdin. It never has to do anything: when it exits, panics
# or is killed with SIGKILL, the kernel closes that end, and end of file here means SIGKILL there.
# A line "keep" instead lets the program go on without its starter. DATA, unless empty, is a folder
# that goes with the program when nobody is left to remove it.
#
# The first and only line of our stdout is the program's process id; our exit code is the program's
# (128 + the signal's number when a signal ended it).
set -u
stdout=$1 stderr=$2 data=$3
shift 3

exec 3<&0 # a job in the background would get /dev/null as its stdin
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
# With nothing ever to read, "ready to be read" is the end of file: our starter is gone.
if [ -n "$data" ] && read -r -t 0 -u 3; then rm -rf -- "$data"; fi
exit "$status"
