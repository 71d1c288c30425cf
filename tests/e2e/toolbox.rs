//! Pods to send requests from: they have a shell and curl, and sleep.

use std::fmt;

use anyhow::{Context as _, Result};

use crate::cluster::{Cluster, READY};

/// Built by `hack/e2e.sh`.
pub const IMAGE: &str = "localhost/toolbox:1";

/// The spec of such a pod, for any node, and allowed by Pod Security `restricted`.
pub fn pod_spec() -> String {
    format!(
        "{{terminationGracePeriodSeconds: 1, automountServiceAccountToken: false,
          tolerations: [{{key: node-role.kubernetes.io/control-plane, operator: Exists}}],
          securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}},
          containers: [{{name: toolbox, image: '{IMAGE}',
            securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}}}]}}"
    )
}

/// A pod to send requests from.
pub struct Toolbox {
    namespace: &'static str,
    name: &'static str,
}

/// The result of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// An HTTP status.
    Status(u16),
    /// No response, with curl's exit code.
    None(i32),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Toolbox {
    /// Starts one, with labels as in `{a: b}`, and waits until it runs.
    pub async fn start(
        cluster: &Cluster,
        namespace: &'static str,
        name: &'static str,
        labels: &str,
    ) -> Result<Self> {
        let spec = pod_spec();
        cluster
            .world
            .plane
            .apply_yaml(&format!(
                "{{apiVersion: v1, kind: Pod, spec: {spec},
                   metadata: {{name: {name}, namespace: {namespace}, labels: {labels}}}}}"
            ))
            .await?;
        let pod = format!("pod/{name}");
        cluster
            .kubectl(&[
                "wait",
                "-n",
                namespace,
                &pod,
                "--for=condition=Ready",
                READY,
            ])
            .await?;
        Ok(Self { namespace, name })
    }

    /// Requests a URL, with a token if given.
    pub async fn ask(&self, cluster: &Cluster, url: &str, token: Option<&str>) -> Result<Answer> {
        // A new connection each time, so that the current rules apply.
        let script = "code=$(curl --silent --insecure --max-time 4 --output /dev/null \
                      --write-out '%{http_code}' ${2:+--header \"Authorization: Bearer $2\"} \"$1\"); echo \"$? $code\"";
        let arguments = [
            "exec",
            "-n",
            self.namespace,
            self.name,
            "--",
            "bash",
            "-c",
            script,
            "bash",
            url,
            token.unwrap_or_default(),
        ];
        let output = cluster.kubectl(&arguments).await?;
        let (exit, status) = output.trim().split_once(' ').context("no output")?;
        Ok(match exit.parse()? {
            0 => Answer::Status(status.parse()?),
            exit => Answer::None(exit),
        })
    }
}
