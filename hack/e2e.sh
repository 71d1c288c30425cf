#!/usr/bin/env bash
# Runs the operator on real Kubernetes nodes, in namespaces of this machine: `make e2e`.
#
#   hack/e2e.sh              runs it; exits with 77, SKIPPED, where this machine does not allow it
#   hack/e2e.sh --prepare    installs the Debian packages that it needs, and prints the obstacle, if there is one
#
# Two nodes with a real containerd, kubelet, kube-proxy and kube-router, each in its own namespaces, next to the
# control plane. Its processes, mounts, interfaces and rules are not in the host's namespaces; the folders that it
# creates in the host's cgroups are removed at the end. Needs no container engine and no registry.
#
# NODE_INSIGHTS_E2E_IMAGE is the archive of an image to run instead of the debug build.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf 'e2e: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
# shellcheck source=tests/e2e/cgroups.sh
. tests/e2e/cgroups.sh
# shellcheck source=hack/packages.sh
. hack/packages.sh

SKIP=77
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
# Specific to this run, so that two can run at once.
scratch=$target/e2e/run-$$
cgroup=node-insights-e2e-$$
# Program and Debian package. The CNI plugins are not on the PATH.
packages=(containerd:containerd ctr:containerd runc:runc iptables:iptables ipset:ipset nft:nftables
  conntrack:conntrack ethtool:ethtool modprobe:kmod curl:curl ip:iproute2)
namespaces=(--mount --pid --net --ipc --uts --fork --kill-child --mount-proc)

# Runs a line of bash as root in new namespaces, without effect on the machine.
inside() { unshare "${namespaces[@]}" bash -euc "$1" >/dev/null 2>&1; }

# Prints why it cannot run here; nothing if it can.
find_obstacle() {
  local name missing
  if [ "$(uname -s)" != Linux ]; then echo 'this is not Linux'; return; fi
  if [ "$(id -u)" != 0 ]; then echo 'only root may start nodes'; return; fi
  for name in unshare setpriv strip; do
    command -v $name >/dev/null || { echo "$name is missing"; return; }
  done
  if ! inside 'mount -t tmpfs tmpfs /run; mount -t sysfs sysfs /sys'; then
    echo 'namespaces and mounts are not allowed here (they need CAP_SYS_ADMIN)'
    return
  fi
  if ! inside 'mount -t tmpfs tmpfs /run; mkdir /run/a /run/b
    mount -t overlay overlay -o lowerdir=/var/lib,upperdir=/run/a,workdir=/run/b /var/lib'; then
    echo 'the kernel has no overlay filesystem'
    return
  fi
  if [ -e /sys/fs/cgroup/cgroup.controllers ] && [ -z "${NODE_INSIGHTS_E2E_CGROUP2:-}" ]; then
    echo 'this machine has cgroup v2, which is untested (NODE_INSIGHTS_E2E_CGROUP2=1 tries it)'
    return
  fi
  if ! { make_cgroup "$cgroup.probe" && remove_cgroups "$cgroup.probe"; } 2>/dev/null; then
    echo 'no cgroup can be created'
    return
  fi
  missing=$(missing_packages "${packages[@]}" | tr '\n' ' ')
  [ -x /usr/lib/cni/ptp ] || [ -x /opt/cni/bin/ptp ] || missing+='containernetworking-plugins '
  if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null; then echo "these Debian packages are missing: $missing"; return; fi
    say "Installing $missing(apt-get)"
    if ! install_packages $missing >"$target/e2e/apt.log" 2>&1; then
      echo "apt-get cannot install $missing($target/e2e/apt.log)"
      return
    fi
  fi
  if ! inside 'ip link add bridge0 type bridge; ip link add cable type veth peer name eth0
    nft add table ip test; ipset create test hash:ip; iptables -A FORWARD -m set --match-set test src -j ACCEPT'; then
    echo 'the kernel has no network bridge, veth, nftables or ipset'
  fi
}

# Removes what runs left behind whose script was killed with SIGKILL.
remove_stale() {
  local folder id
  for folder in "$target"/e2e/run-* /sys/fs/cgroup/*/node-insights-e2e-*; do
    id=${folder##*-}
    id=${id%%.*}
    if [ ! -d "$folder" ] || [ -d "/proc/$id" ]; then continue; fi
    case $folder in
      "$target"/*) rm -rf "$folder" ;;
      *) remove_cgroups "node-insights-e2e-$id." ;;
    esac
  done
}

mkdir -p "$target/e2e"
obstacle=$(find_obstacle)
if [ -n "$obstacle" ]; then
  if [ "${1:-}" = --prepare ]; then echo "$obstacle"; else say "SKIPPED: $obstacle"; fi
  exit $SKIP
fi
[ "${1:-}" != --prepare ] || exit 0
remove_stale

# Fetch and build everything now: there is no network access inside.
hack/control-plane.sh etcd kube-apiserver kube-controller-manager kube-scheduler kubectl kubelet kubelet-as-older \
  kube-proxy >/dev/null
kube_router=$(hack/go-program.sh kube-router)
hack/helm.sh 4 >/dev/null
say "Building the operator and its test"
# The same features as in `make test`, to avoid a second build.
test=$(cargo test --all-features ${CI:+--locked} --test e2e --no-run --message-format=json-render-diagnostics \
  | sed -n 's/.*"name":"e2e".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -x "$test" ] || die "cargo did not report the path of the test"

finish() {
  [ -z "${lab:-}" ] || { kill -KILL "$lab" 2>/dev/null; wait "$lab" 2>/dev/null; } || true
  rm -rf "$scratch"
  # The last processes may need a moment to exit.
  for _ in $(seq 50); do
    if remove_cgroups "$cgroup." 2>/dev/null; then return; fi
    sleep 0.1
  done
  say "Some cgroups could not be removed: $cgroup"
}
lab=''
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "Building images"
mkdir -p "$scratch"
image=${NODE_INSIGHTS_E2E_IMAGE:-$scratch/operator.tar}
if [ -z "${NODE_INSIGHTS_E2E_IMAGE:-}" ]; then
  # Without debug information, which is two thirds of it.
  strip -o "$scratch/node-insights" "$target/debug/node-insights"
  version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
  tests/e2e/image.sh "$image" "docker.io/library/node-insights:$version" '["/node-insights"]' \
    "$scratch/node-insights:/node-insights"
fi
tests/e2e/image.sh "$scratch/toolbox.tar" localhost/toolbox:1 '["/bin/sleep","infinity"]' \
  /bin/sleep /bin/bash "$(command -v curl):/usr/bin/curl"

# It ends with this script, however that ends, and so does everything inside it.
export NODE_INSIGHTS_E2E_CGROUP=$cgroup NODE_INSIGHTS_E2E_IMAGES="$image $scratch/toolbox.tar"
export NODE_INSIGHTS_E2E_KUBE_ROUTER=$kube_router
RUST_BACKTRACE=0 setpriv --pdeathsig KILL -- unshare "${namespaces[@]}" \
  tests/e2e/lab.sh "$target/e2e/logs" "$test" --ignored --nocapture --test-threads=1 &
lab=$!
status=0
wait "$lab" || status=$?
exit "$status"
