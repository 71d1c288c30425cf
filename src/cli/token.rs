//! The token for the operator. Read when it is needed, and never printed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The environment variable with the token. There is no flag, as all users of a machine can see arguments.
const VARIABLE: &str = "NODE_INSIGHTS_TOKEN";
/// The token of a pod's service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// None was given.
    #[error(
        "This needs a token of an account to which the ClusterRole node-insights-operate is bound: \
         kubectl create token NAME -n NAMESPACE > FILE, then --token-file FILE (or {VARIABLE})"
    )]
    None,
    /// The file cannot be read.
    #[error("Cannot read the token in {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("There is no token in {0}: it is empty")]
    Empty(String),
}

/// The token of `file`, of the environment, or of the pod, in this order.
pub(super) fn find(file: Option<&Path>) -> Result<String, TokenError> {
    let variable = std::env::var(VARIABLE).ok();
    find_among(file, variable, Path::new(SERVICE_ACCOUNT))
}

fn find_among(
    file: Option<&Path>,
    variable: Option<String>,
    service_account: &Path,
) -> Result<String, TokenError> {
    let (text, place) = match (file, variable) {
        (Some(file), _) => (read(file)?, file.display().to_string()),
        (None, Some(variable)) => (variable, VARIABLE.to_owned()),
        (None, None) if service_account.exists() => {
            let place = service_account.display().to_string();
            (read(service_account)?, place)
        }
        (None, None) => return Err(TokenError::None),
    };
    match text.trim() {
        "" => Err(TokenError::Empty(place)),
        token => Ok(token.to_owned()),
    }
}

fn read(file: &Path) -> Result<String, TokenError> {
    fs::read_to_string(file).map_err(|source| TokenError::Unreadable {
        file: file.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_priority_over_the_environment_and_the_environment_over_the_pod() {
        let folder = tempfile::tempdir().unwrap();
        let [file, pod] = ["file", "pod"].map(|name| {
            let path = folder.path().join(name);
            fs::write(&path, format!("of-the-{name}\n")).unwrap();
            path
        });
        let variable = || Some("of-the-variable".to_owned());
        let found = find_among(Some(&file), variable(), &pod).unwrap();
        assert_eq!(found, "of-the-file");
        let found = find_among(None, variable(), &pod).unwrap();
        assert_eq!(found, "of-the-variable");
        assert_eq!(find_among(None, None, &pod).unwrap(), "of-the-pod");
    }

    #[test]
    fn a_missing_token_is_reported_with_how_to_get_one() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let error = find_among(None, None, &missing).unwrap_err().to_string();
        assert!(error.contains("kubectl create token"), "{error}");
        assert!(error.contains("node-insights-operate"), "{error}");
        let error = find_among(Some(&missing), Some("x".into()), &missing).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
        let error = find_among(None, Some(" \n".into()), &missing).unwrap_err();
        assert!(error.to_string().contains(VARIABLE), "{error}");
    }
}
