//! Helm as users run it, and the chart.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail, ensure};
use node_insights_harness::ControlPlane;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::project;

/// Name and namespace of the release in these tests.
pub const NAME: &str = "node-insights";

/// A major version of Helm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Major {
    Three,
    Four,
}

impl Major {
    /// Helm 4 first: its output becomes the snapshots.
    pub const BOTH: [Self; 2] = [Self::Four, Self::Three];

    /// Its program. The first call may take minutes, if it has to be built.
    fn program(self) -> &'static Path {
        static PROGRAMS: [OnceLock<PathBuf>; 2] = [OnceLock::new(), OnceLock::new()];
        let (program, number) = match self {
            Self::Three => (&PROGRAMS[0], "3"),
            Self::Four => (&PROGRAMS[1], "4"),
        };
        program.get_or_init(|| {
            let script = project().join("hack/helm.sh");
            let output = Command::new(&script)
                .arg(number)
                .stdin(Stdio::null())
                .stderr(Stdio::inherit()) // show the progress
                .output()
                .unwrap();
            assert!(output.status.success(), "{}: see above", script.display());
            PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
        })
    }
}

impl fmt::Display for Major {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Three => "Helm 3",
            Self::Four => "Helm 4",
        })
    }
}

/// Helm with its own folders, so that the user's configuration has no effect.
pub struct Helm {
    major: Major,
    kubeconfig: Option<PathBuf>,
    home: TempDir,
}

impl Helm {
    /// Without a cluster.
    pub fn offline(major: Major) -> Result<Self> {
        Ok(Self {
            major,
            kubeconfig: None,
            home: TempDir::new()?,
        })
    }

    /// As the admin of the cluster.
    pub fn of(major: Major, plane: &ControlPlane) -> Result<Self> {
        Ok(Self {
            kubeconfig: Some(plane.kubeconfig().to_owned()),
            ..Self::offline(major)?
        })
    }

    /// Runs it, and returns its output.
    ///
    /// # Errors
    ///
    /// When it fails, with its output.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(self.major.program());
        command.args(args).stdin(Stdio::null());
        for (variable, folder) in [
            ("HELM_CACHE_HOME", "cache"),
            ("HELM_CONFIG_HOME", "config"),
            ("HELM_DATA_HOME", "data"),
        ] {
            command.env(variable, self.home.path().join(folder));
        }
        // Without a cluster, a file that does not exist.
        let kubeconfig = self.kubeconfig.clone();
        command.env(
            "KUBECONFIG",
            kubeconfig.unwrap_or_else(|| self.home.path().join("none")),
        );
        let output = command.output().context("running Helm")?;
        if !output.status.success() {
            bail!(
                "{} {} failed with {}: {}{}",
                self.major,
                args.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// `helm template` of the chart as this release, with further arguments.
    pub fn template(&self, args: &[&str]) -> Result<String> {
        let chart = chart();
        let mut all = vec!["template", NAME, &chart, "--namespace", NAME];
        all.extend(args);
        self.run(&all)
    }

    /// `helm COMMAND RELEASE CHART -n NAMESPACE`, with further arguments.
    pub fn release(&self, command: &str, args: &[&str]) -> Result<String> {
        let mut all = vec![command, NAME, "--namespace", NAME];
        all.extend(args);
        self.run(&all)
    }

    /// `helm install` of the chart, with further arguments.
    pub fn install(&self, args: &[&str]) -> Result<String> {
        let chart = chart();
        let mut all = vec![chart.as_str(), "--create-namespace"];
        all.extend(args);
        self.release("install", &all)
    }
}

/// The folder of the chart.
pub fn chart() -> String {
    project()
        .join("charts/node-insights")
        .to_string_lossy()
        .into_owned()
}

/// A values file of the chart's tests.
#[derive(Debug, Clone)]
pub struct Case {
    /// The name of the file, without its ending.
    pub name: String,
    pub path: String,
}

impl Case {
    pub fn named(name: &str) -> Self {
        let path = format!("{}/ci/{name}.yaml", chart());
        Self {
            name: name.to_owned(),
            path,
        }
    }

    /// Those that have to be rendered.
    pub fn accepted() -> Result<Vec<Self>> {
        Self::all(|name| name.ends_with("-values"))
    }

    /// Those that have to be rejected.
    pub fn rejected() -> Result<Vec<Self>> {
        Self::all(|name| name.starts_with("rejected-"))
    }

    fn all(is_included: impl Fn(&str) -> bool) -> Result<Vec<Self>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(format!("{}/ci", chart()))? {
            let file = entry?.file_name().to_string_lossy().into_owned();
            let name = file.strip_suffix(".yaml").context("not a .yaml file")?;
            ensure!(
                name.ends_with("-values") != name.starts_with("rejected-"),
                "ci/{file} is called neither …-values nor rejected-…"
            );
            if is_included(name) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        ensure!(names.len() > 3, "{names:?}");
        Ok(names.iter().map(|name| Self::named(name)).collect())
    }
}

/// The objects of a rendered chart.
pub fn objects(yaml: &str) -> Result<Vec<Value>> {
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(yaml)?;
    objects.retain(|object| !object.is_null());
    Ok(objects)
}

/// The only object of this kind whose name ends with `name_end`.
pub fn one<'a>(objects: &'a [Value], kind: &str, name_end: &str) -> &'a Value {
    let found: Vec<&Value> = objects
        .iter()
        .filter(|object| object["kind"] == kind)
        .filter(|object| {
            let name = object["metadata"]["name"].as_str();
            name.is_some_and(|name| name.ends_with(name_end))
        })
        .collect();
    let [object] = found.as_slice() else {
        panic!("{} objects {kind} …{name_end}", found.len());
    };
    object
}
