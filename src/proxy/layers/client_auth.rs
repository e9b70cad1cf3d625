//! Serves a host with demands on client certificates only to clients that met them.

use futures_util::future::{Either, ready};
use http::header::LOCATION;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tower::{Service, service_fn};

use super::Outcome;
use crate::error::ProxyError;
use crate::filter::{ClientAuth, Objection, Place, Shown, render_value};
use crate::proxy::{Body, ClientConn, Request};
use crate::snapshot::ClientGate;
use crate::telemetry::Reason;
use crate::tls::HandshakeError;

const CERTIFICATE: HeaderName = HeaderName::from_static("ssl-client-cert");
const ISSUER: HeaderName = HeaderName::from_static("ssl-client-issuer-dn");
const SUBJECT: HeaderName = HeaderName::from_static("ssl-client-subject-dn");
const VERIFY: HeaderName = HeaderName::from_static("ssl-client-verify");

/// Turns away who did not show what the host demands, and tells the upstream what the others
/// showed.
pub fn client_auth<S>(
    mut inner: S,
) -> impl Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone
where
    S: Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone,
{
    service_fn(move |mut request: Box<Request>| match turned_away(&mut request) {
        Some(outcome) => Either::Right(ready(outcome)),
        None => Either::Left(inner.call(request)),
    })
}

/// The answer to who did not show what the host of its route demands.
pub fn turned_away(request: &mut Request) -> Option<Outcome> {
    let context = request.context.clone();
    let route = context.route()?;
    turned_away_by(route.client_auth.as_deref()?, request)
}

/// The answer to who did not show what `gate` demands.
pub fn turned_away_by(gate: &ClientGate, request: &mut Request) -> Option<Outcome> {
    let context = request.context.clone();
    let (demand, auth) = match gate {
        ClientGate::Closed(why) => {
            return Some(Err(ProxyError::proxy(Reason::AuthUnavailable).because(why.clone())));
        }
        ClientGate::Asks { demand, auth } => (demand, auth),
    };
    let conn = &context.conn;
    // Several declarations of a host may demand different things: a connection meets one of them.
    if conn.policy.is_some_and(|policy| policy != demand.id) {
        let error = ProxyError::client(Reason::Misdirected);
        return Some(Err(error.because("the connection was made under another policy")));
    }
    match auth.judge(shown(conn)) {
        Ok(()) => {
            tell(conn, auth, &mut request.headers);
            None
        }
        Err(Objection::Subject) => {
            let error = ProxyError::proxy(Reason::Forbidden);
            Some(Err(error.because("the certificate is somebody else's")))
        }
        Err(Objection::Certificate(why)) => Some(refuse(request, auth, why)),
    }
}

fn shown(conn: &ClientConn) -> Shown<'_> {
    match conn.shown_certificate.as_deref() {
        None => Shown::Nothing,
        Some(shown) => match shown.verdict {
            Ok(()) => Shown::Good(&shown.certificate.subject),
            Err(error) => {
                Shown::Bad { untrusted: error == HandshakeError::UnknownCa, why: error.as_str() }
            }
        },
    }
}

/// The answer to a client without a good certificate.
fn refuse(request: &Request, auth: &ClientAuth, why: &str) -> Outcome {
    let error = || ProxyError::client(Reason::ClientCertificate).because(why.to_owned());
    let page = auth.error_page.as_ref().ok_or_else(error)?;
    let location = render_value(page, &request.facts(), Place::Url).ok_or_else(error)?;
    request.context.because(Reason::ClientCertificate);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// Puts what is known of the certificate in the place of what the client says.
fn tell(conn: &ClientConn, auth: &ClientAuth, headers: &mut HeaderMap) {
    for name in [CERTIFICATE, ISSUER, SUBJECT, VERIFY] {
        headers.remove(name);
    }
    let Some(shown) = conn.shown_certificate.as_deref() else {
        headers.insert(VERIFY, HeaderValue::from_static("NONE"));
        return;
    };
    let verdict = match shown.verdict {
        Ok(()) => "SUCCESS".to_owned(),
        Err(error) => format!("FAILED:{error}"),
    };
    let certificate = if auth.forward { shown.escaped_pem() } else { String::new() };
    for (name, value) in [
        (VERIFY, verdict),
        (SUBJECT, shown.certificate.subject.clone()),
        (ISSUER, shown.certificate.issuer.clone()),
        (CERTIFICATE, certificate),
    ] {
        if !value.is_empty()
            && let Ok(value) = HeaderValue::try_from(value)
        {
            headers.insert(name, value);
        }
    }
}
