//! Texts with nginx's variables to texts with those of the model.

use ir::Variable;

use crate::ir;
use crate::provider::kubernetes::Key;
use crate::provider::kubernetes::annotation::{self, Piece, Template};

/// The text of an annotation of the Ingress `key`.
///
/// # Errors
/// Names a variable that the model has not.
pub(super) fn template(text: &Template, key: &Key) -> Result<ir::Template, String> {
    let pieces = text.pieces().iter().map(|piece| match piece {
        Piece::Literal(text) => Ok(ir::Piece::Literal(text.clone())),
        Piece::Variable(annotation::Variable::Namespace) => {
            Ok(ir::Piece::Literal(key.namespace.clone()))
        }
        Piece::Variable(annotation::Variable::IngressName) => {
            Ok(ir::Piece::Literal(key.name.clone()))
        }
        Piece::Variable(variable) => match known(variable) {
            Some(known) => Ok(ir::Piece::Variable(known)),
            None => Err(format!("`{variable}` is not filled in here")),
        },
    });
    Ok(ir::Template::of(pieces.collect::<Result<Vec<_>, _>>()?))
}

fn known(variable: &annotation::Variable) -> Option<Variable> {
    use annotation::Variable as Nginx;
    Some(match variable {
        Nginx::Host => Variable::Host,
        Nginx::HttpHost => Variable::HttpHost,
        Nginx::Scheme => Variable::PassAccessScheme,
        Nginx::RequestUri => Variable::RequestUri,
        Nginx::EscapedRequestUri => Variable::EscapedRequestUri,
        Nginx::Uri => Variable::Uri,
        Nginx::Args => Variable::Args,
        Nginx::RequestMethod => Variable::RequestMethod,
        Nginx::RemoteAddr => Variable::RemoteAddr,
        Nginx::ServerPort => Variable::ServerPort,
        Nginx::RequestId => Variable::RequestId,
        Nginx::ContentType => Variable::Header(http::header::CONTENT_TYPE),
        Nginx::ContentLength => Variable::Header(http::header::CONTENT_LENGTH),
        Nginx::Header(name) => Variable::Header(name.clone()),
        Nginx::Cookie(name) => Variable::Cookie(name.clone()),
        Nginx::Arg(name) => Variable::Arg(name.clone()),
        Nginx::IsArgs
        | Nginx::RemotePort
        | Nginx::RemoteUser
        | Nginx::ServerName
        | Nginx::ServerProtocol
        | Nginx::ProxyAddXForwardedFor
        | Nginx::Namespace
        | Nginx::IngressName
        | Nginx::ServiceName
        | Nginx::ServicePort
        | Nginx::UpstreamName
        | Nginx::ClientVerify
        | Nginx::ClientSubject
        | Nginx::ClientIssuer
        | Nginx::ResponseHeader(_)
        | Nginx::Capture(_) => return None,
    })
}
