# shellcheck shell=bash
# To be sourced: Debian packages for scripts that need more than Rust, Go and a C compiler.

# missing_packages PROGRAM:PACKAGE…   prints the packages of missing programs.
missing_packages() {
  local item
  for item in "$@"; do
    command -v "${item%%:*}" >/dev/null || echo "${item#*:}"
  done | sort -u
}

# install_packages PACKAGE…   Does not start their services: scripts start what they need.
install_packages() {
  local policy=/usr/sbin/policy-rc.d made='' status=0
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y
    --no-install-recommends "$@")
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod +x $policy
    made=yes
  fi
  # The package lists may be outdated or missing.
  "${install[@]}" || { apt-get update && "${install[@]}"; } || status=$?
  [ -z "$made" ] || rm -f $policy
  return $status
}
