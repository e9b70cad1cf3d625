//! Checks over HTTP.

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderValue, Request, Uri, Version};

use super::error::CheckError;
use super::exchange::{Answer, over_h1, over_h2};
use super::prober::Target;
use crate::ir::HttpProbe;
use crate::telemetry::CheckResult;

const AGENT: HeaderValue = HeaderValue::from_static("portcullis-health");

/// Asks `target` what `probe` says, in the protocol the upstream speaks.
pub(super) async fn check(target: &Target, probe: &HttpProbe) -> Result<String, CheckError> {
    let answer = ask(target, probe, probe.expect_body.is_some()).await?;
    judge(probe, &answer)
}

/// Asks, and leaves the answer to others to judge.
pub(super) async fn ask(
    target: &Target,
    probe: &HttpProbe,
    wants_body: bool,
) -> Result<Answer, CheckError> {
    let io = target.connect().await?;
    let h2 = target.speaks_h2(&io)?;
    let request = request(target, probe, h2)?;
    match h2 {
        true => over_h2(io, request, wants_body).await,
        false => over_h1(io, request, wants_body).await,
    }
}

fn request(target: &Target, probe: &HttpProbe, h2: bool) -> Result<Request<Bytes>, CheckError> {
    let authority = probe.host.as_deref().unwrap_or(&target.authority);
    let uri = match h2 {
        true => {
            let scheme = if target.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
            let uri = Uri::builder().scheme(scheme).authority(authority);
            uri.path_and_query(probe.path.expose_str()).build()
        }
        false => Uri::builder().path_and_query(probe.path.expose_str()).build(),
    };
    let version = match h2 {
        true => Version::HTTP_2,
        false if target.speaks_http10() => Version::HTTP_10,
        false => Version::HTTP_11,
    };
    let mut request = Request::builder().method(&*probe.method).version(version);
    request = request.uri(uri.map_err(CheckError::protocol)?).header(USER_AGENT, AGENT);
    if !h2 {
        request = request.header(HOST, authority).header(CONNECTION, "close");
    }
    let mut request = request.body(Bytes::new()).map_err(CheckError::protocol)?;
    for field in &probe.headers {
        request.headers_mut().remove(&field.name);
    }
    for field in &probe.headers {
        request.headers_mut().append(field.name.clone(), field.value.clone());
    }
    Ok(request)
}

fn judge(probe: &HttpProbe, answer: &Answer) -> Result<String, CheckError> {
    let status = answer.status.as_u16();
    if !probe.expect_status.iter().any(|(from, to)| (*from..=*to).contains(&status)) {
        return Err(CheckError::new(CheckResult::Status, format!("status {status}")));
    }
    if let Some(text) = &probe.expect_body
        && !contains(&answer.body, text.as_bytes())
    {
        let what = format!("status {status}, but its body does not contain the expected text");
        return Err(CheckError::new(CheckResult::Body, what));
    }
    Ok(format!("status {status}"))
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}
