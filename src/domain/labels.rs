//! Labels and label selectors.
//!
//! All labels of all nodes are stored, because the selector of a pool may use any of them and can change.

use std::cell::RefCell;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::shared::Recent;

/// A set of labels or annotations, compact and immutable. Nodes with the same keys share them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Labels {
    keys: Arc<Keys>,
    /// The values in the order of the keys, each followed by [`END`].
    values: Box<str>,
}

/// Ends a value. It cannot occur in a label; an annotation with it is left out.
const END: char = '\u{0}';

/// The keys of a set.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct Keys {
    /// All keys, one after the other.
    text: Box<str>,
    /// Where each of them ends.
    ends: Box<[usize]>,
}

thread_local! {
    static RECENT: RefCell<Recent<Keys, 64>> = const { RefCell::new(Recent::new()) };
}

impl Keys {
    /// The keys that end there in the text; sets with the same keys share them.
    fn shared(text: &str, ends: &[usize]) -> Arc<Self> {
        let is_same = |known: &Self| *known.text == *text && *known.ends == *ends;
        let make = || {
            Arc::new(Self {
                text: text.into(),
                ends: ends.into(),
            })
        };
        RECENT.with_borrow_mut(|recent| recent.share(is_same, make))
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let places = starts.zip(&self.ends);
        places.map(|(start, end)| self.text.get(*start..*end).unwrap_or_default())
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::new([])
    }
}

impl Labels {
    /// The labels of `pairs`. Callers pass them sorted: sets in different orders are not equal.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str), IntoIter: Clone>) -> Self {
        let pairs = pairs.into_iter();
        let pairs = pairs.filter(|(key, value)| !key.contains(END) && !value.contains(END));
        let length = pairs.clone().map(|(_, value)| value.len() + 1).sum();
        let mut values = String::with_capacity(length);
        let (mut keys, mut ends) = (String::new(), Vec::new());
        for (key, value) in pairs {
            keys.push_str(key);
            ends.push(keys.len());
            values.push_str(value);
            values.push(END);
        }
        Self {
            keys: Keys::shared(&keys, &ends),
            values: values.into_boxed_str(),
        }
    }

    /// The value of `key`, if the label exists.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let index = self.keys.iter().position(|known| known == key)?;
        self.values.split_terminator(END).nth(index)
    }

    /// Whether the label exists, with any value.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.keys.iter().any(|known| known == key)
    }

    /// Keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.keys.iter().zip(self.values.split_terminator(END))
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
    /// Operator (elsewhere in Kubernetes an empty selector matches everything: [`Selector::standard`]).
    ///
    /// # Errors
    /// When an expression has an unknown operator.
    pub fn parse(selector: Option<&LabelSelector>) -> Result<Option<Self>, SelectorError> {
        let selector = Self::standard(selector).map_err(|(error, _)| error)?;
        Ok(selector.filter(|selector| !selector.0.is_empty()))
    }

    /// Parses a selector as Kubernetes defines it: without a selector nothing matches (`None`), and an empty selector
    /// matches everything.
    ///
    /// # Errors
    /// When expressions have unknown operators: the first error, and the selector without these expressions.
    pub fn standard(
        selector: Option<&LabelSelector>,
    ) -> Result<Option<Self>, (SelectorError, Self)> {
        let Some(LabelSelector {
            match_expressions,
            match_labels,
        }) = selector
        else {
            return Ok(None);
        };
        let mut requirements = Vec::new();
        let mut first_error = None;
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
                    let operator = operator.to_owned();
                    first_error.get_or_insert(SelectorError { key, operator });
                    continue;
                }
            });
        }
        match first_error {
            None => Ok(Some(Self(requirements))),
            Some(error) => Err((error, Self(requirements))),
        }
    }

    /// The key of a label that every matching node has, if the selector requires one. Labels that all nodes have come
    /// last.
    #[must_use]
    pub fn required_label(&self) -> Option<&str> {
        let keys = self.0.iter().filter_map(|requirement| match requirement {
            Requirement::In(key, _) | Requirement::Exists(key) => Some(key.as_str()),
            Requirement::NotIn(..) | Requirement::DoesNotExist(_) => None,
        });
        keys.min_by_key(|key| key.starts_with("kubernetes.io/"))
    }

    /// Labels, with their values, of which every matching node or pod has one; `None` if the selector names no values.
    #[must_use]
    pub fn required_values(&self) -> Option<impl Iterator<Item = (&str, &str)>> {
        let named = self.0.iter().filter_map(|requirement| match requirement {
            Requirement::In(key, values) => Some((key, values)),
            Requirement::NotIn(..) | Requirement::Exists(_) | Requirement::DoesNotExist(_) => None,
        });
        let (key, values) = named.min_by_key(|(_, values)| values.len())?;
        Some(values.iter().map(|value| (key.as_str(), value.as_str())))
    }

    /// Whether the label of this key is required.
    #[must_use]
    pub fn requires(&self, key: &str) -> bool {
        self.0.iter().any(|requirement| match requirement {
            Requirement::In(known, _) | Requirement::Exists(known) => known == key,
            Requirement::NotIn(..) | Requirement::DoesNotExist(_) => false,
        })
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

    #[test]
    fn a_standard_selector_matches_nothing_without_a_selector_and_everything_if_it_is_empty() {
        assert_eq!(Selector::standard(None), Ok(None));
        let everything = Selector::standard(Some(&LabelSelector::default()));
        assert!(everything.unwrap().unwrap().matches(&Labels::default()));
        let some = Selector::standard(Some(&expression("zone", "In", &["a"])));
        let some = some.unwrap().unwrap();
        assert!(some.matches(&Labels::new([("zone", "a")])));
        assert!(!some.matches(&Labels::default()));
    }

    #[test]
    fn what_can_be_read_of_a_selector_with_an_unknown_operator_still_selects() {
        let mut selector = expression("zone", "Near", &["a"]);
        selector.match_labels = Some([("os".to_owned(), "linux".to_owned())].into());
        let (error, rest) = Selector::standard(Some(&selector)).unwrap_err();
        assert!(error.to_string().contains("'Near'"), "{error}");
        assert!(rest.matches(&Labels::new([("os", "linux")])));
        assert!(!rest.matches(&Labels::new([("zone", "a")])));
    }

    #[test]
    fn the_required_label_is_one_that_every_matching_node_has() {
        let required = |key, operator, values: &[&str]| {
            let mut selector = expression(key, operator, values);
            selector.match_labels = Some([("kubernetes.io/os".to_owned(), "linux".into())].into());
            let selector = Selector::standard(Some(&selector)).unwrap().unwrap();
            selector.required_label().map(str::to_owned)
        };
        assert_eq!(required("zone", "In", &["a", "b"]).as_deref(), Some("zone"));
        assert_eq!(required("zone", "Exists", &[]).as_deref(), Some("zone"));
        for negative in ["NotIn", "DoesNotExist"] {
            let found = required("zone", negative, &["a"]);
            assert_eq!(found.as_deref(), Some("kubernetes.io/os"), "{negative}");
        }
        let only_negative = expression("zone", "DoesNotExist", &[]);
        let selector = Selector::standard(Some(&only_negative)).unwrap().unwrap();
        assert_eq!(selector.required_label(), None);
    }
}
