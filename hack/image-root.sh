#!/usr/bin/env bash
# Does what the Dockerfile does, without a container engine, and starts the result: `make image-check`.
#
# 1. Copies exactly the files that .dockerignore allows, and runs the Dockerfile's own cargo line there.
# 2. Puts the binary and its shared libraries into an empty folder. Each library must exist in the final image.
# 3. Starts it with that folder as its root, read-only, without a network, as the image's user and without
#    any capability.
#
# The third step needs root and unshare (util-linux). Without them this exits with 77, SKIPPED, which does not
# count as passed. Not checked: that the base images exist and contain these libraries, cross compilation, and the
# engine's own work (labels, layers).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf 'image: %s\n' "$*"; }
die() { say "$*" >&2; exit 1; }

SKIP=77
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
context=$target/image/context
root=$target/image/root
scratch=$target/image/scratch
# A separate target folder: otherwise cargo would confuse this binary with that of the repository.
builds=$target/image/target

# The libraries that the binary may use from gcr.io/distroless/cc-debian12: those of Debian's libc6 and libgcc-s1.
has_library() {
  case $1 in
    libc.so.6 | libm.so.6 | libgcc_s.so.1 | ld-linux-x86-64.so.2 | ld-linux-aarch64.so.1) ;;
    *) return 1 ;;
  esac
}

# .dockerignore may contain only the patterns that are understood here: `*`, and inclusions.
copy_context() {
  local line
  rm -rf "$context"
  mkdir -p "$context"
  while read -r line; do
    case $line in
      '' | '#'* | '*') ;;
      '!'*)
        mkdir -p "$context/$(dirname "${line#!}")"
        # With timestamps, otherwise cargo would compile it again.
        cp -a "${line#!}" "$context/${line#!}"
        ;;
      *) die "hack/image-root.sh does not understand '$line' in .dockerignore" ;;
    esac
  done < .dockerignore
}

build() {
  local line
  line=$(sed -n 's/^ *\(cargo build .*\)$/\1/p' Dockerfile)
  [ "$(wc -l <<< "$line")" = 1 ] && [ -n "$line" ] || die "The Dockerfile does not have exactly one line with cargo build"
  say "Running as the Dockerfile does: $line"
  (cd "$context" && CARGO_TARGET_DIR=$builds FEATURES='' bash -euc "$line")
}

assemble() {
  local binary=$builds/release/node-insights library
  rm -rf "$root"
  mkdir -p "$root"
  cp "$binary" "$root/node-insights"
  # The path is the third word of a line, or the first one for the loader; the vdso has none.
  ldd "$binary" | awk '{ path = $2 == "=>" ? $3 : $1 } path ~ /^\// { print path }' > "$scratch/libraries"
  [ -s "$scratch/libraries" ] || die "ldd lists no library: then the smaller image distroless static would be enough"
  while read -r library; do
    has_library "${library##*/}" || die "The binary needs $library, which the final image does not have"
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done < "$scratch/libraries"
}

measure() {
  say "The root of the image:"
  (cd "$root" && find . -type f -printf '  %9s  %P\n' | sort -k 2)
  say "$(du -sb --apparent-size "$root" | awk '{ printf "%.1f MiB", $1 / 1048576 }') in total, of which \
$(stat -c %s "$root/node-insights" | awk '{ printf "%.1f", $1 / 1048576 }') for the operator; compressed \
$(gzip -c "$root/node-insights" | wc -c | awk '{ printf "%.1f MiB", $1 / 1048576 }')"
}

# Runs a command in the folder, as the image's user. `exec`, so that the process to wait for and to signal is
# unshare itself.
user=$(sed -n 's/^USER //p' Dockerfile)
inside() {
  exec env -i "${environment[@]}" setpriv --no-new-privs \
    unshare --mount --net --ipc --uts --pid --fork --kill-child -- \
    bash -euc 'mount --bind "$1" "$1"; mount -o remount,bind,ro,nosuid,nodev "$1"
      exec unshare --root="$1" --wd=/ --setgid="$2" --setuid="$3" -- "${@:4}"' \
    bash "$root" "${user#*:}" "${user%:*}" "$@"
}
environment=(PATH=/usr/sbin:/usr/bin:/sbin:/bin NO_COLOR=1)

# Runs the operator to its end, and checks its output and its exit code.
expect() {
  local code=$1 text=$2 status=0
  shift 2
  (inside /node-insights "$@") > "$scratch/output" 2>&1 < /dev/null || status=$?
  if [ "$status" != "$code" ] || ! grep -q -- "$text" "$scratch/output"; then
    head -n 20 "$scratch/output" >&2
    die "node-insights $*: exited with $status instead of $code, or did not print '$text'"
  fi
  say "node-insights $*: exited with $code, as expected: $(grep -m 1 -- "$text" "$scratch/output")"
}

# A CA certificate, as service accounts have one; its key is discarded.
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

# Runs the operator without an API server, inspects the process, and stops it.
expect_to_wait() {
  local tries=0 operator status=0 seen
  printf '%s' '{"apiVersion": "v1", "kind": "Config", "current-context": "none",
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:1",
      "certificate-authority-data": "'"$(tr -d '\n ' <<< "$authority")"'"}}],
    "users": [{"name": "none", "user": {}}]}' > "$root/kubeconfig"
  environment+=(KUBECONFIG=/kubeconfig)
  inside /node-insights run > "$scratch/output" 2>&1 < /dev/null &
  unshare=$!
  trap 'kill -KILL "$unshare" 2>/dev/null || true' EXIT
  until grep -q 'cannot be reached' "$scratch/output"; do
    tries=$((tries + 1))
    if [ $tries -gt 100 ] || ! kill -0 "$unshare" 2>/dev/null; then
      cat "$scratch/output" >&2
      die "node-insights run: did not report within 10 s that the API server cannot be reached"
    fi
    sleep 0.1
  done
  say "node-insights run: $(grep -m 1 'cannot be reached' "$scratch/output")"
  # The bash above has become the operator, and unshare has no other child.
  operator=$(cat "/proc/$unshare/task/$unshare/children")
  operator=${operator%% *}
  seen=$(awk '/^(Uid|Gid|CapPrm|CapEff|CapAmb|NoNewPrivs):/ { print $1 $2 }' "/proc/$operator/status" | tr '\n' ' ')
  say "It runs with: $seen"
  [ "$seen" = "Uid:${user%:*} Gid:${user#*:} CapPrm:0000000000000000 CapEff:0000000000000000 CapAmb:0000000000000000 NoNewPrivs:1 " ] \
    || die "That is not the image's user, or it has capabilities"
  awk '$5 == "/" && $6 ~ /^ro(,|$)/ { found = 1 } END { exit !found }' "/proc/$operator/mountinfo" \
    || die "Its root is not read-only"
  kill -TERM "$operator"
  wait "$unshare" || status=$?
  trap - EXIT
  [ "$status" = 0 ] || { tail -n 5 "$scratch/output" >&2; die "SIGTERM ended it with $status instead of 0"; }
  say "SIGTERM ended it with 0"
}

mkdir -p "$scratch"
copy_context
build
assemble
measure
lacks=''
if [ "$(id -u)" != 0 ]; then
  lacks='this needs root'
elif ! unshare --mount --net --ipc --uts --pid --fork true 2>"$scratch/output"; then
  lacks=$(cat "$scratch/output")
fi
if [ -n "$lacks" ]; then
  say "SKIPPED: built and assembled, but not started in its own root: $lacks" >&2
  exit "$SKIP"
fi
expect 0 "^node-insights $(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)\$" --version
expect 0 'kind: CustomResourceDefinition' crds
expect 1 'Cannot find out how to reach the API server' run
expect_to_wait
say "Passed: built, assembled and started as in the image"
