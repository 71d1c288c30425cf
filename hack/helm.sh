#!/usr/bin/env bash
# Finds, or builds once, a Helm of the pinned version, and prints its path.
#
#   hack/helm.sh 3|4
#
# Looked for on the PATH (of exactly the pinned version: another one may render differently), then in the
# user's cache folder. What is in neither is built there, from the Go module in tests/helm3 or
# tests/helm4. Progress goes to stderr, so stdout is only the path.
set -euo pipefail

say() { printf 'helm: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
# shellcheck source=hack/ticker.sh
. "$(dirname "${BASH_SOURCE[0]}")/ticker.sh"
# shellcheck source=hack/go.sh
. "$(dirname "${BASH_SOURCE[0]}")/go.sh"

major=${1:-}
case $major in
  3 | 4) ;;
  *) say "usage: hack/helm.sh 3|4"; exit 2 ;;
esac
# What a build from nothing takes on 2 cores.
seconds=240
module=$(cd "$(dirname "${BASH_SOURCE[0]}")/../tests/helm$major" && pwd)
# The version of a module that the go.mod names, in a line of its own or in a block.
version_of() {
  awk -v module="$1" '{ sub(/^require[ \t]+/, "") } $1 == module { print $2; exit }' "$module/go.mod"
}
package="helm.sh/helm/v$major"
version=$(version_of "$package")
client=$(version_of k8s.io/client-go)
[ -n "$version" ] && [ -n "$client" ] || die "Cannot read the versions from $module/go.mod"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/node-insights/tools/helm-$version"

find_helm() {
  local path
  if path=$(command -v helm) && [ "$("$path" version --template '{{.Version}}' 2>/dev/null)" = "$version" ]; then
    echo "$path"
  elif [ -x "$cache/helm" ]; then
    echo "$cache/helm"
  fi
}

# The versions that Helm's own build puts in, too: of itself, and of the Kubernetes that a chart which is
# rendered without a cluster is rendered for.
linker_flags() {
  local minor=${client#v0.}
  minor=${minor%%.*}
  printf '%s ' -s -w -X "$package/internal/version.version=$version" \
    -X "$package/pkg/chartutil.k8sVersionMajor=1" -X "$package/pkg/chartutil.k8sVersionMinor=$minor" \
    -X "$package/pkg/lint/rules.k8sVersionMajor=1" -X "$package/pkg/lint/rules.k8sVersionMinor=$minor"
}

build() {
  local started=$SECONDS
  check_go "Helm $version" ", or put helm $version on the PATH"
  # Nobody builds but the holder of the lock, so what lies here is of a build that was interrupted.
  rm -f "$cache"/.*.new
  say "Building Helm $version into $cache, once; about $seconds s on 2 cores"
  start_ticker "Still building Helm $version" "$seconds"
  trap 'stop_ticker; rm -f "$cache"/.*.new' EXIT
  # GOTOOLCHAIN=auto: an older Go fetches the toolchain that the module asks for.
  (cd "$module" && GOTOOLCHAIN=auto GOFLAGS=-mod=readonly CGO_ENABLED=0 \
    go build -trimpath -ldflags "$(linker_flags)" -o "$cache/.helm.new" "$package/cmd/helm") >&2 9>&- \
    || die "Building Helm $version failed; the lines above are what Go said"
  mv "$cache/.helm.new" "$cache/helm" # a rename: nobody ever sees half a program
  stop_ticker
  say "Built Helm $version in $((SECONDS - started)) s"
}

path=$(find_helm)
if [ -z "$path" ]; then
  mkdir -p "$cache"
  exec 9>"$cache/.lock"
  flock 9 # another run may be building it: wait for that one instead of building twice
  path=$(find_helm)
  [ -n "$path" ] || { build; path="$cache/helm"; }
  exec 9>&-
fi
echo "$path"
