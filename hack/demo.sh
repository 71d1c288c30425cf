#!/usr/bin/env bash
# Builds what the demo needs, and runs it: `make demo`.
#
#   hack/demo.sh openshift|kubernetes|karpenter|eks|aks|gke|cluster-api|k3s|hypershift|kured|mixed [KEEP]
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
platform=${1:-openshift} keep=${2:-}
case $platform in
  openshift | kubernetes | karpenter | eks | aks | gke | cluster-api | k3s | hypershift | kured | mixed) ;;
  # Check this before the build, which takes minutes.
  *)
    echo "demo: PLATFORM is openshift, kubernetes, karpenter, eks, aks, gke, cluster-api, k3s, hypershift, kured" \
      "or mixed, not '$platform'" >&2
    exit 2
    ;;
esac

hack/prerequisites.sh
say() { printf 'demo: %s\n' "$*"; }

program="${CARGO_TARGET_DIR:-target}/debug/examples/demo"
if [ ! -x "$program" ]; then
  say "The first time takes about 9 minutes on 2 cores: the operator is compiled, then etcd and kube-apiserver."
  say "After that it starts within seconds."
fi
say "The simulated update itself lasts one to two minutes."

started=$SECONDS
say "Building the operator and the demo; about 3 min the first time"
cargo build --locked --bin node-insights --example demo
say "Built in $((SECONDS - started)) s"
# The demo would do this itself; here the wait is visible.
hack/control-plane.sh kube-apiserver etcd >/dev/null

arguments=(--platform "$platform")
case $keep in '' | 0 | false | no) ;; *) arguments+=(--keep) ;; esac
exec "$program" "${arguments[@]}"
