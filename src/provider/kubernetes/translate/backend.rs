//! Where the backend of a path leads.

use std::sync::Arc;

use http::StatusCode;
use ir::{Action, BackendRef, Name};
use k8s_openapi::api::networking::v1::IngressBackend;

use super::Object;
use super::service::{Trouble, Upstreams, WantedPort};
use crate::ir;
use crate::provider::kubernetes::Key;
use crate::provider::kubernetes::report::Finding;

/// Where a backend leads, by the settings of its Ingress.
pub(super) fn forward(
    object: &mut Object<'_>,
    path: &Arc<str>,
    backend: &IngressBackend,
    subject: &str,
    upstreams: &mut Upstreams<'_>,
) -> (Action, Option<Name>) {
    match upstream(object, path, backend, subject, upstreams) {
        Ok(name) => {
            let backend = BackendRef { upstream: name.clone(), weight: 1 };
            (Action::Forward(vec![backend]), Some(name))
        }
        Err(action) => (action, None),
    }
}

/// The upstream of a backend, or what requests are answered with where there is none.
pub(super) fn upstream(
    object: &mut Object<'_>,
    path: &Arc<str>,
    backend: &IngressBackend,
    subject: &str,
    upstreams: &mut Upstreams<'_>,
) -> Result<Name, Action> {
    let (service, port) = match wanted(object.key, backend) {
        Ok(wanted) => wanted,
        Err(Unusable { status, what }) => {
            let hint = format!("its requests are answered {}", status.as_u16());
            object.report.add(Finding::refused(place(subject), what).hint(hint));
            return Err(Action::Fail { status, reason: what.to_owned() });
        }
    };
    let mut settings = object.policy.upstream.clone();
    if object.policy.cookie_by_path
        && let Some(ir::AffinityKey::Cookie(cookie)) =
            settings.balance.affinity.as_mut().map(|affinity| &mut affinity.by)
    {
        cookie.path = path.clone();
    }
    let (name, trouble) = upstreams.obtain(&service, port, &settings, &object.key.name);
    if let Some(trouble) = trouble {
        let finding = finding(subject, &trouble);
        object.report.add(match trouble.hint {
            Some(hint) => finding.hint(hint),
            None => finding,
        });
    }
    Ok(name)
}

/// Says what is wrong with a backend that no request gets to, because its path is closed: whoever
/// mends the one thing should not find the other only then.
pub(super) fn unreached(
    object: &mut Object<'_>,
    backend: &IngressBackend,
    subject: &str,
    upstreams: &mut Upstreams<'_>,
) {
    match wanted(object.key, backend) {
        Ok((service, port)) => {
            if let Some(trouble) = upstreams.trouble(&service, port) {
                object.report.add(finding(subject, &trouble));
            }
        }
        Err(Unusable { what, .. }) => object.report.add(Finding::refused(place(subject), what)),
    }
}

/// Why a backend names nothing that could be served.
struct Unusable {
    status: StatusCode,
    what: &'static str,
}

/// The Service that a backend names, and which of its ports.
fn wanted<'b>(
    ingress: &Key,
    backend: &'b IngressBackend,
) -> Result<(Key, WantedPort<'b>), Unusable> {
    let Some(service) = &backend.service else {
        let what = "backends other than Services are not served";
        return Err(Unusable { status: StatusCode::NOT_FOUND, what });
    };
    let Some(port) = WantedPort::of(service.port.as_ref()) else {
        let what = "the backend has no port";
        return Err(Unusable { status: StatusCode::SERVICE_UNAVAILABLE, what });
    };
    Ok((Key::new(ingress.namespace.clone(), service.name.as_str()), port))
}

fn finding(subject: &str, trouble: &Trouble) -> Finding {
    match trouble.served {
        true => Finding::differs(place(subject), &trouble.message),
        false => Finding::refused(place(subject), &trouble.message),
    }
}

/// Where in the object the backend of `subject` stands.
fn place(subject: &str) -> String {
    match subject.ends_with("defaultBackend") {
        true => subject.to_owned(),
        false => format!("{subject}.backend"),
    }
}
