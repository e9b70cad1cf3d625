//! Certificates: which Secret serves which host.

use std::collections::BTreeSet;
use std::sync::Arc;

use ir::{Certificate, HostPattern, SecretBytes};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::IngressTLS;

use super::counted::Counted;
use super::name::other_name;
use super::policy::Policy;
use super::{Object, References, pattern};
use crate::ir;
use crate::provider::kubernetes::report::{Finding, origin};
use crate::provider::kubernetes::{Ingress, Inputs, Key, Options};

/// Wildcards that Ingresses have TLS for.
pub(super) type Wildcards = Counted<HostPattern>;

/// Which Secrets serve which hosts of `objects`, the oldest first. A host gets its certificate from
/// the oldest Ingress that has TLS for it; without a usable one it is served by the default
/// certificate.
pub(super) fn choices(
    objects: &mut [Object<'_>],
    inputs: &Inputs,
    options: &Options,
    references: &mut References,
) -> Vec<(Key, HostPattern)> {
    let mut choices = Vec::new();
    let mut taken = BTreeSet::new();
    for object in objects.iter_mut().filter(|object| object.policy.canary.is_none()) {
        let ingress = object.ingress;
        let spec = ingress.spec.as_ref();
        let entries = spec.and_then(|spec| spec.tls.as_deref()).unwrap_or_default();
        if entries.is_empty() {
            continue;
        }
        let usable: Vec<(&IngressTLS, Option<Key>)> = entries
            .iter()
            .enumerate()
            .map(|(number, entry)| {
                (entry, secret(number, entry, object, inputs, options, references))
            })
            .collect();
        let rules = spec.and_then(|spec| spec.rules.as_deref()).unwrap_or_default();
        let hosts = rules.iter().filter_map(|rule| pattern(rule.host.as_deref()).ok());
        let aliases = object.policy.aliases.iter().cloned();
        let www = object.policy.www;
        let hosts = hosts.flat_map(|host| {
            let other = if www { other_name(&host) } else { None };
            [Some(host), other].into_iter().flatten()
        });
        for host in hosts.chain(aliases).filter(|host| *host != HostPattern::Any) {
            let chosen = choose(&host, &usable);
            // One without a usable Secret leaves the host to the next Ingress that has.
            if !chosen.is_empty() && taken.insert(host.clone()) {
                choices.extend(chosen.into_iter().map(|key| (key.clone(), host.clone())));
            }
        }
    }
    choices
}

/// The wildcards among the hosts that an Ingress has TLS for.
pub(super) fn wildcards(ingress: &Ingress, policy: &Policy) -> Box<[HostPattern]> {
    let Some(spec) = ingress.spec.as_ref().filter(|_| policy.canary.is_none()) else {
        return Box::default();
    };
    if spec.tls.as_ref().is_none_or(Vec::is_empty) {
        return Box::default();
    }
    let hosts = spec.rules.iter().flatten();
    let hosts = hosts.filter_map(|rule| pattern(rule.host.as_deref()).ok());
    hosts.filter(|host| matches!(host, HostPattern::OneLabel(_))).collect()
}

/// The wildcard whose certificate is for this very host, too.
pub(super) fn covering(host: &HostPattern) -> Option<HostPattern> {
    let HostPattern::Exact(name) = host else { return None };
    name.split_once('.').map(|(_, suffix)| HostPattern::OneLabel(suffix.into()))
}

/// The Secrets for a host: that of the entry which names it, else all that may turn out to be valid
/// for it.
fn choose<'e>(host: &HostPattern, entries: &'e [(&IngressTLS, Option<Key>)]) -> Vec<&'e Key> {
    let names = |entry: &IngressTLS| {
        entry.hosts.iter().flatten().any(|name| pattern(Some(name)).as_ref() == Ok(host))
    };
    match entries.iter().find(|(entry, _)| names(entry)) {
        Some((_, secret)) => secret.iter().collect(),
        None => entries.iter().filter_map(|(_, secret)| secret.as_ref()).collect(),
    }
}

/// The Secret of a TLS entry where it can be used.
fn secret(
    number: usize,
    entry: &IngressTLS,
    object: &mut Object<'_>,
    inputs: &Inputs,
    options: &Options,
    references: &mut References,
) -> Option<Key> {
    const HINT: &str = "the default certificate is used until it is mended";
    // Without a name the default certificate is meant.
    let name = entry.secret_name.as_deref().filter(|name| !name.is_empty())?;
    let key = Key::new(object.key.namespace.clone(), name);
    references.secrets.insert(key.clone());
    let problem = match inputs.secrets.get(&key) {
        // Certificates are mostly made in the cluster.
        None if options.may_have_secret(&key) => return None,
        None => format!("there is no Secret {key}, or it may not be read"),
        Some(secret) => match (field(secret, "tls.crt"), field(secret, "tls.key")) {
            (Some(_), Some(_)) => return Some(key),
            (None, _) => format!("the Secret {key} has no `tls.crt`"),
            (_, None) => format!("the Secret {key} has no `tls.key`"),
        },
    };
    let subject = format!("spec.tls[{number}].secretName");
    object.report.add(Finding::refused(subject, problem).hint(HINT));
    None
}

/// The certificate in a Secret. One that is missing leaves its last good version in use.
pub(super) fn certificate(
    key: &Key,
    secret: Option<&Secret>,
    only_for: Option<BTreeSet<HostPattern>>,
) -> Certificate {
    let of = |name| secret.and_then(|secret| field(secret, name));
    Certificate {
        origin: origin("Secret", key),
        chain: of("tls.crt").map(|bytes| Arc::from(String::from_utf8_lossy(bytes))),
        key: of("tls.key").map(SecretBytes::new),
        only_for,
    }
}

/// A value of a Secret; none where it is empty.
pub(super) fn field<'s>(secret: &'s Secret, name: &str) -> Option<&'s [u8]> {
    let value = secret.data.as_ref()?.get(name)?;
    Some(value.0.as_slice()).filter(|value| !value.is_empty())
}
