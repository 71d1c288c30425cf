# shellcheck shell=bash
# To be sourced: Debian's packages, where a script needs more than Rust, Go and a C compiler.

# missing_packages PROGRAM:PACKAGE…   prints the packages of the programs that are not here.
missing_packages() {
  local item
  for item in "$@"; do
    command -v "${item%%:*}" >/dev/null || echo "${item#*:}"
  done | sort -u
}

# install_packages PACKAGE…   None of their services is started: whoever needs one starts it by itself.
install_packages() {
  local policy=/usr/sbin/policy-rc.d made='' status=0
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y
    --no-install-recommends "$@")
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod +x $policy
    made=yes
  fi
  # The list of packages may be old, or not be there at all.
  "${install[@]}" || { apt-get update && "${install[@]}"; } || status=$?
  [ -z "$made" ] || rm -f $policy
  return $status
}
