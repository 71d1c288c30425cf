#!/usr/bin/env bash
# Finds, or installs once, a checker in the pinned version, and prints its path.
#
#   hack/tool.sh cargo-deny
#
# Searched on the PATH (in exactly the pinned version: another one may have different results), then in the user's
# cache folder. Otherwise cargo installs it there, which needs nothing beyond a build of this project. Progress goes to
# stderr, so that stdout has only the path.
set -euo pipefail

say() { printf 'tool: %s\n' "$*" >&2; }
# shellcheck source=hack/ticker.sh
. "$(dirname "${BASH_SOURCE[0]}")/ticker.sh"

# Version, package, the duration of a clean installation on 2 cores in seconds, and the arguments that print the version.
version_args=(--version)
case ${1:-} in
  cargo-cyclonedx) version=0.5.9 package=cargo-cyclonedx seconds=110 version_args=(cyclonedx --version) ;;
  cargo-deny) version=0.20.2 package=cargo-deny seconds=75 ;;
  typos) version=1.52.0 package=typos-cli seconds=75 ;;
  *) say "usage: hack/tool.sh cargo-cyclonedx|cargo-deny|typos"; exit 2 ;;
esac
name=$1
root="${XDG_CACHE_HOME:-$HOME/.cache}/node-insights/tools/$package-$version"

find_tool() {
  local path
  if path=$(command -v "$name") && [ "$("$path" "${version_args[@]}" 2>/dev/null | awk '{print $NF}')" = "$version" ]; then
    echo "$path"
  elif [ -x "$root/bin/$name" ]; then
    echo "$root/bin/$name"
  fi
}

path=$(find_tool)
if [ -z "$path" ]; then
  mkdir -p "$root"
  exec 9>"$root/.lock"
  flock 9 # another run may be installing it: wait for that one instead of installing twice
  path=$(find_tool)
fi
if [ -z "$path" ]; then
  started=$SECONDS
  say "Installing $package $version into $root, once; about $seconds s on 2 cores"
  start_ticker "Still installing $package" "$seconds"
  # --debug, without debug information: compiles in less than half the time, and these run only for a second or two.
  # In another folder and without a target folder, so that the builds do not affect each other.
  (cd "$root" && env -u CARGO_TARGET_DIR -u RUSTFLAGS CARGO_PROFILE_DEV_DEBUG=false \
    cargo install --quiet --locked --debug --root "$root" --version "$version" "$package") 9>&- >&2 \
    || { say "Installing $package failed; see cargo's output above"; exit 1; }
  path="$root/bin/$name"
  stop_ticker
  say "Installed $package in $((SECONDS - started)) s"
fi
echo "$path"
