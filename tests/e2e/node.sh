#!/usr/bin/env bash
# A Kubernetes node: the first process of its namespaces, which starts the programs of a node.
#
#   unshare --mount --pid --net --ipc --uts --fork --kill-child --mount-proc node.sh
#
# It is configured by its environment; its data is in the folder DATA, which outlives it like a disk. Killing it is
# like a power failure.
set -euo pipefail

: "${NODE:?}" "${NUMBER:?}" "${DATA:?}" "${BOOT_ID:?}" "${CGROUP:?}" "${AUTHORITY:?}" "${CERTIFICATE:?}" "${KEY:?}"
: "${KUBELET:?}" "${KUBE_PROXY:?}" "${KUBE_ROUTER:?}" "${SANDBOX_IMAGE:?}" "${IMAGES:?}"

log=$DATA/log
mkdir -p "$log"

# --- Files

# shellcheck source=tests/e2e/cgroups.sh
. "$(dirname "${BASH_SOURCE[0]}")/cgroups.sh"
remove_cgroups "$CGROUP.$NODE" # of the previous boot
make_cgroup "$CGROUP.$NODE"
mkdir -p "$DATA/cgroup"
mount --rbind /sys/fs/cgroup "$DATA/cgroup"
mount -t sysfs sysfs /sys
mount --move "$DATA/cgroup" /sys/fs/cgroup
# Overlays of its own over the machine's folders, which survive a reboot.
for folder in /var/lib /var/log; do
  mkdir -p "$DATA/upper$folder" "$DATA/work$folder"
  mount -t overlay overlay -o "lowerdir=$folder,upperdir=$DATA/upper$folder,workdir=$DATA/work$folder" "$folder"
done
# Folders that do not survive a reboot.
rm -rf "$DATA/run"
for folder in containerd netns; do
  mkdir -p "$DATA/run/$folder" "/run/$folder"
  mount --bind "$DATA/run/$folder" "/run/$folder"
done
# Sets a value of /proc/sys for this node only. The kubelet would otherwise set the first three for the whole machine.
set_sysctl() {
  local file=$DATA/run/${1//\//-}
  echo "$2" > "$file"
  mount --bind "$file" "/proc/sys/$1"
}
set_sysctl vm/overcommit_memory 1
set_sysctl kernel/panic 10
set_sysctl kernel/panic_on_oops 1
set_sysctl kernel/random/boot_id "$BOOT_ID"
# Mounts of pods have to propagate, as under systemd.
mount --make-rshared /

# --- Network: the other end of its cable is connected from outside

hostname "$NODE"
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip link set lo up
ip addr add "10.90.0.$NUMBER/24" dev eth0
ip link set eth0 up
ip route add default via 10.90.0.1
echo 1 > /proc/sys/net/ipv4/ip_forward

mkdir -p "$DATA/cni"
cat > "$DATA/cni/10-pods.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.244.$NUMBER.0/24", "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}
]}
JSON

# --- containerd, with the images that would otherwise be pulled

plugins=/usr/lib/cni
[ -x $plugins/ptp ] || plugins=/opt/cni/bin
cat > "$DATA/containerd.toml" <<TOML
version = 2
root = "$DATA/containerd"
state = "/run/containerd"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$SANDBOX_IMAGE"
  disable_apparmor = true
  # Lowering it would need CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "$plugins"
  conf_dir = "$DATA/cni"
TOML
containerd --config "$DATA/containerd.toml" > "$log/containerd.log" 2>&1 &
until ctr version >/dev/null 2>&1; do sleep 0.05; done
for image in $IMAGES; do
  ctr --namespace k8s.io images import "$image" >> "$log/containerd.log" 2>&1
done

# --- kubelet, kube-proxy and kube-router

: > "$DATA/resolv.conf"
cgroup_v1=''
[ -e /sys/fs/cgroup/cgroup.controllers ] || cgroup_v1='failCgroupV1: false'
cat > "$DATA/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $AUTHORITY}}
authorization: {mode: Webhook}
tlsCertFile: $CERTIFICATE
tlsPrivateKeyFile: $KEY
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP.$NODE
$cgroup_v1
failSwapOn: false
# No DNS: these tests do not need it.
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: $DATA/resolv.conf
# A dead node is to be detected within seconds.
nodeStatusUpdateFrequency: 2s
nodeLeaseDurationSeconds: 8
# The tests must not depend on the free space of this machine's disk.
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
imageGCHighThresholdPercent: 100
YAML
"$KUBELET" --config="$DATA/kubelet.yaml" --kubeconfig="$DATA/kubelet.kubeconfig" --hostname-override="$NODE" \
  --node-ip="10.90.0.$NUMBER" --root-dir=/var/lib/kubelet --v=2 >> "$log/kubelet.log" 2>&1 &

cat > "$DATA/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: $DATA/kube-proxy.kubeconfig}
clusterCIDR: 10.244.0.0/16
hostnameOverride: $NODE
# Only the machine itself may set these.
conntrack: {maxPerCore: 0, min: 0}
YAML
"$KUBE_PROXY" --config="$DATA/kube-proxy.yaml" >> "$log/kube-proxy.log" 2>&1 &

# It exits while there is no Node yet; as a pod, it would be restarted.
until "$KUBE_ROUTER" --kubeconfig="$DATA/kube-router.kubeconfig" --hostname-override="$NODE" \
  --run-firewall --run-router=false --run-service-proxy=false --run-loadbalancer=false \
  --service-cluster-ip-range=10.96.0.0/16 >> "$log/kube-router.log" 2>&1; do
  sleep 0.5
done &

# Reaps orphans until it is killed.
while :; do
  sleep 3600 &
  wait $! || true
done
