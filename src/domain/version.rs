//! Kubelet and API server versions: free text that often, not always, can be compared.
//!
//! `v1.31.2-eks-94953ac`, `v1.30.1-gke.1187000`, `v1.29.4+k3s1`, `v1.33.0-rc.1`.

use std::cmp::Ordering;

/// A version that can be compared; one that cannot be read is `None` from [`Version::parse`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    numbers: [u64; 3],
    stage: Stage,
}

/// Orders what follows the numbers: a pre-release comes before the release, a vendor's build after.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    PreRelease(Vec<Part>),
    Release,
    Build(Vec<Part>),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Text(String),
}

impl Version {
    /// Reads `v1.31.2` with whatever follows.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.find(['-', '+']).unwrap_or(text.len());
        let (numbers, suffix) = text.split_at_checked(end)?;
        let mut numbers = numbers.split('.').map(|number| number.parse().ok());
        let numbers = [numbers.next()??, numbers.next()??, numbers.next()??];
        Some(Self {
            numbers,
            stage: stage(suffix),
        })
    }

    /// Major and minor version.
    #[must_use]
    pub fn minor(&self) -> (u64, u64) {
        (self.numbers[0], self.numbers[1])
    }
}

fn stage(suffix: &str) -> Stage {
    let Some(rest) = suffix.get(1..).filter(|rest| !rest.is_empty()) else {
        return Stage::Release;
    };
    let parts = rest
        .split(['.', '-', '+'])
        .flat_map(split_digits)
        .map(|part| {
            part.parse()
                .map_or_else(|_| Part::Text(part.to_owned()), Part::Number)
        })
        .collect();
    if ["alpha", "beta", "rc"]
        .iter()
        .any(|stage| rest.starts_with(stage))
    {
        Stage::PreRelease(parts)
    } else {
        Stage::Build(parts)
    }
}

/// `k3s12` is `k`, `3`, `s`, `12`: the last number is what counts.
fn split_digits(part: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut digits: Option<bool> = None;
    for (index, c) in part.char_indices() {
        if digits.is_some_and(|digits| digits != c.is_ascii_digit()) {
            parts.extend(part.get(start..index));
            start = index;
        }
        digits = Some(c.is_ascii_digit());
    }
    parts.extend(part.get(start..).filter(|rest| !rest.is_empty()));
    parts
}

/// How `a` compares with `b`; `None` when one of them cannot be read.
#[must_use]
pub fn compare(a: &str, b: &str) -> Option<Ordering> {
    if a == b {
        return Some(Ordering::Equal);
    }
    Some(Version::parse(a)?.cmp(&Version::parse(b)?))
}

/// Whether a kubelet is behind its API server.
///
/// EKS releases patches of its control plane and of its node images independently of each other, so
/// there only the minor version says something: a node two patches behind is the newest there is.
#[must_use]
pub fn is_behind_api_server(kubelet: &str, api_server: &str) -> bool {
    match (Version::parse(kubelet), Version::parse(api_server)) {
        (Some(kubelet_version), Some(api_server_version)) => {
            if kubelet.contains("-eks-") {
                kubelet_version.minor() < api_server_version.minor()
            } else {
                kubelet_version < api_server_version
            }
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_numbers_not_by_text() {
        for (older, newer) in [
            ("v1.9.0", "v1.10.0"),
            ("v1.31.2", "v1.31.10"),
            ("v1.33.0-rc.1", "v1.33.0"),
            ("v1.33.0-beta.2", "v1.33.0-rc.0"),
            ("v1.29.4+k3s1", "v1.29.4+k3s12"),
            ("v1.30.1-gke.1187000", "v1.30.1-gke.1187001"),
            ("v1.31.2-eks-94953ac", "v1.32.0-eks-1552ad0"),
        ] {
            assert_eq!(
                compare(older, newer),
                Some(Ordering::Less),
                "{older} {newer}"
            );
            assert_eq!(
                compare(newer, older),
                Some(Ordering::Greater),
                "{newer} {older}"
            );
        }
        assert_eq!(compare("v1.31.2", "1.31.2"), Some(Ordering::Equal));
    }

    #[test]
    fn text_that_is_no_version_cannot_be_compared_and_is_never_behind() {
        assert_eq!(compare("v1.31", "v1.31.0"), None);
        assert_eq!(compare("latest", "v1.31.0"), None);
        assert_eq!(compare("latest", "latest"), Some(Ordering::Equal));
        assert!(!is_behind_api_server("latest", "v1.31.0"));
        assert!(!is_behind_api_server("v1.31.0", ""));
    }

    #[test]
    fn an_eks_kubelet_is_behind_its_api_server_by_minor_version_only() {
        assert!(!is_behind_api_server(
            "v1.31.2-eks-94953ac",
            "v1.31.5-eks-8cce635"
        ));
        assert!(is_behind_api_server(
            "v1.30.8-eks-94953ac",
            "v1.31.5-eks-8cce635"
        ));
        assert!(is_behind_api_server("v1.31.2", "v1.31.5"));
    }
}
