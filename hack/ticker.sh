# shellcheck shell=bash
# To be sourced: says every half a minute that something long still goes on.
#
#   start_ticker "Still building etcd" 53    needs a function `say`, and no other EXIT trap
#   …
#   stop_ticker                              also when the script ends, by Ctrl-C too

tick() {
  local doing=$1 expected=$2 started=$SECONDS nap
  # Its sleep must go with it: as long as one lives, whoever reads our stderr waits for the end of it.
  trap 'kill "$nap" 2>/dev/null; exit' TERM
  while :; do
    sleep 30 &
    nap=$!
    wait "$nap"
    say "$doing, $((SECONDS - started)) s of about $expected s on 2 cores"
  done
}

start_ticker() {
  # Not our stdout, whose reader waits for its end, and not the lock, which must end with the build.
  tick "$@" >/dev/null 9>&- &
  ticker=$!
  trap stop_ticker EXIT
  # A background job ignores Ctrl-C: the EXIT trap is what ends it.
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

stop_ticker() {
  [ -z "${ticker:-}" ] || kill "$ticker" 2>/dev/null || true
  ticker=''
}
