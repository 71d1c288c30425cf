#!/usr/bin/env bash
# Builds the container image: `make image`.
#
#   hack/image.sh              builds it; without an engine, finally prints the path of the archive
#   hack/image.sh --prepare    prints what prevents a build without an engine, and then exits with 77
#
# IMAGE is its name and tag, PLATFORMS its platforms (empty: this machine's), RUST_DIGEST and RUNTIME_DIGEST the digests
# of its base images.
#
# ENGINE=docker builds it with Docker, ENGINE=none without any engine or registry; by default with Docker if it is
# running. Without an engine, as root on Debian, BuildKit is built from its Go module and reads the same Dockerfile, and
# the two base images are built from Debian packages. They contain what this build and the operator need, but have no
# well-known digest; hack/image-base.sh lists the differences. This proves that the Dockerfile works, and the result
# can be run; for a release use the real base images. An image based on local ones has localhost in its label base.name.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf 'image: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
# shellcheck source=hack/packages.sh
. hack/packages.sh
# shellcheck source=hack/image-layout.sh
. hack/image-layout.sh
# shellcheck source=tests/e2e/cgroups.sh
. tests/e2e/cgroups.sh

SKIP=77
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
rust=$(sed -n 's/^ARG RUST_VERSION=//p' Dockerfile)
runtime=$(sed -n 's/^ARG RUNTIME_IMAGE=//p' Dockerfile)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/node-insights/image
# Always the same, so that the next run removes what a killed run left behind.
cgroup=node-insights-image
# Program and Debian package.
packages=(mmdebstrap:mmdebstrap runc:runc)
namespaces=(--mount --pid --fork --kill-child --mount-proc)
build_args=(VERSION="$version" REVISION="$(git rev-parse HEAD)"
  CREATED="$(TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd)")

with_docker() {
  local argument options=(--tag "${IMAGE:-node-insights:dev}")
  build_args+=(${RUST_DIGEST:+RUST_DIGEST="$RUST_DIGEST"} ${RUNTIME_DIGEST:+RUNTIME_DIGEST="$RUNTIME_DIGEST"})
  for argument in "${build_args[@]}"; do options+=(--build-arg "$argument"); done
  docker buildx build ${PLATFORMS:+--platform "$PLATFORMS"} "${options[@]}" .
}

# Prints why it cannot be built here without an engine, with a remedy; nothing if it can.
find_obstacle() {
  local name missing
  if [ "$(uname -s)" != Linux ]; then echo 'this is not Linux: use Docker'; return; fi
  if [ -n "${RUST_DIGEST:-}${RUNTIME_DIGEST:-}" ]; then
    echo 'images by digest come from a registry: use Docker, or leave RUST_DIGEST and RUNTIME_DIGEST out'
    return
  fi
  case ${PLATFORMS:-} in
    '' | "linux/$(image_architecture)") ;;
    *) echo "only an image for linux/$(image_architecture) can be built without an engine: use Docker for $PLATFORMS"; return ;;
  esac
  if [ "$(id -u)" != 0 ]; then echo 'a build without an engine needs root: use Docker, or become root'; return; fi
  for name in unshare setpriv flock rustc go; do
    command -v $name >/dev/null || { echo "$name is missing: install it"; return; }
  done
  if [ "$(rustc --version | awk '{ print $2 }')" != "$rust" ]; then
    echo "the Dockerfile compiles with Rust $rust, but this is $(rustc --version): rustup toolchain install $rust, and" \
      "set RUSTUP_TOOLCHAIN=$rust"
    return
  fi
  if ! unshare "${namespaces[@]}" mount -t tmpfs tmpfs /run >/dev/null 2>&1; then
    echo 'namespaces and mounts are not allowed here (they need CAP_SYS_ADMIN): use Docker'
    return
  fi
  missing=$(missing_packages "${packages[@]}" | tr '\n' ' ')
  [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+='debian-archive-keyring '
  if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null; then echo "these Debian packages are missing: $missing"; return; fi
    say "Installing $missing(apt-get)"
    if ! install_packages $missing > "$target/image/apt.log" 2>&1; then
      echo "apt-get cannot install $missing($target/image/apt.log)"
    fi
  fi
}

finish() {
  [ -z "${buildkitd:-}" ] || { kill -KILL "$buildkitd" 2>/dev/null; wait "$buildkitd" 2>/dev/null; } || true
  [ -z "${work:-}" ] || rm -rf "$work"
  # The last processes may need a moment to exit.
  for _ in $(seq 50); do
    if remove_cgroups "$cgroup" 2>/dev/null; then return; fi
    sleep 0.1
  done
  say "Some cgroups could not be removed: $cgroup"
}

# Starts BuildKit in its own namespaces, with a socket for this run only. It ends with this script, however that ends,
# and so does everything that it started.
start_buildkit() {
  local daemon
  daemon=$(hack/go-program.sh buildkitd)
  buildctl=$(hack/go-program.sh buildctl)
  mkdir -p /run/runc "$cache/buildkit"
  # The build cache, which only one process may use.
  exec 9>"$cache/.buildkit.lock"
  flock --nonblock 9 || { say "Waiting for another build to end"; flock 9; }
  cat > "$work/buildkitd.toml" <<TOML
root = "$cache/buildkit"
[grpc]
  address = ["unix://$work/socket"]
[worker.containerd]
  enabled = false
[worker.oci]
  # Two months of base images and builds; older entries are removed during builds.
  maxUsedSpace = "6GB"
  networkMode = "host"
  defaultCgroupParent = "/$cgroup"
TOML
  setpriv --pdeathsig KILL -- unshare "${namespaces[@]}" bash -euc '
    mount -t tmpfs tmpfs /run/runc
    exec "$@"' bash "$daemon" --config "$work/buildkitd.toml" > "$work/log" 2>&1 9>&- &
  buildkitd=$!
  for _ in $(seq 150); do
    if "$buildctl" --addr "unix://$work/socket" debug workers >/dev/null 2>&1; then return; fi
    kill -0 "$buildkitd" 2>/dev/null || break
    sleep 0.2
  done
  tail -n 20 "$work/log" >&2
  die "BuildKit did not start; see its output above"
}

without_engine() {
  local name=${IMAGE:-docker.io/library/node-insights:$version} archive argument options=() rust_base runtime_base
  archive=$target/image/$(basename "${name//:/-}").tar
  say "Building $name with BuildKit, without an engine or a registry; a clean build takes about 10 minutes on 2 cores"
  rust_base=$(hack/image-base.sh rust)
  runtime_base=$(hack/image-base.sh runtime)
  work=$(mktemp -d)
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  start_buildkit
  for argument in "${build_args[@]}"; do options+=(--opt "build-arg:$argument"); done
  # The names exactly as in the Dockerfile: qualified ones would not match.
  "$buildctl" --addr "unix://$work/socket" build --progress plain --frontend dockerfile.v0 \
    --local context=. --local dockerfile=. "${options[@]}" \
    --oci-layout "rust=$rust_base" --oci-layout "runtime=$runtime_base" \
    --opt "context:rust:$rust-slim-bookworm=oci-layout://rust@$(layout_digest "$rust_base")" \
    --opt "context:$runtime=oci-layout://runtime@$(layout_digest "$runtime_base")" \
    --opt "label:org.opencontainers.image.base.name=localhost/${runtime##*/}" \
    --output "type=oci,dest=$work/image.tar,name=$name" >&2 9>&- &
  # In the background, so that a signal ends this at once.
  wait "$!" || die "Building the image failed; see BuildKit's output above"
  # buildctl makes it world-writable.
  chmod 644 "$work/image.tar"
  mv "$work/image.tar" "$archive"
  say "Built in $SECONDS s: $(du -h "$archive" | cut -f 1)"
  echo "$archive"
}

engine=${ENGINE:-}
if [ -z "$engine" ]; then
  if docker version >/dev/null 2>&1; then engine=docker; else engine=none; fi
fi
[ "${1:-}" != --prepare ] || engine=none
case $engine in
  docker) with_docker; exit ;;
  none) ;;
  *) say "No engine '$engine': know docker, none"; exit 2 ;;
esac
mkdir -p "$target/image"
obstacle=$(find_obstacle)
if [ "${1:-}" = --prepare ]; then
  [ -z "$obstacle" ] || { echo "$obstacle"; exit $SKIP; }
else
  [ -z "$obstacle" ] || die "Without Docker: $obstacle"
  without_engine
fi
