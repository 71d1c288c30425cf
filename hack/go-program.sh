#!/usr/bin/env bash
# Finds, or builds once, a program of the version that its Go module pins, and prints its path.
#
#   hack/go-program.sh kube-router|buildkitd|buildctl
#
# Looked for in the user's cache folder only: kube-router does not say its version in a way that could be relied on,
# and BuildKit, built so, does not say it at all. What is not there is built there. Progress goes to stderr, so stdout
# is only the path.
set -euo pipefail

say() { printf 'go-program: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
# shellcheck source=hack/ticker.sh
. "$(dirname "${BASH_SOURCE[0]}")/ticker.sh"
# shellcheck source=hack/go.sh
. "$(dirname "${BASH_SOURCE[0]}")/go.sh"

name=${1:-}
# The module, the folder whose go.mod names it, and what a build from nothing takes on 2 cores, in seconds.
case $name in
  kube-router) module=github.com/cloudnativelabs/kube-router/v2 folder=kube-router seconds=70 ;;
  buildkitd) module=github.com/moby/buildkit folder=buildkit seconds=90 ;;
  # Most of it is compiled with buildkitd, which is built first.
  buildctl) module=github.com/moby/buildkit folder=buildkit seconds=10 ;;
  *) say "usage: hack/go-program.sh kube-router|buildkitd|buildctl"; exit 2 ;;
esac
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/../tests/$folder" && pwd)
version=$(awk -v module="$module" '{ sub(/^require[ \t]+/, "") } $1 == module { print $2; exit }' "$folder/go.mod")
[ -n "$version" ] || die "Cannot read the version from $folder/go.mod"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/node-insights/tools/$(basename "$folder")-$version"

build() {
  local started=$SECONDS
  check_go "$name $version" ''
  # Nobody builds but the holder of the lock, so what lies here is of a build that was interrupted.
  rm -f "$cache"/.*.new
  say "Building $name $version into $cache, once; about $seconds s on 2 cores"
  start_ticker "Still building $name $version" "$seconds"
  trap 'stop_ticker; rm -f "$cache"/.*.new' EXIT
  # GOTOOLCHAIN=auto: an older Go fetches the toolchain that the module asks for.
  (cd "$folder" && GOTOOLCHAIN=auto GOFLAGS=-mod=readonly CGO_ENABLED=0 \
    go build -trimpath -ldflags '-s -w' -o "$cache/.$name.new" "$module/cmd/$name") >&2 9>&- \
    || die "Building $name $version failed; the lines above are what Go said"
  mv "$cache/.$name.new" "$cache/$name" # a rename: nobody ever sees half a program
  stop_ticker
  say "Built $name $version in $((SECONDS - started)) s"
}

if [ ! -x "$cache/$name" ]; then
  mkdir -p "$cache"
  exec 9>"$cache/.lock"
  flock 9 # another run may be building it: wait for that one instead of building twice
  [ -x "$cache/$name" ] || build
  exec 9>&-
fi
echo "$cache/$name"
