//! Texts with nginx's variables to texts with those of the model.

use ir::{Scope, Site, Variable};

use crate::ir;
use crate::provider::kubernetes::Key;
use crate::provider::kubernetes::annotation::{self, Piece, Template};

/// The text of an annotation of the Ingress `key`, made of parts of the request only.
///
/// # Errors
/// Names a variable that has no value there.
pub(super) fn template(text: &Template, key: &Key) -> Result<ir::Template, String> {
    let template = within(text, key, Scope::default())?;
    let of_route = template.variables().any(|variable| matches!(variable, Variable::Site(_)));
    match of_route {
        true => Err("the name of its Service or host is not filled in here".to_owned()),
        false => Ok(template),
    }
}

/// The same of a route, for which [`super::super::site`] puts in what is of the route.
pub(super) fn within(text: &Template, key: &Key, scope: Scope) -> Result<ir::Template, String> {
    let pieces = text.pieces().iter().map(|piece| match piece {
        Piece::Literal(text) => Ok(ir::Piece::Literal(text.clone())),
        Piece::Variable(annotation::Variable::Namespace) => {
            Ok(ir::Piece::Literal(key.namespace.clone()))
        }
        Piece::Variable(annotation::Variable::IngressName) => {
            Ok(ir::Piece::Literal(key.name.clone()))
        }
        Piece::Variable(variable) => match self::variable(variable) {
            Some(known) if known.is_in(scope) => Ok(ir::Piece::Variable(known)),
            _ => Err(format!("`{variable}` is not filled in here")),
        },
    });
    Ok(ir::Template::of(pieces.collect::<Result<Vec<_>, _>>()?))
}

/// The model's variable, where it has one.
pub(super) fn variable(variable: &annotation::Variable) -> Option<Variable> {
    use annotation::Variable as Nginx;
    Some(match variable {
        Nginx::Host => Variable::Host,
        Nginx::HttpHost => Variable::HttpHost,
        Nginx::Scheme => Variable::PassAccessScheme,
        Nginx::RequestUri => Variable::RequestUri,
        Nginx::EscapedRequestUri => Variable::EscapedRequestUri,
        Nginx::Uri => Variable::Uri,
        Nginx::Args => Variable::Args,
        Nginx::IsArgs => Variable::IsArgs,
        Nginx::RequestMethod => Variable::RequestMethod,
        Nginx::RemoteAddr => Variable::RemoteAddr,
        Nginx::RemotePort => Variable::RemotePort,
        Nginx::RemoteUser => Variable::RemoteUser,
        Nginx::ServerPort => Variable::ServerPort,
        Nginx::ServerProtocol => Variable::ServerProtocol,
        Nginx::RequestId => Variable::RequestId,
        Nginx::ContentType => Variable::Header(http::header::CONTENT_TYPE),
        Nginx::ContentLength => Variable::Header(http::header::CONTENT_LENGTH),
        Nginx::ProxyAddXForwardedFor => Variable::ProxyAddXForwardedFor,
        Nginx::ClientVerify => Variable::ClientVerify,
        Nginx::ClientSubject => Variable::ClientSubject,
        Nginx::ClientIssuer => Variable::ClientIssuer,
        Nginx::Header(name) => Variable::Header(name.clone()),
        Nginx::ResponseHeader(name) => Variable::ResponseHeader(name.clone()),
        Nginx::Cookie(name) => Variable::Cookie(name.clone()),
        Nginx::Arg(name) => Variable::Arg(name.clone()),
        Nginx::Capture(number) => Variable::Capture(*number),
        Nginx::ServerName => Variable::Site(Site::Host),
        Nginx::ServiceName => Variable::Site(Site::Service),
        Nginx::ServicePort => Variable::Site(Site::ServicePort),
        Nginx::UpstreamName => Variable::Site(Site::Upstream),
        Nginx::Namespace | Nginx::IngressName => return None,
    })
}
