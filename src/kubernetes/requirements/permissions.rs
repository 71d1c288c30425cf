//! Checks verb by verb that this account has the permissions that the operator needs: the list below is what the
//! chart grants.

use futures::FutureExt;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use super::{Finding, Outcome, Question, Scope, within};
use crate::api::insight::{GROUP, InsightStatus};
use crate::api::{NodeProgressInsightStatus, PoolProgressInsightStatus};
use crate::domain::fact::{KindSpec, Need, Select};
use crate::kubernetes::diagnosis::Attempt;
use crate::kubernetes::events;

const ATTEMPT: Attempt = Attempt {
    verbs: "create",
    resource: "selfsubjectaccessreviews",
    group: "authorization.k8s.io",
};

const READ: &[&str] = &["list", "watch"];
const OWN: &[&str] = &["get", "list", "watch", "create", "delete"];
const INSIGHTS: [&str; 2] = [
    NodeProgressInsightStatus::PLURAL,
    PoolProgressInsightStatus::PLURAL,
];

/// One permission.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Permission {
    group: &'static str,
    resource: &'static str,
    subresource: &'static str,
    verb: &'static str,
    /// Empty for all namespaces.
    namespace: String,
    /// Empty for all names.
    name: String,
    /// The operator works without it.
    is_optional: bool,
}

/// One check per permission.
pub(super) fn permissions<'a>(
    client: &'a Client,
    scope: &Scope,
    served: &[Option<&'static str>],
) -> Vec<Question<'a>> {
    let needed = needed(scope, served).into_iter();
    needed.map(|needed| ask(client, needed).boxed()).collect()
}

/// The needed permissions; `served` has the version of each provider kind, if it is served.
fn needed(scope: &Scope, served: &[Option<&'static str>]) -> Vec<Permission> {
    let mut needed = Vec::new();
    let mut add = |group, resource, subresource, verbs: &[&'static str], place: (&str, &str)| {
        needed.extend(verbs.iter().map(|verb| Permission {
            group,
            resource,
            subresource,
            verb,
            namespace: place.0.to_owned(),
            name: place.1.to_owned(),
            is_optional: false,
        }));
    };
    let all = ("", "");
    add("", "nodes", "", READ, all);
    let specs = scope.kinds.iter().map(|kind| kind.spec);
    for (kind, version) in specs.clone().zip(served) {
        if version.is_some() || kind.need == Need::Always {
            add(kind.group, kind.plural, "", READ, place(&kind));
        }
    }
    for insights in INSIGHTS {
        add(GROUP, insights, "", OWN, all);
        add(GROUP, insights, "status", &["update"], all);
    }
    let (crds, extensions) = ("customresourcedefinitions", "apiextensions.k8s.io");
    for insights in INSIGHTS {
        let name = format!("{insights}.{GROUP}");
        add(extensions, crds, "", &["get"], ("", &name));
    }
    add(
        "authentication.k8s.io",
        "tokenreviews",
        "",
        &["create"],
        all,
    );
    add(
        "authorization.k8s.io",
        "subjectaccessreviews",
        "",
        &["create"],
        all,
    );
    if scope.events {
        add(
            events::GROUP,
            "events",
            "",
            &["create"],
            (events::OF_THE_CLUSTER, ""),
        );
    }
    let objects = [
        ("", "configmaps", &scope.sync_status),
        ("coordination.k8s.io", "leases", &scope.lease),
    ];
    for (group, resource, object) in objects {
        if let Some((namespace, name)) = object {
            add(group, resource, "", &["create"], (namespace, ""));
            add(group, resource, "", &["get", "update"], (namespace, name));
        }
    }
    let optional = specs.filter(|kind| kind.need == Need::Optional);
    for kind in optional {
        let of_kind = |each: &&mut Permission| {
            (each.group, each.resource) == (kind.group, kind.plural)
                && (each.namespace.as_str(), each.name.as_str()) == place(&kind)
        };
        for permission in needed.iter_mut().filter(of_kind) {
            permission.is_optional = true;
        }
    }
    needed
}

/// Namespace and name of the objects that are read; empty for all.
const fn place(kind: &KindSpec) -> (&'static str, &'static str) {
    match kind.select {
        Select::Object { namespace, name } => (namespace, name),
        Select::All | Select::Named(_) | Select::Labelled(_) | Select::OnNode => ("", ""),
    }
}

async fn ask(client: &Client, needed: Permission) -> Finding {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: given(needed.group),
                resource: given(needed.resource),
                subresource: given(needed.subresource),
                verb: given(needed.verb),
                namespace: given(&needed.namespace),
                name: given(&needed.name),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let params = PostParams::default();
    let outcome = match within(ATTEMPT, api.create(&params, &review)).await {
        Ok(answer) if answer.status.as_ref().is_some_and(|status| status.allowed) => {
            Outcome::ok("granted")
        }
        Ok(_) => {
            let what = "it is not granted".to_owned();
            let remedy = format!(
                "grant it (helm upgrade, or kubectl apply -k config/rbac), or check with: kubectl auth can-i {}",
                needed.kubectl_arguments()
            );
            if needed.is_optional {
                Outcome::Optional { what, remedy }
            } else {
                Outcome::Failed { what, remedy }
            }
        }
        Err(diagnosis) => Outcome::unknown(diagnosis),
    };
    Finding {
        check: format!("permission: {needed}"),
        outcome,
    }
}

impl Permission {
    /// The arguments for `kubectl auth can-i`.
    fn kubectl_arguments(&self) -> String {
        let mut text = format!("{} {}", self.verb, self.full_resource());
        if !self.name.is_empty() {
            text.push('/');
            text.push_str(&self.name);
        }
        if !self.subresource.is_empty() {
            text.push_str(" --subresource=");
            text.push_str(self.subresource);
        }
        if !self.namespace.is_empty() {
            text.push_str(" -n ");
            text.push_str(&self.namespace);
        }
        text
    }

    fn full_resource(&self) -> String {
        match self.group {
            "" => self.resource.to_owned(),
            group => format!("{}.{group}", self.resource),
        }
    }
}

impl std::fmt::Display for Permission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.full_resource())?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        if !self.namespace.is_empty() {
            write!(f, " in {}", self.namespace)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fact::{Fact, Kind, KindSpec, Object, Parsed};

    #[derive(Debug, PartialEq)]
    struct Thing;

    impl Fact for Thing {
        const KIND: KindSpec = KindSpec::new("example.com", &["v1"], "Thing", "things");

        fn parse(_: &Object<'_>) -> Parsed<Self> {
            Parsed::Ignored
        }
    }

    fn things(need: Need) -> Kind {
        let mut kind = Kind::of::<Thing>();
        kind.spec = kind.spec.need(need);
        kind
    }

    fn texts(scope: &Scope) -> Vec<String> {
        let served = vec![Some("v1"); scope.kinds.len()];
        needed(scope, &served)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn only_needed_permissions_are_checked() {
        let least = texts(&Scope::default());
        assert!(least.contains(&"watch nodes".to_owned()));
        assert!(
            !least
                .iter()
                .any(|text| text.contains("example.com") || text.contains("leases"))
        );
        let most = texts(&Scope {
            kinds: vec![things(Need::WhereServed)],
            lease: Some(("here".to_owned(), "node-insights".to_owned())),
            sync_status: Some(("here".to_owned(), "status".to_owned())),
            events: true,
        });
        for text in [
            "list things.example.com",
            "create leases.coordination.k8s.io in here",
            "update leases.coordination.k8s.io node-insights in here",
            "get configmaps status in here",
            "create events.events.k8s.io in default",
            "update nodeprogressinsights.nodeinsights.dev/status",
        ] {
            assert!(most.contains(&text.to_owned()), "{text}: {most:?}");
        }
    }

    #[test]
    fn permissions_for_a_provider_kind_are_needed_when_it_is_served_or_required() {
        for (need, served, expected) in [
            (Need::Always, None, Some(false)),
            (Need::WhereServed, None, None),
            (Need::WhereServed, Some("v1"), Some(false)),
            (Need::Optional, Some("v1"), Some(true)),
        ] {
            let scope = Scope {
                kinds: vec![things(need)],
                ..Scope::default()
            };
            let needed = needed(&scope, &[served]);
            let found = needed.iter().find(|each| each.resource == "things");
            let is_optional = found.map(|each| each.is_optional);
            assert_eq!(is_optional, expected, "{need:?} {served:?}");
        }
    }

    #[test]
    fn the_remedy_has_a_command_that_kubectl_understands() {
        let needed = needed(
            &Scope {
                lease: Some(("here".to_owned(), "mine".to_owned())),
                ..Scope::default()
            },
            &[],
        );
        let texts: Vec<String> = needed.iter().map(Permission::kubectl_arguments).collect();
        for text in [
            "update nodeprogressinsights.nodeinsights.dev --subresource=status",
            "update leases.coordination.k8s.io/mine -n here",
            "list nodes",
        ] {
            assert!(texts.contains(&text.to_owned()), "{text}: {texts:?}");
        }
    }
}
