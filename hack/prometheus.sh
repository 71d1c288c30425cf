#!/usr/bin/env bash
# Finds, or builds once, Prometheus or promtool, and prints its path.
#
#   hack/prometheus.sh promtool|prometheus
#
# Searched on the PATH (in the pinned major version: older ones select ranges differently), then in the user's cache
# folder. Otherwise it is built there from the Go module in tests/prometheus. Progress goes to stderr, so that stdout
# has only the path.
set -euo pipefail

say() { printf 'prometheus: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
# shellcheck source=hack/go.sh
. "$(dirname "${BASH_SOURCE[0]}")/go.sh"

name=${1:-}
# The duration of a clean build on 2 cores, in seconds.
case $name in
  promtool) seconds=180 ;;
  prometheus) seconds=240 ;;
  *) say "usage: hack/prometheus.sh promtool|prometheus"; exit 2 ;;
esac
module=$(cd "$(dirname "${BASH_SOURCE[0]}")/../tests/prometheus" && pwd)
package=github.com/prometheus/prometheus
tag=$(awk -v module="$package" '{ sub(/^require[ \t]+/, "") } $1 == module { print $2; exit }' "$module/go.mod")
# The Go module of Prometheus 3.15.0 has the version v0.315.0, to avoid major versions in the module path.
version=$(sed -nE 's/^v0\.([0-9])0?([0-9]+)\.([0-9]+)$/\1.\2.\3/p' <<<"$tag")
[ -n "$version" ] || die "Cannot read the version from $module/go.mod"
built=$(cache_of "prometheus-$version")/$name

find_program() {
  local path have
  if path=$(command -v "$name") \
    && have=$("$path" --version 2>&1 | sed -nE '1s/^.*version ([0-9]+)\..*$/\1/p') \
    && [ "$have" = "${version%%.*}" ]; then
    echo "$path"
  else
    echo "$built"
  fi
}

path=$(find_program)
# Without the tag, the client libraries for service discovery in every cloud are compiled in, which these tests do not
# need.
[ -x "$path" ] || build_once "$path" "$module" "$seconds" ", or put $name ${version%%.*} on the PATH" \
  -tags remove_all_sd -ldflags "-s -w -X github.com/prometheus/common/version.Version=$version" "$package/cmd/$name"
echo "$path"
