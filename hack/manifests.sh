#!/usr/bin/env bash
# Generates config/ from the chart, so that they never differ: `make manifests`.
#
#   hack/manifests.sh [FOLDER]      into a folder other than config/
#
# The kustomization.yaml files and the namespace, which are not part of the chart, are written by hand.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-config}
helm=$(hack/helm.sh 4)

# Writes one template of the chart to a file, without the labels of Helm.
write() {
  local template=$1 file=$folder/$2 text
  text=$("$helm" template node-insights charts/node-insights --namespace node-insights \
    --show-only "templates/$template" \
    | sed -e '1{/^---$/d}' -e '/^# Source: /d' -e '/^ *helm\.sh\/chart: /d' \
      -e '/^ *app\.kubernetes\.io\/managed-by: Helm$/d')
  mkdir -p "$(dirname "$file")"
  printf '%s\n' "# Generated from charts/node-insights/templates/$template by \`make manifests\`." "$text" > "$file"
}

write serviceaccount.yaml rbac/service_account.yaml
write clusterrole.yaml rbac/cluster_role.yaml
write clusterrolebinding.yaml rbac/cluster_role_binding.yaml
write role.yaml rbac/role.yaml
write rolebinding.yaml rbac/role_binding.yaml
write clusterrole-view.yaml rbac/view_cluster_role.yaml
write clusterrole-operate.yaml rbac/operate_cluster_role.yaml
write clusterrole-metrics-reader.yaml rbac/metrics_reader_cluster_role.yaml
write deployment.yaml default/deployment.yaml
write service.yaml default/service.yaml
write poddisruptionbudget.yaml default/pod_disruption_budget.yaml
write networkpolicy.yaml default/network_policy.yaml
