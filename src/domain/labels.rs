//! Labels and label selectors.
//!
//! All labels of all nodes are stored, because the selector of a pool may use any of them and can change.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::rows::Rows;

/// A set of labels or annotations, compact and immutable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels(Rows<2>);

impl Labels {
    /// The labels of `pairs`. Callers pass them sorted: sets in different orders are not equal.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str), IntoIter: Clone>) -> Self {
        Self(Rows::new(
            pairs.into_iter().map(|(key, value)| [key, value]),
        ))
    }

    /// The value of `key`, if the label exists.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.find(key).map(|[_, value]| value)
    }

    /// Whether the label exists, with any value.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|[key, value]| (key, value))
    }
}

/// A parsed label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
}

/// A selector that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "The node selector has the operator '{operator}' for the label '{key}'; known are In, NotIn, Exists and DoesNotExist"
)]
pub struct SelectorError {
    key: String,
    operator: String,
}

impl Selector {
    /// Parses a selector. Returns `None` for a nil or empty selector, which matches nothing in the Machine Config
    /// Operator (elsewhere in Kubernetes an empty selector matches everything).
    ///
    /// # Errors
    /// When an expression has an unknown operator.
    pub fn parse(selector: Option<&LabelSelector>) -> Result<Option<Self>, SelectorError> {
        let Some(LabelSelector {
            match_expressions,
            match_labels,
        }) = selector
        else {
            return Ok(None);
        };
        let mut requirements = Vec::new();
        for (key, value) in match_labels.iter().flatten() {
            requirements.push(Requirement::In(key.clone(), vec![value.clone()]));
        }
        for expression in match_expressions.iter().flatten() {
            let key = expression.key.clone();
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(match expression.operator.as_str() {
                "In" => Requirement::In(key, values),
                "NotIn" => Requirement::NotIn(key, values),
                "Exists" => Requirement::Exists(key),
                "DoesNotExist" => Requirement::DoesNotExist(key),
                operator => {
                    return Err(SelectorError {
                        key,
                        operator: operator.to_owned(),
                    });
                }
            });
        }
        Ok((!requirements.is_empty()).then_some(Self(requirements)))
    }

    /// Whether `labels` meet every requirement.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels
                .get(key)
                .is_some_and(|value| values.iter().any(|v| v == value)),
            Requirement::NotIn(key, values) => labels
                .get(key)
                .is_none_or(|value| values.iter().all(|v| v != value)),
            Requirement::Exists(key) => labels.contains(key),
            Requirement::DoesNotExist(key) => !labels.contains(key),
        })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    use super::*;

    fn expression(key: &str, operator: &str, values: &[&str]) -> LabelSelector {
        LabelSelector {
            match_labels: None,
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: Some(values.iter().map(ToString::to_string).collect()),
            }]),
        }
    }

    #[test]
    fn a_label_with_an_empty_value_exists() {
        let labels = Labels::new([("node-role.kubernetes.io/worker", ""), ("zone", "a")]);
        assert_eq!(labels.get("node-role.kubernetes.io/worker"), Some(""));
        assert_eq!(labels.get("zone"), Some("a"));
        assert_eq!(labels.get("zon"), None);
        assert_eq!(labels.iter().count(), 2);
        assert_eq!(Labels::default().iter().count(), 0);
    }

    #[test]
    fn a_missing_or_empty_selector_matches_nothing() {
        assert_eq!(Selector::parse(None), Ok(None));
        assert_eq!(Selector::parse(Some(&LabelSelector::default())), Ok(None));
    }

    #[test]
    fn each_operator_matches_as_kubernetes_defines_it() {
        let labels = Labels::new([("zone", "a")]);
        let matches = |key, operator, values: &[&str]| {
            Selector::parse(Some(&expression(key, operator, values)))
                .unwrap()
                .unwrap()
                .matches(&labels)
        };
        assert!(matches("zone", "In", &["b", "a"]));
        assert!(!matches("zone", "In", &["b"]));
        assert!(!matches("rack", "In", &["a"]));
        assert!(matches("zone", "NotIn", &["b"]));
        assert!(!matches("zone", "NotIn", &["a"]));
        assert!(matches("rack", "NotIn", &["a"]));
        assert!(matches("zone", "Exists", &[]));
        assert!(!matches("rack", "Exists", &[]));
        assert!(matches("rack", "DoesNotExist", &[]));
        assert!(!matches("zone", "DoesNotExist", &[]));
    }

    #[test]
    fn an_unknown_operator_is_an_error_that_names_it() {
        let error = Selector::parse(Some(&expression("zone", "Near", &[]))).unwrap_err();
        assert!(error.to_string().contains("'Near'") && error.to_string().contains("'zone'"));
    }
}
