//! TLS towards back ends, for backend-protocol HTTPS and GRPCS.

use std::sync::Arc;

use serde::Serialize;

use super::finding::Class;
use super::reader::Reader;
use super::value::{self, ObjectRef};

/// TLS towards back ends. The first Ingress of a host says it for all of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProxySsl {
    /// The Secret with the client certificate (`tls.crt`, `tls.key`) and the authority that back
    /// ends are verified by (`ca.crt`).
    pub secret: Option<ObjectRef>,
    /// Whether back ends are verified, which needs a Secret. Default false.
    pub verify: Option<bool>,
    /// The name they are verified by and that is sent to them. Default is the upstream's.
    pub name: Option<Arc<str>>,
    /// Whether the name is sent (SNI). Default false.
    pub server_name: Option<bool>,
}

impl ProxySsl {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mut ssl = Self {
            secret: reader.guard("proxy-ssl-secret", value::full_object),
            verify: reader.value("proxy-ssl-verify", value::switch),
            name: reader.value("proxy-ssl-name", name),
            server_name: reader.value("proxy-ssl-server-name", value::switch),
        };
        if ssl.verify == Some(true) && !reader.has("proxy-ssl-secret") {
            ssl.verify = None;
            let text = "has no effect without `proxy-ssl-secret`, as in ingress-nginx: back ends \
                        are not verified";
            reader.amend("proxy-ssl-verify", Class::Ignored, text);
        }
        ssl
    }
}

fn name(text: &str) -> Result<Arc<str>, String> {
    match crate::ir::HostPattern::parse(text) {
        Ok(crate::ir::HostPattern::Exact(name)) => Ok(Arc::from(&*name)),
        Ok(_) => Err("is no single name".to_owned()),
        Err(error) => Err(format!("is no name: {error}")),
    }
}
