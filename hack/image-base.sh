#!/usr/bin/env bash
# Finds, or makes once, a local image in the place of one that the Dockerfile starts from, where no registry can be
# asked for it, and prints its folder, an OCI layout.
#
#   hack/image-base.sh rust       for rust:…-slim-bookworm, with this machine's toolchain
#   hack/image-base.sh runtime    for gcr.io/distroless/cc-debian12:nonroot
#
# Of Debian 12's packages, by mmdebstrap, as root, in the user's cache folder. Made again when the toolchain, the
# certificates or the settings of cargo change, and each month, as Debian has updates.
#
# What the real ones have and these have not:
# - rust: rustup, so there is no compiling for another processor; and nothing of the machine. Here are its
#   certificates, its settings of apt for fetching and of cargo for registries. None of that gets into the result.
# - runtime: libssl3, libstdc++6, libgomp1, tzdata, netbase and ca-certificates, none of which the operator uses; the
#   list of its packages by which scanners know it; a signature, and a digest that others know.
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

# debian ROOT MODE PACKAGES   Where this machine is of the same Debian, from the mirrors that it uses itself.
debian() {
  local root=$1 mirrors
  mapfile -t mirrors < <(apt-get indextargets --format '$(RELEASE) deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
    'Created-By: Packages' 'Origin: Debian' | sed -n "s/^${SUITE}[^ ]* //p" | sort -u)
  apt-config dump | grep '^Acquire::' > "$work/apt.conf"
  mmdebstrap --variant="$2" --include="$3" --aptopt="$work/apt.conf" "$SUITE" "$root" "${mirrors[@]}" \
    > "$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; die "mmdebstrap failed; the lines above are what it said"; }
  # Of this machine, and what every container gets anew.
  rm -rf "${root:?}"/etc/{hostname,resolv.conf} "${root:?}"/dev/*
}

# What of cargo's settings says where crates come from; the rest is about this machine's own builds.
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
  # No shell and no other program, as the packages that these ask for bring, and nothing of apt's.
  rm -rf "${root:?}"/{bin,sbin,usr/bin,usr/sbin,usr/share,var/lib,var/cache,var/log,etc/apt,etc/dpkg}
  mkdir -p "$root$home"
  chown 65532:65532 "$root$home"
  printf '%s\n' root:x:0:0:root:/root:/sbin/nologin "nonroot:x:65532:65532:nonroot:$home:/sbin/nologin" \
    > "$root/etc/passwd"
  printf '%s\n' root:x:0: nonroot:x:65532: > "$root/etc/group"
  config='{"User":"65532","WorkingDir":"'$home'",
    "Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}'
}

made_of=("${BASH_SOURCE[0]}" hack/image-layout.sh)
case $name in
  rust)
    sysroot=$(rustc --print sysroot)
    compgen -G "$sysroot/lib/librustc_driver-*.so" >/dev/null && [ -x "$sysroot/bin/cargo" ] \
      || die "The toolchain in $sysroot cannot be copied into an image; one of rustup can"
    image=rust:$(rustc --version | awk '{ print $2 }')-slim-$SUITE
    [ ! -e $certificates ] || made_of+=("$certificates")
    facts=$(rustc -vV; registries)
    ;;
  runtime)
    image=gcr.io/distroless/cc-debian12:nonroot
    facts=''
    ;;
  *) say "usage: hack/image-base.sh rust|runtime"; exit 2 ;;
esac
key=$({ echo "$facts"; date +%Y-%m; cat "${made_of[@]}"; } | sha256sum | cut -c 1-16)
layout=$cache/$name-$key

if [ ! -d "$layout" ]; then
  mkdir -p "$cache"
  exec 9>"$cache/.$name.lock"
  flock 9 # another run may be making it: wait for that one instead of doing it twice
fi
if [ ! -d "$layout" ]; then
  started=$SECONDS
  say "Making an image in the place of $image in $layout, once; about a minute"
  # Where only root writes, and apt's user may look in; not in the cache, whose folder may be closed to that.
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  chmod 755 "$work"
  mkdir "$work/root"
  "$name" "$work/root"
  rm -rf "$cache/$name"-* "$cache/.$name.new"
  pack_layer "$work/root" | write_layout "$cache/.$name.new" "$image" "$config"
  mv "$cache/.$name.new" "$layout" # a rename: nobody ever sees half an image
  say "Made it in $((SECONDS - started)) s: $(du -sh "$layout" | cut -f 1)"
fi
echo "$layout"
