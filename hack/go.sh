# shellcheck shell=bash
# To be sourced: programs that are built from their Go module, and whether there is a Go that can build them.

# shellcheck source=hack/ticker.sh
. "$(dirname "${BASH_SOURCE[0]}")/ticker.sh"

# Where a program is that was built here, of the version in its name.
cache_of() { echo "${XDG_CACHE_HOME:-$HOME/.cache}/node-insights/tools/$1"; }

# build_once PROGRAM MODULE SECONDS ELSE ARGUMENT…   builds the PROGRAM, a path in the user's cache folder, from the Go
# module in the folder MODULE with these arguments of `go build`, unless it is there. It takes about so many SECONDS
# on 2 cores; ELSE is another way to get it, or nothing.
build_once() {
  local program=$1 module=$2 seconds=$3 or_else=$4 folder new what
  folder=$(dirname "$program")
  what="$(basename "$program") (${folder##*/})"
  new=$folder/.$(basename "$program").new
  mkdir -p "$folder"
  exec 9>"$folder/.lock"
  flock 9 # another run may be building it: wait for that one instead of building twice
  if [ ! -x "$program" ]; then
    check_go "$what" "$or_else"
    # Nobody builds but the holder of the lock, so what lies here is of a build that was interrupted.
    rm -f "$folder"/.*.new
    SECONDS=0
    say "Building $what into $folder, once; about $seconds s on 2 cores"
    start_ticker "Still building $what" "$seconds"
    trap 'stop_ticker; rm -f "'"$new"'"' EXIT
    # GOTOOLCHAIN=auto: an older Go fetches the toolchain that the module asks for.
    (cd "$module" && GOTOOLCHAIN=auto GOFLAGS=-mod=readonly CGO_ENABLED=0 \
      go build -trimpath -o "$new" "${@:5}") >&2 9>&- \
      || die "Building $what failed; the lines above are what Go said"
    mv "$new" "$program" # a rename: nobody ever sees half a program
    stop_ticker
    say "Built $what in $SECONDS s"
  fi
  exec 9>&-
}

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
