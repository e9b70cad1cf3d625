//! The configuration that leads to the shop: what a file would say, as a fragment.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::ir::{
    AccessLog, AccessLogFormat, AccessLogTarget, Action, Admin, BackendRef, Certificate,
    EndpointAddress, EndpointSpec, Filter, Fragment, HeaderEdit, HeaderText, HostPattern,
    Http2Options, Listener, ListenerProtocols, ListenerSelector, ListenerTls, Name, Origin,
    PathMatch, PathRewrite, PoolOptions, Redirect, Respond, Route, RouteMatch, SecretBytes,
    Settings, TlsVersion, Upstream, UpstreamProtocol, VirtualHost, shared,
};

use super::shop::{Service, Shop};

/// The access log of the demo: a line a request, narrow enough to watch.
pub const ACCESS_LOG_TEMPLATE: &str =
    "{status} {method} {path} -> {upstream} {endpoint} {duration_ms} ms {reason}";

/// Where the demo's proxy listens, and with which certificate.
#[derive(Clone, Debug)]
pub struct DemoListeners {
    /// The address of both listeners. Default 127.0.0.1.
    pub address: IpAddr,
    /// The port of `web`. Default 8080.
    pub http: u16,
    /// The port of `websecure`. Default 8443.
    pub https: u16,
    /// The admin listener. Default 127.0.0.1:9900.
    pub admin: Option<SocketAddr>,
    /// The certificate chain as PEM.
    pub chain: Arc<str>,
    /// Its key as PEM.
    pub key: SecretBytes,
}

impl DemoListeners {
    /// The default ports on 127.0.0.1 with this certificate.
    pub fn new(chain: impl Into<Arc<str>>, key: SecretBytes) -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST.into(),
            http: 8080,
            https: 8443,
            admin: Admin::default().bind,
            chain: chain.into(),
            key,
        }
    }
}

/// The whole configuration of the demo: listeners `web` and `websecure`, and on any host the
/// shop's routes, a one-in-ten split between the storefronts, a rewrite, two redirects and a
/// fixed response. Its access log goes to standard output in the form of
/// [`ACCESS_LOG_TEMPLATE`].
pub fn fragment(shop: &Shop, listeners: &DemoListeners) -> Fragment {
    let host = VirtualHost {
        pattern: HostPattern::Any,
        listeners: ListenerSelector::All,
        client_auth: None,
        tls_passthrough: None,
        rules: Vec::new(),
        routes: routes(listeners),
        origin: origin("host", "*"),
    };
    let upstreams = shop.services().iter().map(|s| (Name::from(s.name), upstream(s)));
    let settings = Settings {
        admin: Admin { bind: listeners.admin },
        access_log: Some(AccessLog {
            target: AccessLogTarget::Stdout,
            format: AccessLogFormat::Template(ACCESS_LOG_TEMPLATE.to_owned()),
        }),
        ..Settings::default()
    };
    Fragment {
        access_log: None,
        provider: PROVIDER.into(),
        listeners: shared(
            [
                ("web".into(), listener("web", listeners, None)),
                ("websecure".into(), listener("websecure", listeners, Some(tls(listeners)))),
            ]
            .into(),
        ),
        hosts: vec![Arc::new(host)],
        upstreams: Arc::new(shared(upstreams.collect())),
        settings: Some(settings),
    }
}

fn listener(name: &str, listeners: &DemoListeners, tls: Option<ListenerTls>) -> Listener {
    let port = if tls.is_some() { listeners.https } else { listeners.http };
    Listener {
        origin: origin("listener", name),
        bind: SocketAddr::new(listeners.address, port),
        public_port: None,
        tls,
        proxy_protocol: Vec::new(),
        trusted_proxies: Vec::new(),
        encoded_slashes: Default::default(),
        forwarding: Default::default(),
        protocols: ListenerProtocols::default(),
        http2: Http2Options::default(),
    }
}

fn tls(listeners: &DemoListeners) -> ListenerTls {
    ListenerTls {
        certificates: vec![Arc::new(Certificate {
            origin: origin("certificate", "demo"),
            chain: Some(Arc::clone(&listeners.chain)),
            key: Some(listeners.key.clone()),
            only_for: None,
        })],
        min_version: TlsVersion::default(),
        client_auth: None,
    }
}

fn upstream(service: &Service) -> Upstream {
    let endpoints = service.endpoints.iter().map(|endpoint| EndpointSpec {
        address: EndpointAddress::Socket(endpoint.address),
        weight: endpoint.weight,
        priority: 0,
        zone: None,
        draining: false,
    });
    Upstream {
        origin: origin("upstream", service.name),
        endpoints: endpoints.collect(),
        discovered: false,
        balance: Default::default(),
        health: None,
        outlier: Some(Default::default()),
        limits: Default::default(),
        protocol: UpstreamProtocol::default(),
        tls: None,
        pool: PoolOptions::default(),
    }
}

fn routes(listeners: &DemoListeners) -> Vec<Route> {
    let departments = [
        ("products", "/products", "catalog"),
        ("cart", "/cart", "cart"),
        ("orders", "/orders", "orders"),
        ("reviews", "/reviews", "reviews"),
        ("support", "/support", "support"),
    ];
    let split = [("storefront", 9), ("storefront-next", 1)];
    let mut routes = vec![route("storefront", PathMatch::Prefix("/".into()), forward(&split))];
    for (name, path, upstream) in departments {
        routes.push(route(name, PathMatch::Prefix(path.into()), forward(&[(upstream, 1)])));
    }
    routes.push(api());
    routes.push(route(
        "secure",
        PathMatch::Exact("/secure".into()),
        redirect(Some(("https", listeners.https)), StatusCode::PERMANENT_REDIRECT),
    ));
    routes.push(route("shop", PathMatch::Exact("/shop".into()), redirect(None, StatusCode::FOUND)));
    routes.push(route("robots", PathMatch::Exact("/robots.txt".into()), robots()));
    routes
}

/// The catalog under another path, with a response header of its own.
fn api() -> Route {
    let marked = HeaderEdit {
        set: vec![header(HeaderName::from_static("x-api"), "v1")],
        ..HeaderEdit::default()
    };
    Route {
        filters: vec![
            Filter::RewritePath(PathRewrite::Prefix("/products".into())),
            Filter::ResponseHeaders(marked.into()),
        ],
        ..route("api", PathMatch::Prefix("/api/products".into()), forward(&[("catalog", 1)]))
    }
}

fn forward(backends: &[(&str, u32)]) -> Action {
    let backend =
        |&(upstream, weight): &(&str, u32)| BackendRef { upstream: upstream.into(), weight };
    Action::Forward(backends.iter().map(backend).collect())
}

/// To the storefront, perhaps by another scheme and port.
fn redirect(to: Option<(&str, u16)>, status: StatusCode) -> Action {
    Action::Redirect(Redirect {
        scheme: to.map(|(scheme, _)| scheme.into()),
        host: None,
        port: to.map(|(_, port)| port),
        path: Some(PathRewrite::Full("/".into())),
        status,
    })
}

fn robots() -> Action {
    Action::Respond(Respond {
        status: StatusCode::OK,
        headers: vec![
            header(CONTENT_TYPE, "text/plain"),
            header(CACHE_CONTROL, "public, max-age=3600"),
        ],
        body: "User-agent: *\nDisallow: /cart\n".into(),
    })
}

fn route(name: &str, path: PathMatch, action: Action) -> Route {
    Route {
        name: name.into(),
        origin: origin("route", name).into(),
        guard: Default::default(),
        cors: None,
        matches: RouteMatch::of(path).into(),
        auth: None,
        error_pages: None,
        rules: Vec::new(),
        filters: Vec::new(),
        action,
        timeouts: Default::default(),
        retry: Default::default(),
        hedge: None,
        https_redirect: None,
        hsts: None,
        body_limit: Some(BODY_LIMIT),
        bodies: Default::default(),
        sticky: false,
        access_log: true,
        rule: None,
    }
}

fn header(name: HeaderName, value: &'static str) -> HeaderText {
    HeaderText { name, value: HeaderValue::from_static(value) }
}

fn origin(kind: &str, name: &str) -> Origin {
    Origin { provider: PROVIDER.into(), kind: kind.into(), name: name.into(), ..Origin::default() }
}

const PROVIDER: &str = "demo";
/// What the shop's endpoints take; the proxy refuses more before it reaches them.
const BODY_LIMIT: u64 = 64 * 1024;
