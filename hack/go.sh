# To be sourced: whether there is a Go that can build what the tests need.

# check_go WHAT ELSE   ends with what to do where Go is missing or too old; ELSE is another way out, or nothing.
# Go 1.21 is the first that fetches the toolchain which a module asks for.
check_go() {
  local what=$1 have
  local install="Install it
  (Debian 13 or newer: apt-get install golang-go; else https://go.dev/dl/)$2."
  command -v go >/dev/null || die "Building $what needs Go 1.21 or newer, and there is none. $install"
  have=$(cd / && go env GOVERSION)
  have=${have#go}
  [ "$(printf '%s\n' 1.21 "$have" | sort -V | head -n 1)" = 1.21 ] \
    || die "Building $what needs Go 1.21 or newer, and this is $have. $install"
}
