//! The options of `portcullis run --kubernetes`, and its provider as the composition root wants it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::Failure;
use super::cluster::{ClusterArgs, HTTP, HTTPS, key};
use crate::app::{End, Live, News, Provider};
use crate::control::{Feed, Said};
use crate::ir::{AccessLogFormat, AccessLogTarget, Name, Problem};
use crate::provider::kubernetes::{
    self, CONTROLLER, Key, LogOptions, NGINX_CONTROLLER, Options, Parting, Update, WatchOptions,
};
use crate::telemetry::{ControllerIdentity, Template};

/// Where a pod finds the namespace it is in.
const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Options of the Kubernetes provider.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct KubernetesArgs {
    /// Serve the Ingresses of a cluster, beside what --config says
    #[arg(long, env = "PORTCULLIS_KUBERNETES", value_parser = clap::builder::FalseyValueParser::new())]
    kubernetes: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Where plain HTTP is listened for, or `off`
    #[arg(long, value_name = "IP:PORT", env = "PORTCULLIS_HTTP", default_value = HTTP)]
    http: Bind,
    /// Where HTTPS is listened for, or `off`
    #[arg(long, value_name = "IP:PORT", env = "PORTCULLIS_HTTPS", default_value = HTTPS)]
    https: Bind,
    /// The port that clients of plain HTTP connect to, as the Service has it: what back ends, redirects
    /// that name a port and variables are told
    #[arg(long, value_name = "PORT", env = "PORTCULLIS_PUBLIC_HTTP_PORT", default_value = "80", value_parser = clap::value_parser!(u16).range(1..))]
    public_http_port: u16,
    /// The same for HTTPS
    #[arg(long, value_name = "PORT", env = "PORTCULLIS_PUBLIC_HTTPS_PORT", default_value = "443", value_parser = clap::value_parser!(u16).range(1..))]
    public_https_port: u16,
    /// How a line of the access log looks: `ingress-nginx` (its well-known line), `json`, `combined`,
    /// a template with `{field}` in it, or `off`. Without it the ConfigMap says, else `ingress-nginx`
    #[arg(long, value_name = "FORMAT", env = "PORTCULLIS_ACCESS_LOG")]
    access_log: Option<LogFormat>,
    /// The file that the access log is appended to, or /dev/stdout, which is the default
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_ACCESS_LOG_PATH")]
    access_log_path: Option<PathBuf>,
    /// The Service whose addresses stand in the status of Ingresses
    #[arg(long, value_name = "NAMESPACE/NAME", env = "PORTCULLIS_PUBLISH_SERVICE", value_parser = key)]
    publish_service: Option<Key>,
    /// An address or host name for the status of Ingresses instead, may be given several times
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "PORTCULLIS_PUBLISH_STATUS_ADDRESS",
        value_delimiter = ',',
        conflicts_with = "publish_service"
    )]
    publish_status_address: Vec<String>,
    /// The addresses of the nodes that this pod and those like it run on instead: for pods on the
    /// host's network
    #[arg(long, env = "PORTCULLIS_PUBLISH_NODE_ADDRESSES", conflicts_with_all = ["publish_service", "publish_status_address"], value_parser = clap::builder::FalseyValueParser::new())]
    publish_node_addresses: bool,
    /// The Lease that decides which replica writes statuses and events
    #[arg(
        long,
        value_name = "NAME",
        env = "PORTCULLIS_ELECTION_ID",
        default_value = "portcullis-leader"
    )]
    election_id: String,
    /// Tell metrics under the names and labels of ingress-nginx, too, for dashboards and alerts that
    /// were made for it
    #[arg(long, env = "PORTCULLIS_INGRESS_NGINX_METRICS", value_parser = clap::builder::FalseyValueParser::new())]
    ingress_nginx_metrics: bool,
    /// Where what is known of the cluster is kept for a start while the API server is away. It
    /// holds the Secrets that Ingresses refer to, private keys included
    #[arg(long, value_name = "DIR", env = "PORTCULLIS_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// Seconds after which a watch is asked for anew; a silent connection is noticed a little later
    #[arg(long, value_name = "SECONDS", env = "PORTCULLIS_WATCH_TIMEOUT", default_value = "30", value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch_timeout: u64,
}

/// Where a listener is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bind(Option<SocketAddr>);

impl FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let wrong = || "write an address and port such as 0.0.0.0:80 or [::]:80, or `off`";
        text.parse().map(|address| Self(Some(address))).map_err(|_| wrong().to_owned())
    }
}

/// How a line of the access log is to look; `None` is no access log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LogFormat(Option<AccessLogFormat>);

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(Some(match text {
            "off" => return Ok(Self(None)),
            "ingress-nginx" => AccessLogFormat::ingress_nginx(),
            "json" => AccessLogFormat::Json,
            "combined" => AccessLogFormat::Combined,
            template if template.contains('{') => {
                Template::parse(template).map_err(|error| error.to_string())?;
                AccessLogFormat::Template(template.to_owned())
            }
            _ => {
                let known = "ingress-nginx, json, combined, off";
                return Err(format!("write one of {known}, or a template with {{field}} in it"));
            }
        })))
    }
}

impl KubernetesArgs {
    /// Whether a cluster is to be served.
    pub fn is_wanted(&self) -> bool {
        self.kubernetes
    }

    /// The provider.
    pub fn provider(self) -> Result<Provider, Failure> {
        let (meaning, watching) = self.options()?;
        let identity = meaning.rules.then(|| identity(&meaning, &watching));
        Ok(Provider::Patient(Box::new(move |index, news: News, live: Live| {
            let sender = news.clone();
            if let Some(identity) = identity {
                live.metrics.ingress_nginx().enable(identity);
            }
            let out = move |update| sender.blocking_send((index, said(update))).is_ok();
            match kubernetes::start(watching, meaning, live.metrics, Box::new(out)) {
                Ok(running) => Box::new(|end| {
                    Box::pin(running.stop(match end {
                        End::Stopped => Parting::Gone,
                        End::Succeeded => Parting::Succeeded,
                    }))
                }),
                Err(error) => {
                    let problem = format!("the cluster cannot be followed: {error}");
                    let problems = vec![Problem::error(problem)];
                    let feed = Feed { problems, ..Feed::default() };
                    tokio::spawn(async move { news.send((index, feed.into())).await });
                    Box::new(|_| Box::pin(async {}))
                }
            }
        })))
    }

    fn options(self) -> Result<(Options, WatchOptions), Failure> {
        if self.http.0.is_none() && self.https.0.is_none() {
            return Err(Failure::usage("--http and --https are both off; nothing would be served"));
        }
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let namespace = variable("POD_NAMESPACE").or_else(|| {
            let text = std::fs::read_to_string(NAMESPACE).ok()?;
            Some(text.trim().to_owned()).filter(|name| !name.is_empty())
        });
        let watching = WatchOptions {
            access: self.cluster.access(),
            watch_timeout: Duration::from_secs(self.watch_timeout),
            state_dir: self.state_dir,
            election: self.election_id,
            publish_service: self.publish_service,
            publish_addresses: self.publish_status_address,
            publish_nodes: self.publish_node_addresses,
            namespace: namespace.unwrap_or_else(|| "default".to_owned()),
            pod: variable("POD_NAME"),
        };
        let meaning = Options {
            rules: self.ingress_nginx_metrics,
            access_log: Some(access_log(self.access_log, self.access_log_path)),
            http: self.http.0,
            https: self.https.0,
            http_port: self.public_http_port,
            https_port: self.public_https_port,
            ..self.cluster.meaning.options()
        };
        Ok((meaning, watching))
    }
}

fn access_log(format: Option<LogFormat>, path: Option<PathBuf>) -> LogOptions {
    let target = |path: PathBuf| match path.to_str() {
        Some("/dev/stdout") => AccessLogTarget::Stdout,
        _ => AccessLogTarget::File(path),
    };
    LogOptions {
        off: format == Some(LogFormat(None)),
        format: format.and_then(|LogFormat(format)| format),
        target: path.map(target),
    }
}

/// Who metrics under ingress-nginx's names say that tells them. Whoever takes its place is called
/// by its name.
fn identity(meaning: &Options, watching: &WatchOptions) -> ControllerIdentity {
    let nginx = meaning.controllers.contains(NGINX_CONTROLLER);
    let class = if nginx { Some(NGINX_CONTROLLER) } else { None };
    let class = class.or_else(|| meaning.controllers.iter().next().map(|name| &**name));
    let host = || {
        let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        text.trim().to_owned()
    };
    ControllerIdentity {
        class: Name::from(class.unwrap_or(CONTROLLER)),
        namespace: Name::from(watching.namespace.as_str()),
        pod: Name::from(watching.pod.clone().unwrap_or_else(host)),
        election: Name::from(watching.election.as_str()),
    }
}

/// What the provider says, as control takes it.
fn said(update: Update) -> Said {
    match update {
        Update::All(all) => Said::All(Feed {
            fragment: Some(all.fragment),
            problems: all.problems,
            accepted: true,
            endpoints: all.endpoints,
            since: all.since,
        }),
        Update::Endpoints { lists, since } => Said::Endpoints { lists, since },
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        kubernetes: KubernetesArgs,
    }

    fn options(args: &[&str]) -> Result<(Options, WatchOptions), String> {
        let line = Line::try_parse_from([&["x", "--kubernetes"], args].concat());
        let line = line.map_err(|error| error.to_string())?;
        line.kubernetes.options().map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn the_defaults_are_those_of_a_pod_that_is_not_root() {
        let (meaning, watching) = options(&[]).unwrap();
        assert_eq!(meaning.http, "[::]:8080".parse().ok());
        assert_eq!(meaning.https, "[::]:8443".parse().ok());
        let defaults = Options::default();
        assert_eq!(meaning.access_log, Some(LogOptions::default()));
        let ours =
            Options { http: defaults.http, https: defaults.https, access_log: None, ..meaning };
        assert_eq!(ours, defaults);
        assert_eq!(watching.watch_timeout, Duration::from_secs(30));
    }

    #[test]
    fn what_is_given_is_taken() {
        let (meaning, watching) = options(&[
            "--watch-namespace=a,b",
            "--watch-namespace=c",
            "--serve-nginx-class",
            "--https=off",
            "--publish-service=edge/lb",
        ])
        .unwrap();
        assert_eq!(meaning.namespaces.iter().map(|n| &**n).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(meaning.classes.contains("nginx") && meaning.https.is_none());
        assert_eq!(watching.publish_service, Some(Key::new("edge", "lb")));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for args in [
            &["--publish-service=lb"][..],
            &["--publish-service=a/b/c"],
            &["--publish-service=a/b", "--publish-status-address=192.0.2.1"],
            &["--http=off", "--https=off"],
            &["--http=80"],
            &["--watch-timeout=0"],
            &["--access-log=jsn"],
            &["--access-log={nothing}"],
        ] {
            assert!(options(args).is_err(), "{args:?}");
        }
    }
}
