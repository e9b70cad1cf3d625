//! What the back end speaks, and who answers in its place.

use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;

use super::dump;
use super::reader::Reader;
use super::value;

/// The back end of an Ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// Whether the Service's own address is the one endpoint. Default false.
    pub service_upstream: Option<bool>,
    /// What it speaks. Default HTTP.
    pub protocol: Option<BackendProtocol>,
    /// The version of HTTP it gets. Default 1.1.
    pub http_version: Option<HttpVersion>,
    /// The Service of the same namespace that answers where there are no endpoints, and for
    /// `custom_http_errors`. Its first port.
    pub default_backend: Option<Arc<str>>,
    /// Statuses in whose place the default back end answers.
    #[serde(serialize_with = "dump::some_texts")]
    pub custom_http_errors: Option<Vec<StatusCode>>,
    /// Whether TLS is the back end's to terminate. Default false.
    pub passthrough: Option<bool>,
    /// Whether the ConfigMap's custom-http-errors do not hold here. Default false.
    pub no_error_interception: Option<bool>,
}

/// What a back end speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendProtocol {
    /// HTTP in the clear.
    Http,
    /// HTTP over TLS; its certificate is not verified unless proxy-ssl-verify says so.
    Https,
    /// HTTP/2 in the clear.
    Grpc,
    /// HTTP/2 over TLS; verified as with `Https`.
    Grpcs,
}

/// A version of HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum HttpVersion {
    /// HTTP/1.0
    #[serde(rename = "1.0")]
    Http10,
    /// HTTP/1.1
    #[serde(rename = "1.1")]
    Http11,
}

impl Backend {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let protocol = match reader.guard("backend-protocol", protocol) {
            Some(Ok(protocol)) => Some(protocol),
            Some(Err(unknown)) => {
                let text = format!("`{unknown}` is unknown here; HTTP is spoken");
                reader.amend("backend-protocol", super::Class::Ignored, &text);
                None
            }
            None => None,
        };
        Self {
            service_upstream: reader.value("service-upstream", value::boolean),
            protocol,
            http_version: reader.value("proxy-http-version", |text| {
                value::choice(text, &[("1.0", HttpVersion::Http10), ("1.1", HttpVersion::Http11)])
            }),
            default_backend: reader.value("default-backend", value::service),
            custom_http_errors: reader.value("custom-http-errors", |text| {
                value::list(text, |item| value::status(item, 300, 599))
            }),
            passthrough: reader.value("ssl-passthrough", value::boolean),
            no_error_interception: reader.value("disable-proxy-intercept-errors", value::boolean),
        }
    }
}

/// Unknown words mean HTTP; protocols that are known and not spoken must not get HTTP.
fn protocol(text: &str) -> Result<Result<BackendProtocol, &str>, String> {
    Ok(match text.to_ascii_uppercase().as_str() {
        "HTTP" => Ok(BackendProtocol::Http),
        "HTTPS" => Ok(BackendProtocol::Https),
        "GRPC" => Ok(BackendProtocol::Grpc),
        "GRPCS" => Ok(BackendProtocol::Grpcs),
        "FCGI" => {
            return Err("is not spoken here\nput a web server before the application".to_owned());
        }
        "AUTO_HTTP" => {
            return Err(
                "is not spoken here: the client's scheme would choose it\nwrite `HTTP` or \
                        `HTTPS`"
                    .to_owned(),
            );
        }
        _ => Err(text),
    })
}
