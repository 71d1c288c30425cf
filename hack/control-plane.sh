#!/usr/bin/env bash
# Finds, or builds once, the programs of a real Kubernetes control plane and of its nodes.
#
#   hack/control-plane.sh kube-apiserver etcd     prints one path per line, in the order of the arguments
#
# kubelet-as-older is the same kubelet, but reports an older minor version: the start of an update of a node. It
# takes seconds to link; a really older one would take minutes to build.
#
# Searched in this order: the folder in KUBEBUILDER_ASSETS, the PATH (if the version fits), the user's cache
# folder. Otherwise the program is built into the cache folder from the Go module in tests/control-plane. Progress
# goes to stderr, so that stdout has only the paths.
set -euo pipefail

module=$(cd "$(dirname "${BASH_SOURCE[0]}")/../tests/control-plane" && pwd)
kubernetes=$(awk '$1 == "require" && $2 == "k8s.io/kubernetes" {print $3}
                  $1 == "k8s.io/kubernetes" {print $2}' "$module/go.mod" | head -n 1)
etcd=$(awk '$1 == "go.etcd.io/etcd/server/v3" && NF > 1 {print $2}' "$module/go.mod" | head -n 1)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/node-insights/control-plane/$kubernetes-etcd-$etcd"

say() { printf 'control-plane: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
# shellcheck source=hack/go.sh
. "$(dirname "${BASH_SOURCE[0]}")/go.sh"

# Go package of a program, and the duration of a clean build on 2 cores, in seconds.
package_of() {
  case $1 in
    kube-apiserver)          echo "k8s.io/kubernetes/cmd/kube-apiserver" ;;
    kube-controller-manager) echo "k8s.io/kubernetes/cmd/kube-controller-manager" ;;
    kube-scheduler)          echo "k8s.io/kubernetes/cmd/kube-scheduler" ;;
    kube-proxy)              echo "k8s.io/kubernetes/cmd/kube-proxy" ;;
    kubectl)                 echo "k8s.io/kubernetes/cmd/kubectl" ;;
    kubelet | kubelet-as-older) echo "k8s.io/kubernetes/cmd/kubelet" ;;
    etcd)                    echo "go.etcd.io/etcd/server/v3" ;;
    *) die "unknown program '$1': know kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy, kubelet,
  kubelet-as-older, kubectl, etcd" ;;
  esac
}
seconds_of() {
  case $1 in
    kube-apiserver) echo 250 ;; kube-controller-manager) echo 45 ;; kubectl) echo 25 ;; etcd) echo 55 ;;
    kubelet) echo 60 ;; kubelet-as-older | kube-scheduler | kube-proxy) echo 15 ;;
  esac
}

# The version that the program reports.
version_of() {
  local minor=${kubernetes#v1.}
  case $1 in
    etcd) echo "$etcd" ;;
    kubelet-as-older) echo "v1.$((${minor%%.*} - 1)).0" ;;
    *) echo "$kubernetes" ;;
  esac
}

# A program on the PATH fits if it has the minor version that the tests are written for (etcd: the same
# major and minor version): an older one may lack features that the CRDs use, a newer one is untested.
fits() {
  local name=$1 path=$2 have want
  want=$(version_of "$name")
  case $name in
    etcd)    have=$("$path" --version 2>/dev/null | sed -n 's/^etcd Version: //p') ;;
    kubectl) have=$("$path" version --client 2>/dev/null | sed -n 's/^Client Version: //p') ;;
    *)       have=$("$path" --version 2>/dev/null | sed -n 's/^Kubernetes //p') ;;
  esac
  have=${have#v} want=${want#v}
  [ -n "$have" ] && [ "${have%.*}" = "${want%.*}" ]
}

find_program() {
  local name=$1 path
  if [ -n "${KUBEBUILDER_ASSETS:-}" ] && [ -x "$KUBEBUILDER_ASSETS/$name" ]; then
    echo "$KUBEBUILDER_ASSETS/$name"
  elif path=$(command -v "$name") && fits "$name" "$path"; then
    echo "$path"
  elif [ -x "$cache/$name" ]; then
    echo "$cache/$name"
  fi
}

other_way=", or set KUBEBUILDER_ASSETS
  to a folder with kube-apiserver, etcd, kubectl and kube-controller-manager"

build() {
  local name=$1 release minor version
  release=$(version_of "$name")
  minor=${release#v1.}
  version="-X k8s.io/component-base/version.gitVersion=$release
    -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=${minor%%.*}
    -X k8s.io/component-base/version.gitTreeState=clean"
  build_once "$cache/$name" "$module" "$(seconds_of "$name")" "$other_way" \
    -ldflags "-s -w $(echo "$version" | tr '\n' ' ')" "$(package_of "$name")"
}

[ $# -gt 0 ] || die "usage: hack/control-plane.sh PROGRAM…"
[ -n "$kubernetes" ] && [ -n "$etcd" ] || die "Cannot read the versions from $module/go.mod"

for name in "$@"; do
  package_of "$name" >/dev/null
  path=$(find_program "$name")
  if [ -z "$path" ]; then
    build "$name"
    path=$cache/$name
  fi
  echo "$path"
done
