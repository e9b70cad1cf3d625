//! Process-wide settings.

use std::sync::Arc;
use std::time::Duration;

use ir::{
    AccessLog, AccessLogFormat, AccessLogTarget, AddressFamily, Admin, Drain, ErrorFormat,
    Forwarding, Limits, ResolverOptions, Settings,
};

use super::context::{Context, shown};
use super::or;
use crate::ir;
use crate::provider::file::decode::closest;
use crate::provider::file::field::{At, Field, OneOf, Text};
use crate::provider::file::raw::{self, Document};
use crate::provider::file::scalar::{Period, Size};
use crate::telemetry::Template;

/// More threads than any machine has cores is a slip.
const MOST_WORKERS: u32 = 1024;

pub(super) fn settings(context: &mut Context<'_>, documents: &[Document]) -> Settings {
    let workers = context.once("workers", documents.iter().map(|d| &d.workers));
    let admin = context.once("admin", documents.iter().map(|d| &d.admin));
    let trusted = context.once("trusted_proxies", documents.iter().map(|d| &d.trusted_proxies));
    let forwarding = context.once("forwarding", documents.iter().map(|d| &d.forwarding));
    let log = context.once("access_log", documents.iter().map(|d| &d.access_log));
    let limits = context.once("limits", documents.iter().map(|d| &d.limits));
    let drain = context.once("drain", documents.iter().map(|d| &d.drain));
    let errors = context.once("errors", documents.iter().map(|d| &d.errors));
    let resolver = context.once("resolver", documents.iter().map(|d| &d.resolver));
    let zone = context.once("zone", documents.iter().map(|d| &d.zone));
    Settings {
        zone: zone.and_then(|at| self::zone(context, at)),
        workers: workers.and_then(|at| workers_of(context, at)),
        admin: admin.map(|at| self::admin(&at.value)).unwrap_or_default(),
        trusted_proxies: trusted
            .map(|at| at.value.0.iter().map(|network| network.value.0.0).collect())
            .unwrap_or_default(),
        forwarding: forwarding
            .map(|at| Forwarding {
                forwarded: or(&at.value.forwarded, false),
                via: or(&at.value.via, false),
            })
            .unwrap_or_default(),
        no_access_log: matches!(log.map(|at| &at.value), Some(OneOf::Scalar(false))),
        access_log: log.and_then(|at| access_log(context, &at.value)),
        limits: limits.map(|at| self::limits(context, &at.value)).unwrap_or_default(),
        drain: drain.map(|at| self::drain(&at.value)).unwrap_or_default(),
        errors: match errors.map(|at| at.value) {
            None | Some(raw::ErrorFormat::Text) => ErrorFormat::Text,
            Some(raw::ErrorFormat::Json) => ErrorFormat::Json,
        },
        resolver: resolver.map(|at| self::resolver(context, &at.value)).unwrap_or_default(),
    }
}

fn workers_of(context: &mut Context<'_>, at: &At<u32>) -> Option<usize> {
    if at.value == 0 || at.value > MOST_WORKERS {
        let hint = "leave it out to take every CPU";
        let message = format!("`workers` must lie between 1 and {MOST_WORKERS}");
        context.error(at.place, message, Some(hint));
    }
    usize::try_from(at.value).ok()
}

/// The name of a zone.
pub(super) fn zone(context: &mut Context<'_>, at: &At<String>) -> Option<Arc<str>> {
    /// A longer one is a slip.
    const LONGEST: usize = 100;
    if at.value.is_empty() || at.value.len() > LONGEST {
        context.error(at.place, format!("`zone` must have 1 to {LONGEST} characters"), None);
        return None;
    }
    Some(Arc::from(&*at.value))
}

fn admin(raw: &OneOf<bool, raw::Admin>) -> Admin {
    match raw {
        OneOf::Scalar(false) => Admin { bind: None },
        OneOf::Scalar(true) => Admin::default(),
        OneOf::Map(raw) => match raw.bind.get() {
            Some(bind) => Admin { bind: Some(bind.0.0) },
            None => Admin::default(),
        },
    }
}

fn access_log(context: &mut Context<'_>, raw: &OneOf<bool, raw::AccessLog>) -> Option<AccessLog> {
    let raw = match raw {
        OneOf::Scalar(false) => return None,
        OneOf::Scalar(true) => &raw::AccessLog::default(),
        OneOf::Map(raw) => raw,
    };
    let format = match raw.format.given() {
        None => AccessLogFormat::default(),
        Some(at) => match at.value.as_str() {
            "json" => AccessLogFormat::Json,
            "combined" => AccessLogFormat::Combined,
            "ingress-nginx" => AccessLogFormat::ingress_nginx(),
            template => {
                if let Some((message, hint)) = template_fault(at) {
                    context.error(at.place, message, Some(&hint));
                }
                AccessLogFormat::Template(template.to_owned())
            }
        },
    };
    let target = match raw.path.given() {
        None => AccessLogTarget::Stdout,
        Some(at) => AccessLogTarget::File(context.resolve(at.place, at.value.as_ref())),
    };
    Some(AccessLog { target, format })
}

/// What is wrong with a format that is to be a template, and how to mend it.
fn template_fault(at: &At<String>) -> Option<(String, String)> {
    if !at.value.contains('{') {
        let hint = match closest(&at.value, ["json", "combined", "ingress-nginx"]) {
            Some(format) => format!("did you mean `{format}`?"),
            None => {
                "use json, combined, ingress-nginx, or a template with `{field}` in it".to_owned()
            }
        };
        return Some((format!("{} is no access log format", shown(at)), hint));
    }
    let error = Template::parse(&at.value).err()?.to_string();
    if at.substituted {
        // The error quotes what was substituted.
        let hint = "look at what the variable or file holds";
        return Some((format!("{} is no access log template", shown(at)), hint.to_owned()));
    }
    Some(match error.split_once("; ") {
        Some((message, hint)) => (message.to_owned(), hint.to_owned()),
        None => (error, "use printable characters and `{field}`s".to_owned()),
    })
}

fn limits(context: &mut Context<'_>, raw: &raw::Limits) -> Limits {
    let mut limits = Limits::default();
    period(context, "head_timeout", &raw.head_timeout, &mut limits.head_timeout);
    period(context, "keep_alive", &raw.keep_alive, &mut limits.keep_alive);
    size(context, "head_size", &raw.head_size, &mut limits.head_size);
    size(context, "target_size", &raw.target_size, &mut limits.target_size);
    count(context, "header_count", &raw.header_count, &mut limits.header_count);
    if raw.connections.get().is_some() {
        let mut connections = 0;
        count(context, "connections", &raw.connections, &mut connections);
        limits.connections = Some(connections);
    }
    limits
}

fn drain(raw: &raw::Drain) -> Drain {
    let default = Drain::default();
    let or = |field: &Field<Text<Period>>, default| field.get().map_or(default, |text| text.0.0);
    Drain { grace: or(&raw.grace, default.grace), deadline: or(&raw.deadline, default.deadline) }
}

fn resolver(context: &mut Context<'_>, raw: &raw::Resolver) -> ResolverOptions {
    let mut options = ResolverOptions::default();
    if let Some(at) = raw.nameservers.given() {
        if at.value.0.is_empty() && !at.value.1 {
            let hint = "leave it out to take those of /etc/resolv.conf";
            context.error(at.place, "`nameservers` is empty", Some(hint));
        }
        for server in &at.value.0 {
            if !options.nameservers.contains(&server.value.0.0) {
                options.nameservers.push(server.value.0.0);
            }
        }
    }
    options.family = match raw.family.get() {
        None | Some(raw::Family::Auto) => AddressFamily::Auto,
        Some(raw::Family::Both) => AddressFamily::Both,
        Some(raw::Family::Ipv4) => AddressFamily::Ipv4,
        Some(raw::Family::Ipv6) => AddressFamily::Ipv6,
    };
    if raw.timeout.get().is_some() {
        let mut timeout = Duration::ZERO;
        period(context, "timeout", &raw.timeout, &mut timeout);
        options.timeout = Some(timeout);
    }
    period(context, "max_ttl", &raw.max_ttl, &mut options.max_ttl);
    period(context, "min_ttl", &raw.min_ttl, &mut options.min_ttl);
    if options.min_ttl > options.max_ttl
        && let Some(place) = raw.min_ttl.place().or(raw.max_ttl.place())
    {
        let hint = "without them an answer is used for 1s at least and 5m at most";
        context.error(place, "`min_ttl` is longer than `max_ttl`", Some(hint));
    }
    options
}

/// Takes over a duration that must not be zero.
pub(super) fn period(
    context: &mut Context<'_>,
    key: &str,
    field: &Field<Text<Period>>,
    target: &mut Duration,
) {
    let Some(at) = field.given() else { return };
    if at.value.0.0.is_zero() {
        context.error(at.place, format!("`{key}` must not be 0"), None);
    }
    *target = at.value.0.0;
}

fn size(context: &mut Context<'_>, key: &str, field: &Field<Text<Size>>, target: &mut usize) {
    let Some(at) = field.given() else { return };
    // A request line and a Host field need some bytes; a gigabyte of head is no head.
    match usize::try_from(at.value.0.0) {
        Ok(size @ 256..=0x4000_0000) => *target = size,
        _ => context.error(at.place, format!("`{key}` must lie between 256B and 1GiB"), None),
    }
}

fn count(context: &mut Context<'_>, key: &str, field: &Field<u32>, target: &mut usize) {
    let Some(at) = field.given() else { return };
    if at.value == 0 {
        context.error(at.place, format!("`{key}` must not be 0"), None);
    }
    *target = at.value as usize;
}
