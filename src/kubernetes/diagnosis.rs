//! Explains errors of the API server, and how to fix them.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::pod;

/// What is wrong and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The kind of problem.
    pub problem: Problem,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

impl Diagnosis {
    /// There was no answer within `deadline`, which is in whole seconds.
    #[must_use]
    pub fn no_answer(deadline: Duration) -> Self {
        Self {
            problem: Problem::Unreachable,
            what: format!(
                "The API server did not answer within {} s",
                deadline.as_secs()
            ),
            remedy: "check that it runs, and try again".to_owned(),
        }
    }
}

/// Kinds of problems. A label of metrics: bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The credentials are not accepted.
    Unauthorized,
    /// The credentials lack the permission.
    Forbidden,
    /// The API server does not know the resource.
    NotServed,
    /// The resource version is too old; the watch relists by itself.
    Expired,
    /// The API server does not accept the object.
    Invalid,
    /// The API server is overloaded.
    Overloaded,
    /// There is no answer.
    Unreachable,
    /// The answer cannot be parsed.
    Unreadable,
    /// Anything else.
    Other,
}

impl Problem {
    /// As a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotServed => "not_served",
            Self::Expired => "expired",
            Self::Invalid => "invalid",
            Self::Overloaded => "overloaded",
            Self::Unreachable => "unreachable",
            Self::Unreadable => "unreadable",
            Self::Other => "other",
        }
    }
}

/// The failed request, for the message.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Verbs, as RBAC calls them.
    pub verbs: &'static str,
    /// Plural name of the resource.
    pub resource: &'static str,
    /// API group; empty for the core group.
    pub group: &'static str,
}

impl Attempt {
    /// The resource with its group, as `kubectl` takes it.
    pub(super) fn resource(&self) -> String {
        if self.group.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
}

/// Explains `error`, the result of `attempt`.
#[must_use]
pub fn diagnose(error: &kube::Error, attempt: Attempt) -> Diagnosis {
    let (verbs, resource) = (attempt.verbs, attempt.resource());
    let (problem, what, remedy) = match error {
        kube::Error::Api(status) if is_of_admission(&status.message) => (
            if status.code == 403 {
                Problem::Forbidden
            } else {
                Problem::Invalid
            },
            format!(
                "An admission policy or webhook does not let the operator {verbs} {resource}: {}",
                status.message
            ),
            "see the policy or webhook that is named; the operator tries again".to_owned(),
        ),
        kube::Error::Api(status) => match status.code {
            401 => (
                Problem::Unauthorized,
                "The API server does not accept the operator's credentials".to_owned(),
                "renew the token or certificate in the kubeconfig or service account".to_owned(),
            ),
            403 => (
                Problem::Forbidden,
                format!(
                    "The operator may not {verbs} {resource}: {}",
                    status.message
                ),
                format!(
                    "grant it (kubectl apply -k config/rbac), or check with: kubectl auth can-i {} {resource}",
                    first(verbs)
                ),
            ),
            404 => (
                Problem::NotServed,
                format!("The API server does not serve {resource}"),
                if attempt.group == crate::api::insight::GROUP {
                    "install the CRDs (kubectl apply -f crds/)".to_owned()
                } else {
                    "check --platform, and that the CRDs of that platform are installed".to_owned()
                },
            ),
            410 => (
                Problem::Expired,
                format!("The watch of {resource} is too old"),
                "a fresh list follows".to_owned(),
            ),
            400 | 422 => (
                Problem::Invalid,
                format!("The API server refuses the object: {}", status.message),
                "check that the CRDs are those of this version (kubectl apply -f crds/)".to_owned(),
            ),
            429 | 503 | 504 => (
                Problem::Overloaded,
                format!(
                    "The API server is overloaded or not ready ({})",
                    status.code
                ),
                "check its load; the operator tries again".to_owned(),
            ),
            code => (
                Problem::Other,
                format!("The API server answered {code}: {}", status.message),
                "see the log of the API server; the operator tries again".to_owned(),
            ),
        },
        kube::Error::SerdeError(source) => (
            Problem::Unreadable,
            format!("The answer about {resource} cannot be read: {source}"),
            "report it, with the version of the API server".to_owned(),
        ),
        error => (
            Problem::Unreachable,
            format!("The API server cannot be reached: {}", root_cause(error)),
            unreachable_remedy(pod::is_here()).to_owned(),
        ),
    };
    Diagnosis {
        problem,
        what,
        remedy,
    }
}

/// How the API server reports a rejection by a `ValidatingAdmissionPolicy` or a webhook, with any code.
fn is_of_admission(message: &str) -> bool {
    message.contains(" denied request: ") || message.contains(" denied the request")
}

/// A pod has no kubeconfig: it depends on the Service `kubernetes` and on network policies.
fn unreachable_remedy(is_in_pod: bool) -> &'static str {
    if is_in_pod {
        "check that a NetworkPolicy lets this pod reach it (the chart's networkPolicy.apiServer.ports), that the Service kubernetes in the namespace default has its address, and DNS where that is a name; the operator tries again"
    } else {
        "check that it runs and that KUBECONFIG has its address; the operator tries again"
    }
}

fn first(verbs: &str) -> &str {
    verbs.split([',', ' ']).next().unwrap_or(verbs)
}

/// The last error in the chain: the others repeat it.
pub(crate) fn root_cause(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    const NODES: Attempt = Attempt {
        verbs: "list and watch",
        resource: "nodes",
        group: "",
    };
    const INSIGHTS: Attempt = Attempt {
        verbs: "create",
        resource: "nodeprogressinsights",
        group: crate::api::insight::GROUP,
    };

    fn answer(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(Status {
            code,
            message: "reported by the server".into(),
            ..Status::default()
        }))
    }

    #[test]
    fn a_missing_permission_is_reported_with_verb_resource_and_remedy() {
        let diagnosis = diagnose(&answer(403), NODES);
        assert_eq!(diagnosis.problem, Problem::Forbidden);
        let text = diagnosis.to_string();
        assert!(
            text.contains("may not list and watch nodes: reported by the server"),
            "{text}"
        );
        assert!(text.contains("kubectl auth can-i list nodes"), "{text}");
    }

    #[test]
    fn an_admission_rejection_is_neither_a_missing_permission_nor_a_wrong_crd() {
        let refusals = [
            (
                422,
                "a \"b\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'q' denied request: no",
            ),
            (
                403,
                "admission webhook \"w.example\" denied the request: no",
            ),
            (
                400,
                "admission webhook \"w.example\" denied the request without explanation",
            ),
        ];
        for (code, message) in refusals {
            let mut error = answer(code);
            if let kube::Error::Api(status) = &mut error {
                status.message = message.to_owned();
            }
            let text = diagnose(&error, INSIGHTS).to_string();
            assert!(
                text.contains(message) && text.contains("policy or webhook"),
                "{text}"
            );
            assert!(!text.contains("kubectl"), "{text}");
        }
    }

    #[test]
    fn a_missing_crd_of_ours_is_reported_with_how_to_install_it() {
        let text = diagnose(&answer(404), INSIGHTS).to_string();
        assert!(
            text.contains("nodeprogressinsights.nodeinsights.dev"),
            "{text}"
        );
        assert!(text.contains("kubectl apply -f crds/"), "{text}");
    }

    #[test]
    fn the_remedy_for_an_unreachable_api_server_depends_on_where_the_operator_runs() {
        let (pod, shell) = (unreachable_remedy(true), unreachable_remedy(false));
        assert!(pod.contains("NetworkPolicy") && !pod.contains("KUBECONFIG"));
        assert!(shell.contains("KUBECONFIG") && !shell.contains("NetworkPolicy"));
    }

    #[test]
    fn every_status_code_has_a_bounded_label() {
        for (code, label) in [
            (400, "invalid"),
            (401, "unauthorized"),
            (403, "forbidden"),
            (404, "not_served"),
            (410, "expired"),
            (422, "invalid"),
            (429, "overloaded"),
            (500, "other"),
            (503, "overloaded"),
        ] {
            assert_eq!(
                diagnose(&answer(code), NODES).problem.as_str(),
                label,
                "{code}"
            );
        }
    }
}
