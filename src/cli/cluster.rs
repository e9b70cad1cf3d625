//! The options that say which cluster is meant and what its objects mean: the same for `run` and
//! `check`, and for `routes` and `explain` of manifests.

use std::path::PathBuf;
use std::sync::Arc;

use http::HeaderName;

use crate::ir::EncodedSlashes;
use crate::provider::kubernetes::{Access, CONTROLLER, Key, Options};

/// Where plain HTTP is listened for unless `run --http` says otherwise: a port that needs no rights.
pub const HTTP: &str = "[::]:8080";
/// The same for HTTPS.
pub const HTTPS: &str = "[::]:8443";

/// Which cluster, and what its objects mean.
#[derive(Debug, clap::Args)]
pub struct ClusterArgs {
    /// Kubeconfig file; without it the service account of the pod, else what kubectl would take
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; without it the current one
    #[arg(long, value_name = "NAME", env = "PORTCULLIS_CONTEXT")]
    context: Option<String>,
    /// What its objects mean.
    #[command(flatten)]
    pub meaning: MeaningArgs,
}

impl ClusterArgs {
    /// Which API server, and who asks it.
    pub fn access(&self) -> Access {
        Access { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() }
    }
}

/// What the objects of a cluster, or manifests, mean.
#[derive(Debug, clap::Args)]
pub struct MeaningArgs {
    /// The class by which the old annotation kubernetes.io/ingress.class asks for this controller
    #[arg(
        long,
        value_name = "NAME",
        env = "PORTCULLIS_INGRESS_CLASS",
        default_value = "portcullis"
    )]
    ingress_class: String,
    /// The controller whose IngressClasses are served
    #[arg(long, value_name = "NAME", env = "PORTCULLIS_CONTROLLER_CLASS", default_value = CONTROLLER)]
    controller_class: String,
    /// Count --ingress-class where there is no IngressClass of that name, too
    #[arg(long, env = "PORTCULLIS_INGRESS_CLASS_BY_NAME", value_parser = clap::builder::FalseyValueParser::new())]
    ingress_class_by_name: bool,
    /// Serve Ingresses without any class, too
    #[arg(long, env = "PORTCULLIS_WATCH_INGRESS_WITHOUT_CLASS", value_parser = clap::builder::FalseyValueParser::new())]
    watch_ingress_without_class: bool,
    /// Serve class nginx and controller k8s.io/ingress-nginx, too: in place of ingress-nginx
    #[arg(long, env = "PORTCULLIS_SERVE_NGINX_CLASS", value_parser = clap::builder::FalseyValueParser::new())]
    serve_nginx_class: bool,
    /// A namespace to serve, may be given several times; without it all of them
    #[arg(long, value_name = "NAME", env = "PORTCULLIS_WATCH_NAMESPACE", value_delimiter = ',')]
    watch_namespace: Vec<String>,
    /// What annotations begin with
    #[arg(
        long,
        value_name = "PREFIX",
        env = "PORTCULLIS_ANNOTATIONS_PREFIX",
        default_value = "nginx.ingress.kubernetes.io"
    )]
    annotations_prefix: String,
    /// The Service that gets what no rule matches
    #[arg(long, value_name = "NAMESPACE/NAME", env = "PORTCULLIS_DEFAULT_BACKEND_SERVICE", value_parser = key)]
    default_backend_service: Option<Key>,
    /// The Secret with the certificate for names that no other is for
    #[arg(long, value_name = "NAMESPACE/NAME", env = "PORTCULLIS_DEFAULT_SSL_CERTIFICATE", value_parser = key)]
    default_ssl_certificate: Option<Key>,
    /// The ConfigMap with what holds for all Ingresses that do not say otherwise, in the keys of
    /// ingress-nginx
    #[arg(long, value_name = "NAMESPACE/NAME", env = "PORTCULLIS_CONFIGMAP", value_parser = key)]
    configmap: Option<Key>,
    /// Forward to Services of type ExternalName, too: whoever may create one can then make the
    /// proxy connect wherever it can
    #[arg(long, env = "PORTCULLIS_ALLOW_EXTERNAL_NAME", value_parser = clap::builder::FalseyValueParser::new())]
    allow_external_name: bool,
    /// Headers that `custom-headers` may set, each a name; Ingresses that set others are answered 503
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        env = "PORTCULLIS_ALLOW_RESPONSE_HEADER"
    )]
    allow_response_header: Vec<HeaderName>,
    /// Leave Strict-Transport-Security to the Services: by default every answer over TLS tells
    /// browsers to keep to https for a year, names below included, as ingress-nginx does
    #[arg(long, env = "PORTCULLIS_NO_HSTS", value_parser = clap::builder::FalseyValueParser::new())]
    no_hsts: bool,
    /// Leave TLS to the Services that `ssl-passthrough` asks it for; without this the annotation does
    /// nothing, as in ingress-nginx
    #[arg(long, env = "PORTCULLIS_ENABLE_SSL_PASSTHROUGH", value_parser = clap::builder::FalseyValueParser::new())]
    enable_ssl_passthrough: bool,
    /// Keep `%2F` in paths as it is, which back ends like RabbitMQ, GitLab and npm registries need,
    /// rather than answer 400. It is part of its segment: rules see `/a%2Fb`, not `/a/b`
    #[arg(long, env = "PORTCULLIS_KEEP_ENCODED_SLASHES", value_parser = clap::builder::FalseyValueParser::new())]
    keep_encoded_slashes: bool,
    /// The domain of the cluster's own names
    #[arg(
        long,
        value_name = "DOMAIN",
        env = "PORTCULLIS_CLUSTER_DOMAIN",
        default_value = "cluster.local"
    )]
    cluster_domain: String,
}

impl MeaningArgs {
    /// The same in words of the provider.
    pub fn options(&self) -> Options {
        let namespaces = self.watch_namespace.iter().filter(|name| !name.is_empty());
        let defaults = Options::default();
        let meaning = Options {
            controllers: [self.controller_class.as_str().into()].into(),
            classes: [self.ingress_class.as_str().into()].into(),
            class_by_name: self.ingress_class_by_name,
            without_class: self.watch_ingress_without_class,
            annotation_prefix: self.annotations_prefix.as_str().into(),
            namespaces: namespaces.map(|name| Arc::from(name.as_str())).collect(),
            default_backend: self.default_backend_service.clone(),
            default_certificate: self.default_ssl_certificate.clone(),
            external_names: self.allow_external_name,
            config_map: self.configmap.clone(),
            allowed_response_headers: self.allow_response_header.clone(),
            hsts: defaults.hsts.filter(|_| !self.no_hsts),
            ssl_passthrough: self.enable_ssl_passthrough,
            encoded_slashes: match self.keep_encoded_slashes {
                true => EncodedSlashes::Keep,
                false => EncodedSlashes::Refuse,
            },
            cluster_domain: self.cluster_domain.as_str().into(),
            http: HTTP.parse().ok(),
            https: HTTPS.parse().ok(),
            ..defaults
        };
        if self.serve_nginx_class { meaning.in_place_of_nginx() } else { meaning }
    }

    /// The same for whoever plans to take ingress-nginx's place: its class counts, too, unless
    /// another is named.
    pub fn in_a_move(&self) -> Options {
        let (meaning, defaults) = (self.options(), Options::default());
        let is_default = |(controllers, classes)| {
            controllers == &defaults.controllers && classes == &defaults.classes
        };
        match is_default((&meaning.controllers, &meaning.classes)) {
            true => meaning.in_place_of_nginx(),
            false => meaning,
        }
    }
}

/// An object's namespace and name, as flags have them.
pub fn key(text: &str) -> Result<Key, String> {
    match text.split_once('/') {
        Some((namespace, name))
            if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
        {
            Ok(Key::new(namespace, name))
        }
        _ => Err("write it as NAMESPACE/NAME".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        meaning: MeaningArgs,
    }

    #[test]
    fn a_move_counts_ingress_nginx_unless_another_class_is_named() {
        let classes = |args: &[&str]| {
            let line = Line::try_parse_from([&["x"], args].concat()).expect("it parses");
            let meaning = line.meaning.in_a_move();
            meaning.classes.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(classes(&[]), ["nginx", "portcullis"]);
        assert_eq!(classes(&["--ingress-class=internal"]), ["internal"]);
        let both = classes(&["--ingress-class=internal", "--serve-nginx-class"]);
        assert_eq!(both, ["internal", "nginx"]);
    }
}
