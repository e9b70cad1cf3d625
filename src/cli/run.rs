//! `portcullis run`.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::kubernetes::KubernetesArgs;
use super::offline::Offline;
use super::overrides::{AdminBind, Overrides};
use super::{Failure, output};
use crate::app::{self, Provider};
use crate::control::Feed;
use crate::ir::{Fragment, Name};
use crate::provider::file::{self, Inputs};
use crate::telemetry::tracing::{LogOptions, init};

/// Options of `portcullis run`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct RunArgs {
    /// Configuration files, and directories of *.yaml and *.yml [env: PORTCULLIS_CONFIG, separated
    /// by commas]
    #[arg(long, short, value_name = "FILE|DIR", value_delimiter = ',')]
    config: Vec<PathBuf>,
    /// Without a configuration: forward everything that comes to 0.0.0.0:$PORT there
    /// [env: PORTCULLIS_UPSTREAM]
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "config")]
    upstream: Option<String>,
    /// Address of the admin listener, or `off` [env: PORTCULLIS_ADMIN]
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<AdminBind>,
    /// Worker threads [env: PORTCULLIS_WORKERS]
    #[arg(long, value_name = "N", value_parser = workers)]
    workers: Option<usize>,
    /// The zone this process stands in: endpoints of the same zone come first
    /// [env: PORTCULLIS_ZONE]
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Port of the listener called `web`; with --upstream 8080 unless given [env: PORT]
    #[arg(long, value_name = "PORT", value_parser = port)]
    port: Option<u16>,
    /// Level of the operations log, for example `info` or `portcullis=debug`
    /// [env: PORTCULLIS_LOG]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    // Last: what comes behind it would stand under its heading.
    #[command(flatten)]
    kubernetes: KubernetesArgs,
}

const AFTER: &str = "\
A flag stands above the environment, and the environment above the file.
SIGHUP reads the configuration again (an edited file is noticed without), SIGUSR1 opens the access
log again, SIGUSR2 hands over to a new process (of a new binary, if it was replaced), SIGTERM drains
and ends, a second SIGTERM ends at once.";

/// Where the configuration comes from.
enum Origin {
    Files(Vec<PathBuf>),
    Upstream(String),
}

/// Serves until told to stop.
pub fn run(args: RunArgs) -> Result<ExitCode, Failure> {
    let asked_for_port = args.port;
    let text = |text: &str| Ok(text.to_owned());
    let zone = or_variable(args.zone, "PORTCULLIS_ZONE", text)?;
    let overrides = Overrides {
        admin: or_variable(args.admin, "PORTCULLIS_ADMIN", str::parse)?,
        workers: or_variable(args.workers, "PORTCULLIS_WORKERS", workers)?,
        zone: zone.filter(|zone| !zone.is_empty()).map(Arc::from),
        port: or_variable(args.port, "PORT", port)?,
    };
    let log = or_variable(args.log, "PORTCULLIS_LOG", text)?;
    let cluster = args.kubernetes.is_wanted();
    let origin = match origin(args.config, args.upstream)? {
        None if !cluster => return Err(nothing_to_serve()),
        Some(Origin::Upstream(_)) if cluster => {
            return Err(Failure::usage("--upstream is for a run without --kubernetes"));
        }
        origin => origin,
    };
    if let (Some(port), None) = (asked_for_port, &origin) {
        let message = format!("--port {port} is for a listener of --config; here it is --http");
        return Err(Failure::usage(message));
    }
    if let (Some(port), Some(Origin::Files(paths))) = (asked_for_port, &origin) {
        let translation = file::translate(&file::load(paths, &file::environment()));
        if translation.usable && !overrides.has_the_port(&translation.fragment) {
            return Err(Failure::usage(format!(
                "--port {port} is for the listener called `web`, and there is none"
            )));
        }
    }
    if let Some(Origin::Files(paths)) = &origin
        && io::stderr().is_terminal()
    {
        // The log has a line for each problem; a person at a terminal is shown the place.
        let offline = Offline::load(paths)?;
        if offline.snapshot.is_none() {
            return Err(Failure::config(offline.report(output::colored(&io::stderr()))));
        }
    }
    let options = LogOptions { filter: log, ..LogOptions::default() };
    let _log = init(&options).map_err(Failure::usage)?;
    let reload = Arc::new(Notify::new());
    let mut providers = vec![match origin {
        Some(Origin::Files(paths)) => files(paths, reload.clone(), overrides),
        Some(Origin::Upstream(upstream)) => constant(everything_to(&upstream, &overrides)?),
        None => constant(flags_alone(&overrides)),
    }];
    if cluster {
        providers.push(args.kubernetes.provider()?);
    }
    Ok(app::run(providers, reload, |_| {}).into())
}

/// A flag stands above the environment, whichever of the two it is.
fn origin(config: Vec<PathBuf>, upstream: Option<String>) -> Result<Option<Origin>, Failure> {
    if !config.is_empty() {
        return Ok(Some(Origin::Files(config)));
    }
    if let Some(upstream) = upstream {
        return Ok(Some(Origin::Upstream(upstream)));
    }
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    match (variable("PORTCULLIS_CONFIG"), variable("PORTCULLIS_UPSTREAM")) {
        (Some(config), None) => Ok(Some(Origin::Files(match config.to_str() {
            Some(list) => list.split(',').map(PathBuf::from).collect(),
            None => vec![config.into()],
        }))),
        (None, Some(upstream)) => {
            Ok(Some(Origin::Upstream(upstream.to_string_lossy().into_owned())))
        }
        (Some(_), Some(_)) => Err(Failure::usage(
            "PORTCULLIS_CONFIG and PORTCULLIS_UPSTREAM are both set; unset one of them",
        )),
        (None, None) => Ok(None),
    }
}

fn nothing_to_serve() -> Failure {
    Failure::usage(
        "serve what? Give --config FILE|DIR, or --upstream HOST:PORT to forward everything, or \
         --kubernetes; `portcullis demo` needs none of them",
    )
}

/// The file provider as the composition root wants it.
fn files(paths: Vec<PathBuf>, reload: Arc<Notify>, overrides: Overrides) -> Provider {
    let (out, updates) = watch::channel(file::Update::default());
    let options = file::Options::new(paths, file::environment());
    let feed = app::watch_provider(
        updates,
        |update| update.loads > 0,
        move |update| {
            let mut problems = update.problems;
            problems.extend(update.fragment.as_ref().and_then(|said| overrides.problem(said)));
            let fragment = update.fragment.map(|fragment| overrides.apply(fragment));
            Feed { fragment, problems, accepted: update.accepted, ..Feed::default() }
        },
    );
    Provider::Prompt(Box::new(move |index, news| {
        tokio::spawn(file::run(options, reload, out));
        feed(index, news);
    }))
}

/// A provider that says one thing.
fn constant(feed: Feed) -> Provider {
    let (keep, said) = watch::channel(feed);
    let start = app::watch_provider(said, |_| true, |feed| feed);
    Provider::Prompt(Box::new(move |index, news| {
        start(index, news);
        // The channel must stay open: its end would mean that the provider is gone.
        tokio::spawn(async move { keep.closed().await });
    }))
}

/// What flags say where there is no file for them to stand above.
fn flags_alone(overrides: &Overrides) -> Feed {
    let fragment = Fragment { provider: Name::from("flags"), ..Fragment::default() };
    // The port is that of a listener in a file.
    let overrides = Overrides { port: None, ..overrides.clone() };
    let fragment = Some(overrides.apply(Arc::new(fragment)));
    Feed { fragment, accepted: true, ..Feed::default() }
}

/// Everything goes to `upstream`.
fn everything_to(upstream: &str, overrides: &Overrides) -> Result<Feed, Failure> {
    // A JSON string is a YAML string; `$` would begin a variable.
    let endpoint = serde_json::to_string(&upstream.replace('$', "$$")).map_err(Failure::usage)?;
    let text = format!(
        "listeners: {{ web: {{ bind: \"0.0.0.0:8080\" }} }}\n\
         hosts: {{ \"*\": {{ routes: [ {{ name: all, path: /, upstream: app }} ] }} }}\n\
         upstreams: {{ app: {{ endpoints: [ {endpoint} ] }} }}\n"
    );
    let inputs = Inputs::from_text("--upstream", &text, BTreeMap::new());
    let translation = file::translate(&inputs);
    if !translation.usable {
        let first = translation.problems.first();
        let why = first.map(|problem| problem.message.clone()).unwrap_or_default();
        return Err(Failure::usage(format!("--upstream {upstream}: {why}")));
    }
    let fragment = overrides.apply(Arc::new(translation.fragment));
    Ok(Feed { fragment: Some(fragment), accepted: true, ..Feed::default() })
}

/// What a flag says, else what its variable says; one that is empty says nothing.
fn or_variable<T>(
    flag: Option<T>,
    name: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, Failure> {
    if flag.is_some() {
        return Ok(flag);
    }
    let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let parsed = match value.to_str() {
        Some(text) => parse(text),
        None => Err("it is not UTF-8".to_owned()),
    };
    parsed
        .map(Some)
        .map_err(|why| Failure::usage(format!("{name}={}: {why}", value.to_string_lossy())))
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port @ 1..) => Ok(port),
        _ => Err("write a number from 1 to 65535".to_owned()),
    }
}

fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(workers @ 1..=1024) => Ok(workers),
        _ => Err("write a number from 1 to 1024".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;
    use crate::ir::HostPattern;

    #[test]
    fn everything_goes_to_the_one_upstream() {
        let overrides = Overrides { port: Some(5000), ..Overrides::default() };
        let feed = everything_to("app.internal:3000", &overrides).unwrap();
        let fragment = feed.fragment.unwrap();
        let binds: Vec<_> = fragment.listeners.values().map(|l| l.bind.to_string()).collect();
        assert_eq!(binds, ["0.0.0.0:5000"]);
        assert_eq!(fragment.hosts[0].pattern, HostPattern::Any);
        let endpoint = &fragment.upstreams.values().next().unwrap().endpoints[0];
        assert_eq!(endpoint.address.to_string(), "app.internal:3000");
    }

    #[test]
    fn only_options_of_a_cluster_are_listed_under_kubernetes() {
        let command = RunArgs::augment_args(clap::Command::new("run"));
        let others: Vec<_> = (command.get_arguments())
            .filter(|option| option.get_help_heading().is_none())
            .map(|option| option.get_id().as_str())
            .collect();
        assert_eq!(others, ["config", "upstream", "admin", "workers", "zone", "port", "log"]);
    }

    #[test]
    fn an_upstream_that_is_none_is_wrong_usage() {
        for text in ["", "no port", "x:99999", "\"]}, evil: {", "${HOME}:1"] {
            assert!(everything_to(text, &Overrides::default()).is_err(), "{text}");
        }
    }
}
