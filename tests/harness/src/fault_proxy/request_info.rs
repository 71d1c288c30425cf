//! Verb, resource and name of a request, as in the audit log.

use http::{Method, Uri};

/// What one request does, and to which object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: &'static str,
    /// The plural, such as `nodes`; the path for non-resource URLs, such as `/version`.
    pub resource: String,
    /// Such as `status`; empty for the resource itself.
    pub subresource: String,
    /// Empty for a list, a watch and a create. For a watch event, the name of its object.
    pub name: String,
}

impl RequestInfo {
    pub(super) fn of(method: &Method, uri: &Uri) -> Self {
        let segments: Vec<&str> = uri
            .path()
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        let below = match segments.as_slice() {
            ["api", _, below @ ..] | ["apis", _, _, below @ ..] => below,
            _ => &[],
        };
        let below = match below {
            ["namespaces", _, "status" | "finalize"] => below,
            ["namespaces", _, inside @ ..] if !inside.is_empty() => inside,
            _ => below,
        };
        let (resource, name, subresource) = match below {
            [] => (uri.path(), "", ""),
            [resource] => (*resource, "", ""),
            [resource, name] => (*resource, *name, ""),
            [resource, name, subresource, ..] => (*resource, *name, *subresource),
        };
        Self {
            verb: verb(method, uri, name.is_empty() && !below.is_empty()),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Whether it changes something. A review, though created by POST, does not.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !["get", "list", "watch"].contains(&self.verb) && !self.resource.ends_with("reviews")
    }

    pub(super) fn is_watch(&self) -> bool {
        self.verb == "watch"
    }

    /// The same for one object: a watch event.
    pub(super) fn for_object(&self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self.clone()
        }
    }
}

fn verb(method: &Method, uri: &Uri, is_collection: bool) -> &'static str {
    let mut parameters = uri.query().unwrap_or_default().split('&');
    let is_watch = parameters.any(|parameter| ["watch=true", "watch=1"].contains(&parameter));
    match (method.as_str(), is_collection) {
        ("GET", true) if is_watch => "watch",
        ("GET", true) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "deletecollection",
        ("DELETE", false) => "delete",
        _ => "get",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(method: &Method, uri: &str) -> (&'static str, String, String, String) {
        let info = RequestInfo::of(method, &uri.parse().unwrap());
        (info.verb, info.resource, info.name, info.subresource)
    }

    #[test]
    fn a_request_is_parsed_as_in_the_audit_log() {
        let of = |verb, resource: &str, name: &str, subresource: &str| {
            (verb, resource.into(), name.into(), subresource.into())
        };
        let insights = "/apis/nodeinsights.dev/v1alpha1/nodeprogressinsights";
        let cases = [
            (
                Method::GET,
                "/api/v1/nodes?limit=100",
                of("list", "nodes", "", ""),
            ),
            (
                Method::GET,
                "/api/v1/nodes?limit=1&watch=true",
                of("watch", "nodes", "", ""),
            ),
            (Method::GET, "/api/v1/nodes/a", of("get", "nodes", "a", "")),
            (
                Method::POST,
                insights,
                of("create", "nodeprogressinsights", "", ""),
            ),
            (Method::GET, "/version", of("get", "/version", "", "")),
            (
                Method::DELETE,
                "/api/v1/namespaces/default/events/x",
                of("delete", "events", "x", ""),
            ),
            (
                Method::GET,
                "/api/v1/namespaces/a",
                of("get", "namespaces", "a", ""),
            ),
            (
                Method::PUT,
                "/api/v1/namespaces/a/status",
                of("update", "namespaces", "a", "status"),
            ),
        ];
        for (method, uri, expected) in cases {
            assert_eq!(parsed(&method, uri), expected, "{method} {uri}");
        }
        let put = parsed(&Method::PUT, &format!("{insights}/a/status"));
        assert_eq!(put, of("update", "nodeprogressinsights", "a", "status"));
    }

    #[test]
    fn an_access_review_is_no_write() {
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        assert!(!RequestInfo::of(&Method::POST, &path.parse().unwrap()).is_write());
    }
}
