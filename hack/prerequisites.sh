#!/usr/bin/env bash
# Lists the missing prerequisites of a build, with the exact command to install each.
#
#   hack/prerequisites.sh [git] [lints]    checks the requirements of every build, and the given ones
#
# Installs nothing, as these belong to the system or to rustup. What the project can build itself (control plane,
# checkers) goes into the user's cache folder when needed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
missing=()

lacks() { ! command -v "$1" >/dev/null 2>&1; }

# True when version $1 is at least $2.
at_least() { [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

debian() {
  local sudo=''
  [ "$(id -u)" = 0 ] || sudo='sudo '
  echo "${sudo}apt-get install -y $1    (Debian, Ubuntu; elsewhere the equivalent package)"
}

wanted_rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if lacks cargo || lacks rustc; then
  missing+=("Rust $wanted_rust or newer: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh")
else
  rust=$(rustc --version | awk '{print $2}')
  at_least "$rust" "$wanted_rust" || missing+=("Rust $wanted_rust or newer, this is $rust: rustup update stable")
fi
lacks cc && missing+=("a C compiler, for ring and for linking: $(debian 'gcc libc6-dev')")
lacks flock && missing+=("flock: $(debian util-linux)")

for extra in "$@"; do
  case $extra in
    git) if lacks git; then missing+=("git: $(debian git)"); fi ;;
    lints)
      cargo fmt --version >/dev/null 2>&1 || missing+=("rustfmt: rustup component add rustfmt")
      cargo clippy --version >/dev/null 2>&1 || missing+=("clippy: rustup component add clippy")
      ;;
    *) echo "prerequisites: unknown '$extra': know git, lints" >&2; exit 2 ;;
  esac
done

# hack/control-plane.sh, hack/helm.sh and hack/prometheus.sh check for Go, as they know whether anything has to be
# built with it.
if [ ${#missing[@]} -gt 0 ]; then
  echo "Missing on this machine:" >&2
  printf '  %s\n' "${missing[@]}" >&2
  exit 1
fi
