//! A real Prometheus that scrapes operators, and its HTTP API.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use kube::{Client, Config};
use node_insights_harness::{Process, eventually};
use serde_json::{Value, json};

use crate::rules::Rules;
use crate::support::{SOON, project};

/// The program of this name. The first call may take minutes, if it has to be built.
pub fn program(name: &str) -> PathBuf {
    let script = project().join("hack/prometheus.sh");
    let output = Command::new(&script)
        .arg(name)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit()) // show the progress
        .output()
        .unwrap();
    assert!(output.status.success(), "{}: see above", script.display());
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// A replica to scrape: the name of its pod, and its address.
pub type Target<'a> = (&'a str, &'a str);

/// A running Prometheus; its drop ends it.
pub struct Prometheus {
    /// Held for its drop.
    _process: Process,
    folder: PathBuf,
    api: Client,
}

impl Prometheus {
    /// Starts one that stores everything in `folder`, evaluates these rules every second, and scrapes with this
    /// token.
    pub async fn start(folder: &Path, rules: &Rules, token: &str) -> Result<Self> {
        let folder = folder.join("prometheus");
        fs::create_dir(&folder)?;
        rules.write(&folder.join("rules.yaml"))?;
        fs::write(folder.join("token"), token)?;
        // Scrapes as with the chart's monitors, except that the targets come from a file. JSON is YAML.
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{
                "job_name": "node-insights",
                "scheme": "https",
                "tls_config": {"insecure_skip_verify": true},
                "authorization": {"credentials_file": "token"},
                "file_sd_configs": [{"files": ["targets.json"], "refresh_interval": "1s"}],
            }],
        });
        let file = folder.join("prometheus.yaml");
        fs::write(&file, serde_json::to_string_pretty(&config)?)?;
        let args = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            "--web.listen-address=127.0.0.1:0".to_owned(),
            "--log.format=json".to_owned(),
        ];
        let process = Process::spawn("prometheus", &program("prometheus"), args, &[], &folder)?;
        let address = eventually("the port of Prometheus", SOON, async || {
            if let Some(exit) = process.exited()? {
                bail!("Prometheus ended with {exit}: {}", process.stderr_tail());
            }
            let log = process.read_stderr();
            let mut lines = log
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let line = lines.find(|line| line["msg"] == "Listening on");
            Ok(line.and_then(|line| line["address"].as_str().map(str::to_owned)))
        })
        .await?;
        let config = Config::new(format!("http://{address}").parse()?);
        Ok(Self {
            _process: process,
            folder,
            api: Client::try_from(config)?,
        })
    }

    /// Scrapes exactly these from now on, and waits until it has scraped each.
    pub async fn scrape(&self, targets: &[Target<'_>]) -> Result<()> {
        let groups: Vec<Value> = targets
            .iter()
            .map(|(pod, address)| {
                json!({
                    "targets": [address],
                    "labels": {"namespace": "node-insights", "pod": pod},
                })
            })
            .collect();
        // Renamed, so that it never reads half a file.
        let new = self.folder.join("targets.new");
        fs::write(&new, serde_json::to_string(&groups)?)?;
        fs::rename(&new, self.folder.join("targets.json"))?;
        eventually("every target is scraped", SOON, async || {
            let up = self.query("up == 1").await?;
            let is_up = |(_, address): &Target<'_>| {
                up.iter().any(|one| one["metric"]["instance"] == *address)
            };
            if up.len() == targets.len() && targets.iter().all(is_up) {
                return Ok(Some(()));
            }
            bail!("{}", self.get("/api/v1/targets").await?)
        })
        .await
    }

    /// The result of an instant query.
    ///
    /// # Errors
    /// When Prometheus rejects it.
    pub async fn query(&self, query: &str) -> Result<Vec<Value>> {
        let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let result = self.get(&format!("/api/v1/query?query={query}")).await?;
        let vector = result["result"].as_array().context("no vector")?;
        Ok(vector.clone())
    }

    /// The value of a query with one result.
    pub async fn number(&self, query: &str) -> Result<f64> {
        let result = self.query(query).await?;
        let [one] = &result[..] else {
            bail!("{query} returned {result:?}");
        };
        let text = one["value"][1].as_str().context("no value")?;
        Ok(text.parse()?)
    }

    /// Waits until an alert fires with these labels.
    pub async fn until_firing(&self, alert: &str, labels: &str) -> Result<()> {
        let query = format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\", {labels}}}");
        eventually(&query, SOON, async || {
            let firing = self.query(&query).await?;
            if firing.is_empty() {
                bail!("alerts: {:?}", self.query("ALERTS").await?);
            }
            Ok(Some(()))
        })
        .await
    }

    /// The names of the firing alerts.
    pub async fn firing(&self) -> Result<Vec<String>> {
        let firing = self
            .query("count by (alertname) (ALERTS{alertstate=\"firing\"})")
            .await?;
        let name = |one: &Value| one["metric"]["alertname"].as_str().map(str::to_owned);
        Ok(firing.iter().filter_map(name).collect())
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let request = http::Request::get(path).body(Vec::new())?;
        let answer: Value = self.api.request(request).await?;
        ensure!(answer["status"] == "success", "{path}: {answer}");
        Ok(answer["data"].clone())
    }
}
