#!/usr/bin/env bash
# Finds, or builds once, a program in the version that its Go module pins, and prints its path.
#
#   hack/go-program.sh kube-router|buildkitd|buildctl
#
# Searched only in the user's cache folder: kube-router does not report its version reliably, and BuildKit, built this
# way, not at all. Otherwise it is built there. Progress goes to stderr, so that stdout has only the path.
set -euo pipefail

say() { printf 'go-program: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
# shellcheck source=hack/go.sh
. "$(dirname "${BASH_SOURCE[0]}")/go.sh"

name=${1:-}
# The module, the folder whose go.mod requires it, and the duration of a clean build on 2 cores, in seconds.
case $name in
  kube-router) module=github.com/cloudnativelabs/kube-router/v2 folder=kube-router seconds=70 ;;
  buildkitd) module=github.com/moby/buildkit folder=buildkit seconds=90 ;;
  # Most of it is already compiled for buildkitd, which is built first.
  buildctl) module=github.com/moby/buildkit folder=buildkit seconds=10 ;;
  *) say "usage: hack/go-program.sh kube-router|buildkitd|buildctl"; exit 2 ;;
esac
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/../tests/$folder" && pwd)
version=$(awk -v module="$module" '{ sub(/^require[ \t]+/, "") } $1 == module { print $2; exit }' "$folder/go.mod")
[ -n "$version" ] || die "Cannot read the version from $folder/go.mod"
program=$(cache_of "$(basename "$folder")-$version")/$name
[ -x "$program" ] || build_once "$program" "$folder" "$seconds" '' -ldflags '-s -w' "$module/cmd/$name"
echo "$program"
