#!/usr/bin/env bash
# The first process of the namespaces in which real nodes run: sets them up, and runs a command in them.
#
#   unshare --mount --pid --net --ipc --uts --fork --kill-child --mount-proc lab.sh LOGS COMMAND…
#
# Everything that the command starts, listens on, mounts and routes is inside, and ends with this process. Its files
# are in $TMPDIR, in memory; the logs of a failed command are copied to the folder LOGS.
set -euo pipefail

logs=$1
shift
trap 'exit 130' INT
trap 'exit 143' TERM

mount -t tmpfs -o mode=755 tmpfs /run
export TMPDIR=/run/node-insights
mkdir "$TMPDIR" /run/cgroup
# A sysfs of this network namespace, with the cgroups that were mounted in the old one.
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs sysfs /sys
mount --move /run/cgroup /sys/fs/cgroup

# The bridge between the nodes, with the control plane's address. It routes between their pods.
ip link set lo up
# With its own MAC address: otherwise it takes that of one of the cables, and changes when that is removed.
ip link add node0 address 02:00:0a:5a:00:01 type bridge
ip addr add 10.90.0.1/24 dev node0
ip link set node0 up
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 0 > /proc/sys/net/ipv4/conf/all/send_redirects
echo 0 > /proc/sys/net/ipv4/conf/node0/send_redirects

# In the background, so that signals are handled, and orphans reaped, meanwhile.
"$@" &
command=$!
status=0
wait "$command" || status=$?
if [ "$status" != 0 ]; then
  rm -rf "$logs"
  mkdir -p "$logs"
  (cd "$TMPDIR" && find . \( -path '*/containerd' -o -path '*/etcd' \) -prune -o \
    -type f \( -name "*.log" -o -name '*.txt' \) -exec cp --parents {} "$logs" \;) || true
  echo "e2e: The logs are in $logs" >&2
fi
exit "$status"
