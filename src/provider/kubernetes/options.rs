//! What an operator says of the controller itself, beside the objects of the cluster.

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http::HeaderName;
use ir::{AccessLog, AccessLogFormat, AccessLogTarget, EncodedSlashes, Hsts};

use super::controller::Controller;
use super::{Key, References};
use crate::ir;

/// This controller's name in `IngressClass.spec.controller`.
pub const CONTROLLER: &str = "portcullis.dev/ingress-controller";

/// ingress-nginx's.
pub const NGINX_CONTROLLER: &str = "k8s.io/ingress-nginx";

/// How objects are chosen and what they are given where they say nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The controllers whose classes are served. Default [`CONTROLLER`].
    pub controllers: BTreeSet<Arc<str>>,
    /// The classes by which the old annotation `kubernetes.io/ingress.class` asks for this
    /// controller. Default `portcullis`.
    pub classes: BTreeSet<Arc<str>>,
    /// Whether one of `classes` counts where there is no such IngressClass.
    pub class_by_name: bool,
    /// Whether Ingresses without any class are served. (With a default IngressClass of these
    /// controllers they always are.)
    pub without_class: bool,
    /// What annotations begin with, without the slash. Default `nginx.ingress.kubernetes.io`.
    pub annotation_prefix: Arc<str>,
    /// The namespaces whose objects count; empty is all.
    pub namespaces: BTreeSet<Arc<str>>,
    /// The Service that gets what no rule matches, by its first port; `None` answers 404.
    pub default_backend: Option<Key>,
    /// The Secret with the certificate for names that no other is for; `None` is a self-signed one.
    pub default_certificate: Option<Key>,
    /// Whether Services of type ExternalName are forwarded to. Whoever may create a Service can
    /// then make the proxy connect wherever it can.
    pub external_names: bool,
    /// What browsers are told over https, on every answer of a route; `None` tells them nothing.
    /// Default a year, names below included.
    pub hsts: Option<Hsts>,
    /// The ConfigMap with what holds for all Ingresses; `None` has none.
    pub config_map: Option<Key>,
    /// What that says. Filled in by the translation.
    pub controller: Arc<Controller>,
    /// The headers that `custom-headers` may set; of others nothing of an Ingress is served.
    pub allowed_response_headers: Vec<HeaderName>,
    /// Whether TLS is left to back ends that `ssl-passthrough` asks it for.
    pub ssl_passthrough: bool,
    /// What becomes of `%2F` in paths.
    pub encoded_slashes: EncodedSlashes,
    /// The domain of the cluster's own names. Default `cluster.local`.
    pub cluster_domain: Arc<str>,
    /// Whether routes tell the rule that they were made from, for metrics under ingress-nginx's
    /// names.
    pub rules: bool,
    /// Whether the objects are a part of what there is, as with manifests: what is not among them
    /// may be elsewhere.
    pub partial: bool,
    /// Secrets and ConfigMaps of which nobody knows whether they are there, since they may not be
    /// read: what depends on one is not called wrong for that.
    pub unread: References,
    /// What is said of the access log; `None` leaves it to others.
    pub access_log: Option<LogOptions>,
    /// Where plain HTTP is listened for; `None` has no such listener. Default `[::]:80`.
    pub http: Option<SocketAddr>,
    /// The same for HTTPS. Default `[::]:443`.
    pub https: Option<SocketAddr>,
    /// The port that clients of plain HTTP connect to. Default 80.
    pub http_port: u16,
    /// The same for HTTPS. Default 443.
    pub https_port: u16,
}

/// What an operator says of the access log, over what the ConfigMap says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Whether there is none.
    pub off: bool,
    /// How a line looks; `None` is what the ConfigMap says, else the line of ingress-nginx.
    pub format: Option<AccessLogFormat>,
    /// Where lines go; `None` is what the ConfigMap says, else standard output.
    pub target: Option<AccessLogTarget>,
}

impl Default for Options {
    fn default() -> Self {
        let any = |port| Some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
        Self {
            controllers: [CONTROLLER.into()].into(),
            classes: ["portcullis".into()].into(),
            class_by_name: false,
            without_class: false,
            annotation_prefix: "nginx.ingress.kubernetes.io".into(),
            namespaces: BTreeSet::new(),
            default_backend: None,
            default_certificate: None,
            external_names: false,
            hsts: Some(Hsts { include_subdomains: true, ..Hsts::default() }),
            config_map: None,
            controller: Arc::default(),
            allowed_response_headers: Vec::new(),
            ssl_passthrough: false,
            encoded_slashes: EncodedSlashes::Refuse,
            cluster_domain: "cluster.local".into(),
            rules: false,
            partial: false,
            unread: References::default(),
            access_log: None,
            http: any(80),
            https: any(443),
            http_port: 80,
            https_port: 443,
        }
    }
}

impl Options {
    /// The same, serving what ingress-nginx would: its class and its controller, too.
    #[must_use]
    pub fn in_place_of_nginx(mut self) -> Self {
        self.controllers.insert(NGINX_CONTROLLER.into());
        self.classes.insert("nginx".into());
        self
    }

    /// For manifests without a cluster around them: classes count by their name, and an Ingress
    /// without one is taken to be meant.
    pub fn offline() -> Self {
        Self::default().in_place_of_nginx().for_manifests()
    }

    /// The same for manifests without a cluster around them.
    #[must_use]
    pub fn for_manifests(self) -> Self {
        Self { class_by_name: true, without_class: true, partial: true, ..self }
    }

    /// The access log, by the ConfigMap and what stands above it.
    pub(super) fn access_log(&self) -> Option<AccessLog> {
        let said = self.access_log.as_ref()?;
        let settings = &self.controller.settings;
        if said.off || settings.no_access_log == Some(true) {
            return None;
        }
        let of_config_map = || {
            let format = settings.log_format.clone()?;
            Some(AccessLogFormat::Nginx { format, json: settings.log_json == Some(true) })
        };
        let format = said.format.clone().or_else(of_config_map);
        let target = said.target.clone().or_else(|| settings.log_target.clone());
        Some(AccessLog {
            format: format.unwrap_or_else(AccessLogFormat::ingress_nginx),
            target: target.unwrap_or_default(),
        })
    }

    /// Whether a Secret that is not among the objects may be there all the same.
    pub(super) fn may_have_secret(&self, key: &Key) -> bool {
        self.partial || self.unread.secrets.contains(key)
    }

    /// The same for a ConfigMap.
    pub(super) fn may_have_config_map(&self, key: &Key) -> bool {
        self.partial || self.unread.config_maps.contains(key)
    }

    /// Whether objects of `namespace` count.
    pub fn watches(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.contains(namespace)
    }
}
