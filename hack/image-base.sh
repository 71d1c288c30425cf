#!/usr/bin/env bash
# Finds, or builds once, a local replacement for a base image of the Dockerfile, where no registry is available, and
# prints its folder, an OCI layout.
#
#   hack/image-base.sh rust       for rust:…-slim-bookworm, with this machine's toolchain
#   hack/image-base.sh runtime    for gcr.io/distroless/cc-debian12:nonroot
#
# Built from Debian 12 packages, by mmdebstrap, as root, in the user's cache folder. Rebuilt when the toolchain, the
# certificates or cargo's configuration changes, and each month for Debian's updates.
#
# Differences from the real images:
# - rust: no rustup, so no cross compilation. It contains the machine's certificates, and its configuration of apt for
#   fetching and of cargo for registries. None of that gets into the result.
# - runtime: no libssl3, libstdc++6, libgomp1, tzdata, netbase and ca-certificates, which the operator does not use; no
#   package list for scanners; no signature, and no well-known digest.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf 'image-base: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
# shellcheck source=hack/image-layout.sh
. hack/image-layout.sh

SUITE=bookworm
certificates=/etc/ssl/certs/ca-certificates.crt
cache=${XDG_CACHE_HOME:-$HOME/.cache}/node-insights/image
name=${1:-}

# debian ROOT MODE PACKAGES   Uses the mirrors of this machine, if it runs the same Debian.
debian() {
  local root=$1 mirrors
  mapfile -t mirrors < <(apt-get indextargets --format '$(RELEASE) deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
    'Created-By: Packages' 'Origin: Debian' | sed -n "s/^${SUITE}[^ ]* //p" | sort -u)
  apt-config dump | grep '^Acquire::' > "$work/apt.conf"
  mmdebstrap --variant="$2" --include="$3" --aptopt="$work/apt.conf" "$SUITE" "$root" "${mirrors[@]}" \
    > "$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; die "mmdebstrap failed; see its output above"; }
  # Files from this machine, and those that every container gets itself.
  rm -rf "${root:?}"/etc/{hostname,resolv.conf} "${root:?}"/dev/*
}

# The part of cargo's configuration about registries; the rest is about this machine's own builds.
registries() {
  local file=${CARGO_HOME:-$HOME/.cargo}/config.toml
  [ ! -e "$file" ] || awk '/^\[/ { keep = /^\[+(source|registry|registries|http|net)[].]/ } keep' "$file"
}

rust() {
  local root=$1 toolchain=$1/usr/local/rust host
  host=$(rustc -vV | sed -n 's/^host: //p')
  debian "$root" minbase gcc,libc6-dev,ca-certificates
  mkdir -p "$toolchain/bin" "$toolchain/lib/rustlib" "$root/usr/local/cargo"
  cp "$sysroot"/bin/{cargo,rustc} "$toolchain/bin"
  cp "$sysroot"/lib/*.so* "$toolchain/lib"
  cp -r "$sysroot/lib/rustlib/$host" "$toolchain/lib/rustlib"
  [ ! -e $certificates ] || cp -L $certificates "$root$certificates"
  registries > "$root/usr/local/cargo/config.toml"
  config='{"Env":["PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "CARGO_HOME=/usr/local/cargo"]}'
}

runtime() {
  local root=$1 home
  home=/"home"/nonroot
  debian "$root" extract base-files,libc6,libgcc-s1
  # Without the shell and other programs that dependencies install, and without apt's files.
  rm -rf "${root:?}"/{bin,sbin,usr/bin,usr/sbin,usr/share,var/lib,var/cache,var/log,etc/apt,etc/dpkg}
  mkdir -p "$root$home"
  chown 65532:65532 "$root$home"
  printf '%s\n' root:x:0:0:root:/root:/sbin/nologin "nonroot:x:65532:65532:nonroot:$home:/sbin/nologin" \
    > "$root/etc/passwd"
  printf '%s\n' root:x:0: nonroot:x:65532: > "$root/etc/group"
  config='{"User":"65532","WorkingDir":"'$home'",
    "Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}'
}

inputs=("${BASH_SOURCE[0]}" hack/image-layout.sh)
case $name in
  rust)
    sysroot=$(rustc --print sysroot)
    compgen -G "$sysroot/lib/librustc_driver-*.so" >/dev/null && [ -x "$sysroot/bin/cargo" ] \
      || die "The toolchain in $sysroot cannot be copied into an image; one from rustup can"
    image=rust:$(rustc --version | awk '{ print $2 }')-slim-$SUITE
    [ ! -e $certificates ] || inputs+=("$certificates")
    facts=$(rustc -vV; registries)
    ;;
  runtime)
    image=gcr.io/distroless/cc-debian12:nonroot
    facts=''
    ;;
  *) say "usage: hack/image-base.sh rust|runtime"; exit 2 ;;
esac
key=$({ echo "$facts"; date +%Y-%m; cat "${inputs[@]}"; } | sha256sum | cut -c 1-16)
layout=$cache/$name-$key

if [ ! -d "$layout" ]; then
  mkdir -p "$cache"
  exec 9>"$cache/.$name.lock"
  flock 9 # another run may be building it: wait for that one instead of building twice
fi
if [ ! -d "$layout" ]; then
  started=$SECONDS
  say "Building a replacement for $image in $layout, once; about a minute"
  # Writable only by root, and readable by apt's user; the cache folder may not be.
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  chmod 755 "$work"
  mkdir "$work/root"
  "$name" "$work/root"
  rm -rf "$cache/$name"-* "$cache/.$name.new"
  pack_layer "$work/root" | write_layout "$cache/.$name.new" "$image" "$config"
  mv "$cache/.$name.new" "$layout" # a rename, so that the image is always complete
  say "Built it in $((SECONDS - started)) s: $(du -sh "$layout" | cut -f 1)"
fi
echo "$layout"
