//! Hosts whose TLS is their back end's to terminate: it gets what its rule for `/` would.

use std::collections::{BTreeMap, BTreeSet};

use ir::{Guard, HostPattern, Timeouts, TlsPassthrough};

use super::Object;
use super::draft::{Host, Hosts, Placed};
use crate::ir;
use crate::provider::kubernetes::Options;
use crate::provider::kubernetes::report::Finding;

/// Where TLS connections for each of `hosts` go that are not terminated here. Says what of their
/// Ingresses does not hold for these connections.
pub(super) fn passages(
    hosts: &Hosts,
    objects: &mut [Object<'_>],
    options: &Options,
) -> BTreeMap<HostPattern, TlsPassthrough> {
    let mut found = BTreeMap::new();
    if !objects.iter().any(|object| object.policy.passthrough) {
        return found;
    }
    let subject = format!("{}/ssl-passthrough", options.annotation_prefix);
    for (pattern, host) in hosts {
        let owners = host.routes.iter().map(|placed| placed.owner).chain([host.owner]);
        let owners: BTreeSet<usize> = owners.collect();
        // One of the Ingresses of a host says it for all of it; the oldest that does, its deadline.
        let asks = |index: &&usize| objects.get(**index).is_some_and(|o| o.policy.passthrough);
        let Some(asking) = owners.iter().find(asks) else { continue };
        let Some(object) = objects.get_mut(*asking) else { continue };
        match root(pattern, host) {
            Ok(upstream) => {
                let connect = object.policy.timeouts.connect;
                let passthrough = TlsPassthrough::new(upstream, &Timeouts::default());
                found.insert(pattern.clone(), TlsPassthrough { connect, ..passthrough });
                for index in owners {
                    if let Some(object) = objects.get_mut(index) {
                        outsiders(pattern, host, index, object, &subject);
                    }
                }
            }
            Err(why) => {
                let text = format!("is not honoured for the host `{pattern}`: {why}");
                let hint = "its TLS is terminated here";
                object.report.add(Finding::omitted(subject.clone(), text).hint(hint));
            }
        }
    }
    found
}

/// The upstream of a host's rule for `/`.
fn root(pattern: &HostPattern, host: &Host) -> Result<ir::Name, &'static str> {
    if *pattern == HostPattern::Any {
        return Err("a rule without a host names none that a client could ask for");
    }
    let roots = || host.routes.iter().filter(|placed| &*placed.path.text == "/");
    let ours = |placed: &&Placed| placed.owner != usize::MAX;
    let all = roots().find(|placed| placed.path.is_root());
    let root = all.or_else(|| roots().find(|placed| placed.main.is_some())).filter(ours);
    let root = root.ok_or("it has no rule for `/`, which says where to")?;
    root.main.clone().ok_or("requests for `/` are not forwarded")
}

/// Says what of `object`, the Ingress of that number, does not hold for TLS connections to a host.
fn outsiders(
    pattern: &HostPattern,
    host: &Host,
    index: usize,
    object: &mut Object<'_>,
    subject: &str,
) {
    let subject = if object.policy.passthrough { subject } else { "spec.rules" };
    let others = host.routes.iter().filter(|placed| placed.owner == index);
    let others: Vec<&str> =
        others.map(|placed| &*placed.path.text).filter(|text| *text != "/").collect();
    if !others.is_empty() {
        let paths = others.join("`, `");
        let text = format!(
            "TLS for `{pattern}` goes to the Service of `/` whatever the path is, as in \
             ingress-nginx: `{paths}` is for plain http"
        );
        object.report.add(Finding::differs(subject, text));
    }
    let policy = &object.policy;
    if policy.guard != Guard::default() || policy.auth.is_some() || policy.client_auth.is_some() {
        let text = format!(
            "TLS for `{pattern}` passes through, so access lists, limits and authentication of this \
             Ingress hold for plain http alone, as in ingress-nginx"
        );
        let hint = "have the Service ask for them";
        object.report.add(Finding::differs(subject, text).hint(hint));
    }
}
