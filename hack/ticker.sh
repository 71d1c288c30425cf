# shellcheck shell=bash
# To be sourced: prints every half a minute that a long task is still running.
#
#   start_ticker "Still building etcd" 53    needs a function `say`, and no other EXIT trap
#   …
#   stop_ticker                              also runs when the script ends, even by Ctrl-C

tick() {
  local doing=$1 expected=$2 started=$SECONDS nap
  # Its sleep has to end with it: while it runs, the reader of our stderr sees no end of file.
  trap 'kill "$nap" 2>/dev/null; exit' TERM
  while :; do
    sleep 30 &
    nap=$!
    wait "$nap"
    say "$doing, $((SECONDS - started)) s of about $expected s on 2 cores"
  done
}

start_ticker() {
  # Without our stdout, whose reader waits for its end, and without the lock, which must end with the build.
  tick "$@" >/dev/null 9>&- &
  ticker=$!
  trap stop_ticker EXIT
  # A background job ignores Ctrl-C: the EXIT trap ends it.
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

stop_ticker() {
  [ -z "${ticker:-}" ] || kill "$ticker" 2>/dev/null || true
  ticker=''
}
