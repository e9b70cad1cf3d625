//! `portcullis ingress-nginx`: ingress-nginx's command line, as it stands in a Deployment, to that of
//! `run`.

use std::ffi::OsString;

use super::Failure;
use crate::provider::kubernetes::annotation::{Class, Finding, Flags, ObjectRef, parse_flags};

/// ingress-nginx's defaults, where they are others than ours.
const CLASS: &str = "nginx";
const CONTROLLER: &str = "k8s.io/ingress-nginx";
const ELECTION: &str = "ingress-nginx-leader";
const HTTP: u16 = 80;
const HTTPS: u16 = 443;
const ADMIN: u16 = 10254;

/// Arguments of `portcullis ingress-nginx`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every flag is mapped to one of `portcullis run`, or told of with what to do instead. With \
                        --dry-run first, what would run is printed and nothing is done."
)]
pub struct IngressNginxArgs {
    /// Print what would run
    #[arg(long)]
    dry_run: bool,
    /// The arguments of ingress-nginx
    #[arg(value_name = "FLAGS", allow_hyphen_values = true, trailing_var_arg = true)]
    flags: Vec<String>,
}

/// The arguments of `run`, program and command included; `None` where they were only to be printed.
///
/// # Errors
/// Names flags without which more would be served than was asked for.
pub fn arguments(args: &IngressNginxArgs) -> Result<Option<Vec<OsString>>, Failure> {
    // Manifests begin with the program itself.
    let program = |flag: &String| flag.ends_with("/nginx-ingress-controller");
    let rest = usize::from(args.flags.first().is_some_and(program));
    let read = parse_flags(args.flags.get(rest..).unwrap_or_default());
    let mut found = read.findings;
    found.retain(|finding| finding.class != Class::Honoured);
    found.extend(unhonoured(&read.flags));
    if let Some(selector) = &read.flags.namespace_selector {
        let why = "namespaces are chosen by name: give --watch-namespace each of them";
        return Err(Failure::usage(format!("--watch-namespace-selector={selector}: {why}")));
    }
    for Finding { annotation, message, remedy, .. } in &found {
        let remedy = remedy.as_ref().map(|remedy| format!(" ({remedy})")).unwrap_or_default();
        eprintln!("portcullis: warning: {annotation}: {message}{remedy}");
    }
    let arguments = translate(&read.flags);
    if args.dry_run {
        println!("portcullis {}", arguments.join(" "));
        return Ok(None);
    }
    let program = std::iter::once("portcullis".to_owned());
    Ok(Some(program.chain(arguments).map(OsString::from).collect()))
}

/// The command line of `run`.
fn translate(flags: &Flags) -> Vec<String> {
    let mut out = vec!["run".to_owned(), "--kubernetes".to_owned()];
    let mut value = |name: &str, value: String| out.push(format!("--{name}={value}"));
    let or = |given: &Option<std::sync::Arc<str>>, default: &str| {
        given.as_deref().unwrap_or(default).to_owned()
    };
    value("admin", format!("[::]:{}", flags.healthz_port.unwrap_or(ADMIN)));
    value("http", format!("[::]:{}", flags.http_port.unwrap_or(HTTP)));
    value("https", format!("[::]:{}", flags.https_port.unwrap_or(HTTPS)));
    // Over TLS ingress-nginx says 443 whatever its port is.
    flags.http_port.iter().for_each(|port| value("public-http-port", port.to_string()));
    value("ingress-class", or(&flags.ingress_class, CLASS));
    value("controller-class", or(&flags.controller_class, CONTROLLER));
    value("election-id", or(&flags.election_id, ELECTION));
    let texts =
        [("watch-namespace", &flags.namespace), ("annotations-prefix", &flags.annotations_prefix)];
    for (name, text) in texts {
        text.iter().for_each(|text| value(name, text.to_string()));
    }
    let objects = [
        ("configmap", &flags.config_map),
        ("default-backend-service", &flags.default_backend),
        ("default-ssl-certificate", &flags.default_certificate),
    ];
    for (name, object) in objects {
        object.iter().for_each(|object| value(name, key(object)));
    }
    let mut publishes = false;
    if flags.update_status != Some(false) {
        if let Some(service) = &flags.publish_service {
            value("publish-service", key(service));
        } else if let Some(addresses) = &flags.publish_address {
            value("publish-status-address", addresses.join(","));
        } else {
            publishes = true;
        }
    }
    let switches = [
        ("publish-node-addresses", publishes),
        ("ingress-class-by-name", flags.class_by_name == Some(true)),
        ("watch-ingress-without-class", flags.without_class == Some(true)),
        ("allow-external-name", flags.no_external_name != Some(true)),
        ("enable-ssl-passthrough", flags.ssl_passthrough == Some(true)),
        ("ingress-nginx-metrics", true),
    ];
    let on = switches.into_iter().filter(|(_, on)| *on);
    out.extend(on.map(|(name, _)| format!("--{name}")));
    out
}

/// What is read and has no equivalent.
fn unhonoured(flags: &Flags) -> Vec<Finding> {
    let switches = [
        (
            "disable-catch-all",
            flags.no_catch_all == Some(true),
            "Ingresses for all hosts are served",
        ),
        (
            "disable-leader-election",
            flags.no_election == Some(true),
            "replicas agree on who writes statuses",
        ),
        (
            "enable-topology-aware-routing",
            flags.topology_aware == Some(false),
            "the hints of EndpointSlices are always heeded",
        ),
        (
            "report-node-internal-ip-address",
            flags.node_internal_ip == Some(true),
            "nodes are published by their external addresses, and without any by internal ones",
        ),
        (
            "shutdown-grace-period",
            flags.shutdown_grace.is_some(),
            "it is `drain.grace` of a file that --config names",
        ),
        (
            "update-status-on-shutdown",
            flags.update_status_on_shutdown == Some(false),
            "the last replica takes the addresses back",
        ),
    ];
    let given = switches.into_iter().filter(|(_, given, _)| *given);
    given
        .map(|(name, _, why)| {
            Finding::new(
                format!("--{name}"),
                Class::NotHonoured,
                &format!("is not honoured: {why}"),
            )
        })
        .collect()
}

/// As `NAMESPACE/NAME`; an object without a namespace is in the pod's own.
fn key(object: &ObjectRef) -> String {
    let own = || std::env::var("POD_NAMESPACE").unwrap_or_else(|_| "default".to_owned());
    let namespace = object.namespace.as_deref().map_or_else(own, str::to_owned);
    format!("{namespace}/{}", object.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(flags: &[&str]) -> Vec<String> {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        translate(&parse_flags(&flags).flags)
    }

    #[test]
    fn without_flags_it_is_what_ingress_nginx_would_be() {
        let line = translated(&[]).join(" ");
        let expected = "run --kubernetes --admin=[::]:10254 --http=[::]:80 --https=[::]:443 \
                        --ingress-class=nginx --controller-class=k8s.io/ingress-nginx \
                        --election-id=ingress-nginx-leader --publish-node-addresses \
                        --allow-external-name --ingress-nginx-metrics";
        assert_eq!(line, expected);
    }

    #[test]
    fn tls_passes_through_where_it_did() {
        let on = |flag| translated(&[flag]).contains(&"--enable-ssl-passthrough".to_owned());
        assert!(on("--enable-ssl-passthrough") && on("--enable-ssl-passthrough=true"));
        assert!(!on("--enable-ssl-passthrough=false") && !on("--v=2"));
    }

    #[test]
    fn what_a_chart_gives_it_is_translated() {
        let line = translated(&[
            "/nginx-ingress-controller",
            "--publish-service=edge/ingress-nginx-controller",
            "--election-id=mine",
            "--controller-class=example.com/internal",
            "--ingress-class",
            "internal",
            "--configmap=edge/controller",
            "--watch-ingress-without-class=true",
            "--disable-svc-external-name",
            "--http-port=8080",
            "--v=3",
        ]);
        for expected in [
            "--publish-service=edge/ingress-nginx-controller",
            "--election-id=mine",
            "--controller-class=example.com/internal",
            "--ingress-class=internal",
            "--configmap=edge/controller",
            "--watch-ingress-without-class",
            "--http=[::]:8080",
            "--public-http-port=8080",
        ] {
            assert!(line.iter().any(|argument| argument == expected), "{expected} in {line:?}");
        }
        let absent = ["--allow-external-name", "--publish-node-addresses"];
        assert!(!line.iter().any(|argument| absent.contains(&argument.as_str())));
    }

    #[test]
    fn every_translation_is_a_command_line_of_run() {
        use clap::Parser;

        let line =
            translated(&["--publish-status-address=192.0.2.1,192.0.2.2", "--watch-namespace=a"]);
        let program = std::iter::once("portcullis".to_owned());
        crate::cli::Cli::try_parse_from(program.chain(line)).unwrap();
    }

    #[test]
    fn what_would_serve_more_than_was_asked_for_is_refused() {
        let args = IngressNginxArgs {
            dry_run: true,
            flags: vec!["--watch-namespace-selector=team=edge".to_owned()],
        };
        assert!(arguments(&args).is_err());
    }
}
