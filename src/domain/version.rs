//! Kubelet and API server versions: free text that can usually be compared.
//!
//! `v1.31.2-eks-94953ac`, `v1.30.1-gke.1187000`, `v1.29.4+k3s1`, `v1.33.0-rc.1`.
//!
//! The order is partial. Three numbers decide, then the stage of a pre-release (`-alpha.1`, `-rc.1`), which is
//! older than the release and all its builds. Builds of the same release are ordered only where their vendor
//! numbers them. Hashes and builds of different vendors have no order, and a version without a suffix is neither
//! older nor newer than one with a suffix: kubelets on Windows report none.

use std::cmp::Ordering;

/// Prefixes of build numbers of vendors whose higher number is the newer build: GKE, k3s, RKE2, Tanzu.
const NUMBERED_BUILDS: [&str; 4] = ["gke.", "k3s", "rke2r", "vmware."];

/// A parsed version.
///
/// Ordered partially, see the [module](self). Versions are equal only if they do not differ at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    numbers: [u64; 3],
    stage: Stage,
    build: Build,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    PreRelease(Vec<Part>),
    Release,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Text(String),
}

/// What follows the release. [`Version::total_cmp`] relies on the order of the variants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Build {
    /// A build without an order; empty when there is no suffix.
    Other(String),
    /// The vendor, as an index into [`NUMBERED_BUILDS`], and its numbers.
    Numbered(usize, Vec<u64>),
}

impl Version {
    /// Parses `v1.31.2` with any suffix; `None` when it cannot be read.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.find(['-', '+']).unwrap_or(text.len());
        let (numbers, suffix) = text.split_at_checked(end)?;
        let mut numbers = numbers.split('.').map(|number| number.parse().ok());
        let read = [numbers.next()??, numbers.next()??, numbers.next()??];
        if numbers.next().is_some() {
            return None;
        }
        let (stage, build) = stage(suffix);
        Some(Self {
            numbers: read,
            stage,
            build: Build::parse(build),
        })
    }

    /// Major and minor version.
    #[must_use]
    pub fn minor(&self) -> (u64, u64) {
        (self.numbers[0], self.numbers[1])
    }

    /// Whether this version is newer than `other`, as far as `precision` says.
    #[must_use]
    pub fn is_ahead(&self, other: &Self, precision: Precision) -> bool {
        match precision {
            Precision::Minor => self.minor() > other.minor(),
            Precision::Full => self > other,
        }
    }

    /// A total order for sorting that extends the partial one: a newer version is always later, but a later one is
    /// not always newer.
    #[must_use]
    pub fn total_cmp(&self, other: &Self) -> Ordering {
        self.cmp_release(other)
            .then_with(|| self.build.cmp(&other.build))
    }

    /// Whether both are builds of the same release or pre-release.
    #[must_use]
    pub fn is_same_release(&self, other: &Self) -> bool {
        self.cmp_release(other).is_eq()
    }

    /// The vendor of a numbered build, as an index into `NUMBERED_BUILDS`.
    #[must_use]
    pub fn vendor(&self) -> Option<usize> {
        match &self.build {
            Build::Numbered(vendor, _) => Some(*vendor),
            Build::Other(_) => None,
        }
    }

    /// Whether this version meets `wanted`: the same release, and the same build where both have one.
    fn meets(&self, wanted: &Self) -> bool {
        let has_build = |version: &Self| version.build != Build::Other(String::new());
        self.is_same_release(wanted)
            && (self.build == wanted.build || !has_build(self) || !has_build(wanted))
    }

    fn cmp_release(&self, other: &Self) -> Ordering {
        (self.numbers, &self.stage).cmp(&(other.numbers, &other.stage))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let by_build = || match (&self.build, &other.build) {
            (Build::Numbered(vendor, a), Build::Numbered(other, b)) if vendor == other => {
                Some(a.cmp(b))
            }
            (a, b) => (a == b).then_some(Ordering::Equal),
        };
        match self.cmp_release(other) {
            Ordering::Equal => by_build(),
            decided => Some(decided),
        }
    }
}

impl Build {
    /// Plans of the system upgrade controller use `-` for `+`, so both are treated alike.
    fn parse(suffix: &str) -> Self {
        let suffix = suffix.trim_start_matches(['-', '+']);
        let numbered = NUMBERED_BUILDS
            .iter()
            .enumerate()
            .find_map(|(vendor, name)| {
                let numbers = suffix.strip_prefix(name)?.split('.').map(number);
                Some(Self::Numbered(vendor, numbers.collect::<Option<_>>()?))
            });
        numbered.unwrap_or_else(|| Self::Other(suffix.replace('+', "-")))
    }
}

/// A number of digits only.
fn number(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// The stage at the start of a suffix, and the rest of the suffix.
fn stage(suffix: &str) -> (Stage, &str) {
    let pre_release = || {
        let rest = suffix.strip_prefix('-')?;
        let end = rest.find(['-', '+']).unwrap_or(rest.len());
        let (stage, build) = rest.split_at_checked(end)?;
        let name = ["alpha", "beta", "rc"]
            .into_iter()
            .find(|name| stage.starts_with(name))?;
        let numbers = stage.strip_prefix(name)?;
        let numbers = numbers.strip_prefix('.').unwrap_or(numbers);
        let mut parts = vec![Part::Text(name.to_owned())];
        if !numbers.is_empty() {
            for part in numbers.split('.') {
                parts.push(Part::Number(number(part)?));
            }
        }
        Some((Stage::PreRelease(parts), build))
    };
    pre_release().unwrap_or((Stage::Release, suffix))
}

/// Compares two versions; `None` when one of them cannot be read, or when they have no order.
#[must_use]
pub fn compare(a: &str, b: &str) -> Option<Ordering> {
    if a == b {
        return Some(Ordering::Equal);
    }
    Version::parse(a)?.partial_cmp(&Version::parse(b)?)
}

/// Whether `version` meets the target `wanted` of a user exactly, downgrades included. A target without a build
/// means any build, and a kubelet that does not report its build may run any.
#[must_use]
pub fn meets(version: &str, wanted: &str) -> bool {
    match (Version::parse(version), Version::parse(wanted)) {
        (Some(version), Some(wanted)) => version.meets(&wanted),
        (None, _) | (_, None) => version == wanted,
    }
}

/// Which part of the API server's version says something about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Major and minor version: patches of nodes and control plane are released independently.
    Minor,
    /// The whole version: one tool updates both.
    Full,
}

/// Whether a kubelet is behind its API server.
#[must_use]
pub fn is_behind(kubelet: &str, api_server: &str, precision: Precision) -> bool {
    match (Version::parse(kubelet), Version::parse(api_server)) {
        (Some(kubelet), Some(api_server)) => api_server.is_ahead(&kubelet, precision),
        (None, _) | (_, None) => false,
    }
}

/// Whether a kubelet is ahead of its API server.
#[must_use]
pub fn is_ahead(kubelet: &str, api_server: &str, precision: Precision) -> bool {
    is_behind(api_server, kubelet, precision)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_ordered_by_numbers_not_by_text() {
        for (older, newer) in [
            ("v1.9.0", "v1.10.0"),
            ("v1.31.2", "v1.31.10"),
            ("v1.33.0-rc.1", "v1.33.0"),
            ("v1.33.0-beta.2", "v1.33.0-rc.0"),
            ("v1.33.0-alpha.0.12+abc", "v1.33.0-alpha.1"),
            ("v1.33.0-rc.1+k3s9", "v1.33.0+k3s1"),
            ("v1.33.0-rc1+rke2r1", "v1.33.0-rc2+rke2r1"),
            ("v1.33.0-rc.1", "v1.33.0-eks-94953ac"),
            ("v1.29.4+k3s1", "v1.29.4+k3s12"),
            ("v1.29.4+rke2r9", "v1.29.4+rke2r10"),
            ("v1.29.4+k3s1", "v1.29.4-k3s2"),
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
        assert_eq!(
            compare("v1.29.4+k3s1", "v1.29.4-k3s1"),
            Some(Ordering::Equal)
        );
    }

    #[test]
    fn builds_are_ordered_only_if_the_same_vendor_numbers_both() {
        for (a, b) in [
            ("v1.31.2-eks-16b398d", "v1.31.2-eks-a737599"),
            ("v1.31.2-eks-1234567", "v1.31.2-eks-7654321"),
            ("v1.29.4", "v1.29.4+rke2r1"),
            ("v1.29.4+k3s1", "v1.29.4+rke2r2"),
            ("v1.30.1-gke.1187000", "v1.30.1-eks-94953ac"),
            ("v1.30.1-gke.1", "v1.30.1-gke.1a"),
            ("v1.30.1-gke.+1", "v1.30.1-gke.2"),
            ("v1.29.4", "v1.29.4-dirty"),
            ("v1.33.0-rc.1", "v1.33.0-rc.1-dirty"),
            ("v1.33.0-alpha.0.1+abc", "v1.33.0-alpha.0.1+bcd"),
            ("v1.18.4-vk-azure-aci-1.4.5", "v1.18.4-vk-azure-aci-1.4.6"),
        ] {
            assert_eq!(compare(a, b), None, "{a} {b}");
            assert_eq!(compare(b, a), None, "{b} {a}");
        }
    }

    /// Versions that are close to each other.
    fn near() -> impl Strategy<Value = Version> {
        let text =
            "v1\\.3[12]\\.[01](-(alpha|rc)\\.?[01]?)?([-+](gke\\.|k3s|rke2r|eks-|a|)[019a]{0,2})?";
        text.prop_filter_map("can be read", |text| Version::parse(&text))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        #[test]
        fn the_order_is_partial_and_sorting_agrees_with_it(a in near(), b in near(), c in near()) {
            prop_assert_eq!(a.partial_cmp(&a), Some(Ordering::Equal));
            prop_assert_eq!(a.partial_cmp(&b), b.partial_cmp(&a).map(Ordering::reverse));
            prop_assert_eq!(a == b, a.partial_cmp(&b) == Some(Ordering::Equal));
            if a <= b && b <= c {
                prop_assert!(a <= c);
                prop_assert_eq!(a == c, a == b && b == c);
            }
            if let Some(order) = a.partial_cmp(&b) {
                prop_assert_eq!(a.total_cmp(&b), order);
            }
        }
    }

    #[test]
    fn invalid_versions_cannot_be_compared_and_are_never_behind() {
        assert_eq!(compare("v1.31", "v1.31.0"), None);
        assert_eq!(compare("v1.31.0.1", "v1.31.0.2"), None);
        assert_eq!(compare("latest", "v1.31.0"), None);
        assert_eq!(compare("latest", "latest"), Some(Ordering::Equal));
        assert!(!is_behind("latest", "v1.31.0", Precision::Full));
        assert!(!is_behind("v1.31.0", "", Precision::Minor));
    }

    #[test]
    fn a_kubelet_is_behind_its_api_server_by_its_minor_or_its_whole_version() {
        let (old, new) = ("v1.31.2-eks-94953ac", "v1.31.5-eks-8cce635");
        assert!(!is_behind(old, new, Precision::Minor));
        assert!(is_behind(old, new, Precision::Full));
        assert!(is_behind("v1.30.8-eks-94953ac", new, Precision::Minor));
        assert!(is_ahead("v1.32.0", new, Precision::Minor));
        assert!(!is_ahead(new, old, Precision::Minor));
        assert!(is_ahead(new, old, Precision::Full));
    }
}
