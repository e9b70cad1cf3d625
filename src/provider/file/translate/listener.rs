//! Listeners.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use ir::{
    Certificate, ClientAuth, ClientAuthMode, EncodedSlashes, Http2Options, Listener,
    ListenerForwarding, ListenerProtocols, ListenerTls, Name, Settings, TlsVersion,
};

use super::context::Context;
use super::or;
use crate::ir;
use crate::provider::file::field::{At, Field, List, OneOf, Text};
use crate::provider::file::node::Place;
use crate::provider::file::raw;
use crate::provider::file::scalar::{Network, Size};

type Entry<'d> = (&'d At<String>, Option<&'d raw::Listener>);

pub(super) fn listeners(
    context: &mut Context<'_>,
    entries: &[Entry<'_>],
    settings: &Settings,
) -> BTreeMap<Name, Listener> {
    let mut listeners = BTreeMap::new();
    let mut bound: HashMap<SocketAddr, String> = HashMap::new();
    if let Some(admin) = settings.admin.bind {
        bound.insert(admin, "the admin listener".to_owned());
    }
    for (name, raw) in entries {
        let Some(raw) = raw else { continue };
        let Some(bind) = raw.bind.given() else {
            if raw.bind.is_absent() {
                let message = format!("the listener `{}` has no `bind`", name.value);
                context.error(name.place, message, Some("for example `bind: 0.0.0.0:8080`"));
            }
            continue;
        };
        let address = bind.value.0.0;
        if address.port() != 0
            && let Some(other) = bound.insert(address, format!("the listener `{}`", name.value))
        {
            let message = format!("{address} is the address of {other} already");
            context.error(bind.place, message, Some("every listener needs its own port"));
        }
        listeners.insert(Name::from(&*name.value), listener(context, name, raw, address));
    }
    listeners
}

fn listener(
    context: &mut Context<'_>,
    name: &At<String>,
    raw: &raw::Listener,
    bind: SocketAddr,
) -> Listener {
    let (http2, options) = http2(context, &raw.http2);
    Listener {
        origin: context.origin("listener", &name.value, name.place),
        bind,
        public_port: public_port(context, &raw.public_port),
        tls: raw.tls.given().map(|tls| listener_tls(context, name, tls)),
        proxy_protocol: raw
            .proxy_protocol
            .given()
            .map(|raw| proxy_protocol(context, raw))
            .unwrap_or_default(),
        trusted_proxies: networks(&raw.trusted_proxies),
        encoded_slashes: match or(&raw.encoded_slashes, raw::EncodedSlashes::Refuse) {
            raw::EncodedSlashes::Refuse => EncodedSlashes::Refuse,
            raw::EncodedSlashes::Keep => EncodedSlashes::Keep,
        },
        forwarding: raw.forwarding.get().map(forwarding).unwrap_or_default(),
        protocols: ListenerProtocols { http2 },
        http2: options,
    }
}

fn forwarding(raw: &raw::ListenerForwarding) -> ListenerForwarding {
    ListenerForwarding {
        scheme: or(&raw.scheme, false),
        original: or(&raw.original, false),
        keep_request_id: or(&raw.keep_request_id, false),
    }
}

fn public_port(context: &mut Context<'_>, field: &Field<u16>) -> Option<u16> {
    let port = field.given()?;
    if port.value == 0 {
        context.error(port.place, "`public_port` must lie between 1 and 65535", None);
        return None;
    }
    Some(port.value)
}

/// The networks of a list; none where there is no list.
pub(super) fn networks(field: &Field<List<Text<Network>>>) -> Vec<IpNet> {
    field.get().map(|list| list.0.iter().map(|at| at.value.0.0).collect()).unwrap_or_default()
}

fn proxy_protocol(context: &mut Context<'_>, raw: &At<raw::ProxyProtocol>) -> Vec<IpNet> {
    let trusted = networks(&raw.value.trusted);
    let left_out = raw.value.trusted.get().is_some_and(|list| list.1);
    if trusted.is_empty() && !left_out && !matches!(raw.value.trusted, Field::Bad) {
        let hint = "for example `trusted: [10.0.0.0/8]`; without `proxy_protocol` it is off";
        context.error(raw.place, "`proxy_protocol` trusts nobody", Some(hint));
    }
    trusted
}

fn http2(
    context: &mut Context<'_>,
    field: &Field<OneOf<bool, raw::Http2>>,
) -> (bool, Http2Options) {
    let mut options = Http2Options::default();
    let raw = match field.get() {
        None => return (true, options),
        Some(OneOf::Scalar(on)) => return (*on, options),
        Some(OneOf::Map(raw)) => raw,
    };
    if let Some(streams) = raw.max_streams.given() {
        if streams.value == 0 {
            let hint = "write `http2: false` to turn HTTP/2 off";
            context.error(streams.place, "`max_streams` must not be 0", Some(hint));
        }
        options.max_streams = streams.value;
    }
    window(context, "stream_window", &raw.stream_window, &mut options.stream_window);
    window(context, "connection_window", &raw.connection_window, &mut options.connection_window);
    (true, options)
}

/// Windows lie between the protocol's initial size and its largest (RFC 9113 §6.9).
fn window(context: &mut Context<'_>, key: &str, field: &Field<Text<Size>>, target: &mut u32) {
    let Some(at) = field.given() else { return };
    match u32::try_from(at.value.0.0) {
        Ok(size @ 65_535..=0x7fff_ffff) => *target = size,
        _ => {
            let message = format!("`{key}` must lie between 65535 and 2147483647 bytes");
            context.error(at.place, message, None);
        }
    }
}

fn listener_tls(
    context: &mut Context<'_>,
    name: &At<String>,
    raw: &At<raw::ListenerTls>,
) -> ListenerTls {
    let pairs = raw.value.certificates.get().map(|list| list.0.as_slice()).unwrap_or_default();
    if pairs.is_empty() && !matches!(raw.value.certificates, Field::Bad) {
        let message = format!("the listener `{}` has no certificate", name.value);
        let hint = "clients get a self-signed one; add `certificates: [{ cert: …, key: … }]`";
        context.warning(raw.place, message, Some(hint));
    }
    let certificates = pairs.iter().filter_map(|pair| certificate(context, name, pair));
    let certificates = certificates.map(Arc::new).collect();
    let min_version = match raw.value.min_version.get() {
        None | Some(raw::TlsVersion::V1_2) => TlsVersion::V1_2,
        Some(raw::TlsVersion::V1_3) => TlsVersion::V1_3,
    };
    let client_auth = raw.value.client_auth.given().and_then(|raw| client_auth(context, raw));
    ListenerTls { certificates, min_version, client_auth }
}

fn certificate(
    context: &mut Context<'_>,
    listener: &At<String>,
    pair: &At<raw::KeyPair>,
) -> Option<Certificate> {
    let (cert, key) = key_pair(context, pair)?;
    let origin = context.origin("certificate", &cert.value, pair.place);
    let (chain, chain_is_fresh) = context.pem("certificate", cert);
    let (bytes, error) = context.read(key.place, Path::new(&key.value));
    if let Some(error) = error {
        let what = format!("key of listener `{}`", listener.value);
        context.unreadable(&what, key, error);
    }
    Some(Certificate {
        origin,
        chain: chain.filter(|_| chain_is_fresh),
        key: bytes.filter(|_| error.is_none()).cloned(),
        only_for: None,
    })
}

/// Both paths of a certificate; reports what is missing.
pub(super) fn key_pair<'d>(
    context: &mut Context<'_>,
    pair: &'d At<raw::KeyPair>,
) -> Option<(&'d At<String>, &'d At<String>)> {
    let mut need = |place: Place, what: &str, field: &Field<String>| {
        if field.is_absent() {
            let hint = "a certificate is `{ cert: chain.pem, key: key.pem }`";
            context.error(place, format!("the certificate has no `{what}`"), Some(hint));
        }
    };
    need(pair.place, "cert", &pair.value.cert);
    need(pair.place, "key", &pair.value.key);
    Some((pair.value.cert.given()?, pair.value.key.given()?))
}

fn client_auth(context: &mut Context<'_>, raw: &At<raw::ClientAuth>) -> Option<ClientAuth> {
    let Some(path) = raw.value.ca.given() else {
        if raw.value.ca.is_absent() {
            let hint = "name the PEM file of the CAs that sign your clients' certificates";
            context.error(raw.place, "`client_auth` has no `ca`", Some(hint));
        }
        return None;
    };
    let mode = match raw.value.mode.get() {
        None | Some(raw::ClientAuthMode::Required) => ClientAuthMode::Required,
        Some(raw::ClientAuthMode::Optional) => ClientAuthMode::Optional,
    };
    let (ca, _) = context.pem("client CA", path);
    Some(ClientAuth { mode, ca, forward: or(&raw.value.forward, false) })
}
