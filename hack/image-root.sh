#!/usr/bin/env bash
# Does by hand, without a container engine, what the Dockerfile does, and starts what comes of it:
# `make image-check`.
#
# 1. Copies what .dockerignore lets through, and nothing else, and runs the Dockerfile's own cargo line there.
# 2. Puts the binary, and the libraries that it names, into an empty folder. Each must be one that the final
#    image has.
# 3. Starts it with that folder as its root, read-only, without a network, as the image's user and without
#    any capability.
#
# The third needs root and unshare (util-linux). Where that is not to be had it ends with 77, SKIPPED, which
# is not passed. Not checked at all: that the base images are there and hold what is said below, the
# build for another processor, and what the engine itself does (labels, layers).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf 'image: %s\n' "$*"; }
die() { say "$*" >&2; exit 1; }

SKIP=77
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
context=$target/image/context
root=$target/image/root
scratch=$target/image/scratch
# Of its own: cargo would take this binary for the one of the repository, also after the repository has changed.
builds=$target/image/target

# What the binary may need of gcr.io/distroless/cc-debian12: libraries of Debian's libc6 and libgcc-s1.
has_library() {
  case $1 in
    libc.so.6 | libm.so.6 | libgcc_s.so.1 | ld-linux-x86-64.so.2 | ld-linux-aarch64.so.1) ;;
    *) return 1 ;;
  esac
}

# Only such patterns as are read here may stand in .dockerignore: nothing, but for what is named.
copy_context() {
  local line
  rm -rf "$context"
  mkdir -p "$context"
  while read -r line; do
    case $line in
      '' | '#'* | '*') ;;
      '!'*)
        mkdir -p "$context/$(dirname "${line#!}")"
        # With its times, else cargo would compile it again.
        cp -a "${line#!}" "$context/${line#!}"
        ;;
      *) die "hack/image-root.sh does not understand '$line' in .dockerignore" ;;
    esac
  done < .dockerignore
}

build() {
  local line
  line=$(sed -n 's/^ *\(cargo build .*\)$/\1/p' Dockerfile)
  [ "$(wc -l <<< "$line")" = 1 ] && [ -n "$line" ] || die "The Dockerfile has not exactly one line with cargo build"
  say "Running as the Dockerfile does: $line"
  (cd "$context" && CARGO_TARGET_DIR=$builds FEATURES='' bash -euc "$line")
}

assemble() {
  local binary=$builds/release/node-insights library
  rm -rf "$root"
  mkdir -p "$root"
  cp "$binary" "$root/node-insights"
  # Of each line the path, which is the third word, or the first one for the loader; the vdso has none.
  ldd "$binary" | awk '{ path = $2 == "=>" ? $3 : $1 } path ~ /^\// { print path }' > "$scratch/libraries"
  [ -s "$scratch/libraries" ] || die "ldd names no library: the image may be a smaller one then, distroless static"
  while read -r library; do
    has_library "${library##*/}" || die "The binary needs $library, which the final image has not"
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done < "$scratch/libraries"
}

measure() {
  say "The root of the image, by hand:"
  (cd "$root" && find . -type f -printf '  %9s  %P\n' | sort -k 2)
  say "$(du -sb --apparent-size "$root" | awk '{ printf "%.1f MiB", $1 / 1048576 }') in all, of which \
$(stat -c %s "$root/node-insights" | awk '{ printf "%.1f", $1 / 1048576 }') are the operator; compressed \
$(gzip -c "$root/node-insights" | wc -c | awk '{ printf "%.1f MiB", $1 / 1048576 }')"
}

# Starts what is given in the folder, as the image's user. `exec`: the process that is waited for, and sent
# a signal, is unshare itself.
user=$(sed -n 's/^USER //p' Dockerfile)
inside() {
  exec env -i "${environment[@]}" setpriv --no-new-privs \
    unshare --mount --net --ipc --uts --pid --fork --kill-child -- \
    bash -euc 'mount --bind "$1" "$1"; mount -o remount,bind,ro,nosuid,nodev "$1"
      exec unshare --root="$1" --wd=/ --setgid="$2" --setuid="$3" -- "${@:4}"' \
    bash "$root" "${user#*:}" "${user%:*}" "$@"
}
environment=(PATH=/usr/sbin:/usr/bin:/sbin:/bin NO_COLOR=1)

# Runs it to its end: what it says, and that it ends with the code that is expected.
expect() {
  local code=$1 text=$2 status=0
  shift 2
  (inside /node-insights "$@") > "$scratch/said" 2>&1 < /dev/null || status=$?
  if [ "$status" != "$code" ] || ! grep -q -- "$text" "$scratch/said"; then
    head -n 20 "$scratch/said" >&2
    die "node-insights $*: ended with $status instead of $code, or did not say '$text'"
  fi
  say "node-insights $*: ended with $code, as it ought to: $(grep -m 1 -- "$text" "$scratch/said")"
}

# A certificate authority, as every service account comes with one; its key is thrown away.
authority='
LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJlakNDQVIrZ0F3SUJBZ0lVV2NEU2dCL05kT2NkUXZUbktlc1NPTjhXU3Q4d0NnWUlL
b1pJemowRUF3SXcKRVRFUE1BMEdBMVVFQXd3R2JtOWliMlI1TUNBWERUSTJNVEV5TVRFNU1EazBObG9ZRHpJeE1qWXhNREk0TVRrdwpPVFEy
V2pBUk1ROHdEUVlEVlFRRERBWnViMkp2Wkhrd1dUQVRCZ2NxaGtqT1BRSUJCZ2dxaGtqT1BRTUJCd05DCkFBVEJUQWRnT3poWEExNW5tcEhN
Rmo0ZkwxSmtTdldJNGs5RndnNDFaWS9xZWZnK3h2ZlpDMmw0S1kveFdtV2UKTHVzbDNGNW05WjJTRHNwNHRqRmM4U1BRbzFNd1VUQWRCZ05W
SFE0RUZnUVVoK3QzUXVQV0dCdXNsa2FEeGJERAozbjBEaTlrd0h3WURWUjBqQkJnd0ZvQVVoK3QzUXVQV0dCdXNsa2FEeGJERDNuMERpOWt3
RHdZRFZSMFRBUUgvCkJBVXdBd0VCL3pBS0JnZ3Foa2pPUFFRREFnTkpBREJHQWlFQXQ2QkhjekhrZTVJV0ZpSEdsWGtTUGdPa2lFbjUKci9B
OHBmUXE3dm1FdGJjQ0lRQ2xFRlBSQ1p5dnpTWi9MSk5BYy9HV09hVStUZkFhOTBQbmNSd2E2Umg3SXc9PQotLS0tLUVORCBDRVJUSUZJQ0FU
RS0tLS0tCg==
'

# Runs it where no API server answers, looks at the process, and ends it.
expect_to_wait() {
  local tries=0 operator status=0 seen
  printf '%s' '{"apiVersion": "v1", "kind": "Config", "current-context": "none",
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:1",
      "certificate-authority-data": "'"$(tr -d '\n ' <<< "$authority")"'"}}],
    "users": [{"name": "none", "user": {}}]}' > "$root/kubeconfig"
  environment+=(KUBECONFIG=/kubeconfig)
  inside /node-insights run > "$scratch/said" 2>&1 < /dev/null &
  unshare=$!
  trap 'kill -KILL "$unshare" 2>/dev/null || true' EXIT
  until grep -q 'cannot be reached' "$scratch/said"; do
    tries=$((tries + 1))
    if [ $tries -gt 100 ] || ! kill -0 "$unshare" 2>/dev/null; then
      cat "$scratch/said" >&2
      die "node-insights run: did not say within 10 s that no API server can be reached"
    fi
    sleep 0.1
  done
  say "node-insights run: $(grep -m 1 'cannot be reached' "$scratch/said")"
  # The bash above became the operator, and unshare has no other child.
  operator=$(cat "/proc/$unshare/task/$unshare/children")
  operator=${operator%% *}
  seen=$(awk '/^(Uid|Gid|CapPrm|CapEff|CapAmb|NoNewPrivs):/ { print $1 $2 }' "/proc/$operator/status" | tr '\n' ' ')
  say "It runs with: $seen"
  [ "$seen" = "Uid:${user%:*} Gid:${user#*:} CapPrm:0000000000000000 CapEff:0000000000000000 CapAmb:0000000000000000 NoNewPrivs:1 " ] \
    || die "That is not the image's user, or it may more than nothing"
  awk '$5 == "/" && $6 ~ /^ro(,|$)/ { found = 1 } END { exit !found }' "/proc/$operator/mountinfo" \
    || die "Its root is not read-only"
  kill -TERM "$operator"
  wait "$unshare" || status=$?
  trap - EXIT
  [ "$status" = 0 ] || { tail -n 5 "$scratch/said" >&2; die "SIGTERM ended it with $status instead of 0"; }
  say "SIGTERM ended it with 0"
}

mkdir -p "$scratch"
copy_context
build
assemble
measure
lacks=''
if [ "$(id -u)" != 0 ]; then
  lacks='only root may do that'
elif ! unshare --mount --net --ipc --uts --pid --fork true 2>"$scratch/said"; then
  lacks=$(cat "$scratch/said")
fi
if [ -n "$lacks" ]; then
  say "SKIPPED: built and put together, but not started in a root of its own: $lacks" >&2
  exit "$SKIP"
fi
expect 0 "^node-insights $(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)\$" --version
expect 0 'kind: CustomResourceDefinition' crds
expect 1 'Cannot find out how to reach the API server' run
expect_to_wait
say "Passed: built, assembled and started as in the image"
