//! A real Prometheus, and its promtool.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

use super::{STEP, admin_of, eventually, reserve};

/// A Prometheus that scrapes one target four times a second; ended when dropped.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    dir: TempDir,
}

/// What came back of a query: how many series, and how many of their values are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Series.
    pub series: usize,
    /// Those whose value is not NaN.
    pub numbers: usize,
}

impl Prometheus {
    /// Started with the metrics page at `target` as its only target, whose labels get these.
    pub async fn scraping(target: SocketAddr, labels: &[(&str, &str)]) -> Self {
        let dir = TempDir::with_prefix("portcullis-prometheus-").expect("a directory");
        let labels: String =
            labels.iter().map(|(name, value)| format!("{name}: {value}, ")).collect();
        let config = format!(
            "global: {{ scrape_interval: 250ms, scrape_timeout: 250ms }}\n\
             scrape_configs:\n\
             - job_name: portcullis\n  \
               static_configs: [ {{ targets: [ \"{target}\" ], labels: {{ {labels} }} }} ]\n"
        );
        let path = dir.path().join("prometheus.yml");
        std::fs::write(&path, config).expect("written");
        let address = reserve();
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        let child = Command::new(program("prometheus"))
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus starts");
        let prometheus = Self { child, address, dir };
        let up = async || prometheus.query("up == 1").await == Ok(Found { series: 1, numbers: 1 });
        eventually(3 * STEP, "prometheus has scraped", up).await;
        prometheus
    }

    /// The instant query `expression` now, or what is wrong with it.
    pub async fn query(&self, expression: &str) -> Result<Found, String> {
        let answer = self.ask(&format!("/api/v1/query?query={}", escape(expression))).await?;
        let data = &answer["data"];
        let results = match data["resultType"].as_str() {
            Some("vector") => data["result"].as_array().cloned().unwrap_or_default(),
            _ => return Err(format!("no vector but {data}")),
        };
        let is_number = |result: &&Value| result["value"][1].as_str().is_some_and(|v| v != "NaN");
        Ok(Found { series: results.len(), numbers: results.iter().filter(is_number).count() })
    }

    /// The values of `label` on series that match `selector`.
    pub async fn label_values(
        &self,
        selector: &str,
        label: &str,
    ) -> Result<BTreeSet<String>, String> {
        let answer = self.ask(&format!("/api/v1/series?match[]={}", escape(selector))).await?;
        let series = answer["data"].as_array().cloned().unwrap_or_default();
        let value = |series: &Value| series[label].as_str().map(str::to_owned);
        Ok(series.iter().filter_map(value).collect())
    }

    async fn ask(&self, path: &str) -> Result<Value, String> {
        let Some(answer) = admin_of(self.address, path).await else {
            return Err(format!("prometheus does not answer: {}", self.log()));
        };
        let parsed: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match parsed["status"].as_str() {
            Some("success") => Ok(parsed),
            _ => Err(format!("{}: {}", answer.status, answer.text())),
        }
    }

    /// What it wrote to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `prometheus` or `promtool`, fetched where the machine has none.
pub fn program(name: &str) -> PathBuf {
    static PLACE: LazyLock<PathBuf> = LazyLock::new(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/prometheus");
        let output = Command::new(script).stderr(Stdio::inherit()).output().expect("it runs");
        assert!(output.status.success(), "tests/prometheus failed");
        PathBuf::from(String::from_utf8(output.stdout).expect("text").trim())
    });
    PLACE.join(name)
}

/// Every byte but letters and digits as `%XX` (RFC 3986 §2.1).
fn escape(text: &str) -> String {
    let escaped = text.bytes().map(|byte| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    escaped.collect()
}
