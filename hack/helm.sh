#!/usr/bin/env bash
# Finds, or builds once, Helm in the pinned version, and prints its path.
#
#   hack/helm.sh 3|4
#
# Searched on the PATH (in exactly the pinned version: another one may render differently), then in the user's
# cache folder. Otherwise it is built there from the Go module in tests/helm3 or tests/helm4. Progress goes to
# stderr, so that stdout has only the path.
set -euo pipefail

say() { printf 'helm: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
# shellcheck source=hack/go.sh
. "$(dirname "${BASH_SOURCE[0]}")/go.sh"

major=${1:-}
case $major in
  3 | 4) ;;
  *) say "usage: hack/helm.sh 3|4"; exit 2 ;;
esac
module=$(cd "$(dirname "${BASH_SOURCE[0]}")/../tests/helm$major" && pwd)
# The version of a module in go.mod, on its own line or in a block.
version_of() {
  awk -v module="$1" '{ sub(/^require[ \t]+/, "") } $1 == module { print $2; exit }' "$module/go.mod"
}
package="helm.sh/helm/v$major"
version=$(version_of "$package")
client=$(version_of k8s.io/client-go)
[ -n "$version" ] && [ -n "$client" ] || die "Cannot read the versions from $module/go.mod"
built=$(cache_of "helm-$version")/helm

find_helm() {
  local path
  if path=$(command -v helm) && [ "$("$path" version --template '{{.Version}}' 2>/dev/null)" = "$version" ]; then
    echo "$path"
  else
    echo "$built"
  fi
}

# The versions that Helm's own build sets as well: its own, and the Kubernetes version for rendering without a
# cluster.
linker_flags() {
  local minor=${client#v0.}
  minor=${minor%%.*}
  printf '%s ' -s -w -X "$package/internal/version.version=$version" \
    -X "$package/pkg/chartutil.k8sVersionMajor=1" -X "$package/pkg/chartutil.k8sVersionMinor=$minor" \
    -X "$package/pkg/lint/rules.k8sVersionMajor=1" -X "$package/pkg/lint/rules.k8sVersionMinor=$minor"
}

path=$(find_helm)
[ -x "$path" ] || build_once "$path" "$module" 240 ", or put helm $version on the PATH" \
  -ldflags "$(linker_flags)" "$package/cmd/helm"
echo "$path"
