# shellcheck shell=bash
# To be sourced: builds programs from their Go module, and checks for a Go that can build them.

# shellcheck source=hack/ticker.sh
. "$(dirname "${BASH_SOURCE[0]}")/ticker.sh"

# The cache folder of a program, by name and version.
cache_of() { echo "${XDG_CACHE_HOME:-$HOME/.cache}/node-insights/tools/$1"; }

# build_once PROGRAM MODULE SECONDS ALTERNATIVE ARGUMENT…   builds the PROGRAM, a path in the user's cache folder, from
# the Go module in the folder MODULE with these arguments for `go build`, unless it exists. It takes about SECONDS on 2
# cores; ALTERNATIVE is another way to get it, or empty.
build_once() {
  local program=$1 module=$2 seconds=$3 alternative=$4 folder new what
  folder=$(dirname "$program")
  what="$(basename "$program") (${folder##*/})"
  new=$folder/.$(basename "$program").new
  mkdir -p "$folder"
  exec 9>"$folder/.lock"
  flock 9 # another run may be building it: wait for that one instead of building twice
  if [ ! -x "$program" ]; then
    check_go "$what" "$alternative"
    # Only the holder of the lock builds, so these files are from an interrupted build.
    rm -f "$folder"/.*.new
    SECONDS=0
    say "Building $what into $folder, once; about $seconds s on 2 cores"
    start_ticker "Still building $what" "$seconds"
    trap 'stop_ticker; rm -f "'"$new"'"' EXIT
    # GOTOOLCHAIN=auto: an older Go fetches the toolchain that the module requires.
    (cd "$module" && GOTOOLCHAIN=auto GOFLAGS=-mod=readonly CGO_ENABLED=0 \
      go build -trimpath -o "$new" "${@:5}") >&2 9>&- \
      || die "Building $what failed; see Go's output above"
    mv "$new" "$program" # a rename, so that the program is always complete
    stop_ticker
    say "Built $what in $SECONDS s"
  fi
  exec 9>&-
}

# check_go WHAT ALTERNATIVE   fails with a remedy if Go is missing or too old; ALTERNATIVE is another one, or empty.
# Go 1.21 is the first version that fetches the toolchain which a module requires.
check_go() {
  local what=$1 have
  local install="Install it
  (Debian 13 or newer: apt-get install golang-go; otherwise https://go.dev/dl/)$2."
  command -v go >/dev/null || die "Building $what needs Go 1.21 or newer, which is missing. $install"
  have=$(cd / && go env GOVERSION)
  have=${have#go}
  [ "$(printf '%s\n' 1.21 "$have" | sort -V | head -n 1)" = 1.21 ] \
    || die "Building $what needs Go 1.21 or newer, and this is $have. $install"
}
