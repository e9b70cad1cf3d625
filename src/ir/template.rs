//! Text with parts of a request in it: for URLs and header values that depend on who asks for
//! what. A closed list of variables, and nothing to compute.

use std::fmt;
use std::sync::Arc;

use http::HeaderName;
use serde::{Serialize, Serializer};

/// A text with variables.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    /// Never two literals in a row, and no empty one.
    pieces: Vec<Piece>,
    /// Whether part of it came out of a file or variable and is not to be shown.
    secret: bool,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text that stands for itself.
    Literal(Arc<str>),
    /// A part of the request.
    Variable(Variable),
}

/// A part of a request. The names are nginx's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `arg_NAME`: the first query parameter of that name, as it came.
    Arg(Arc<str>),
    /// `args`: the query without its `?`.
    Args,
    /// `cookie_NAME`: a cookie.
    Cookie(Arc<str>),
    /// `escaped_request_uri`: `request_uri`, percent-encoded to be part of a query.
    EscapedRequestUri,
    /// `http_NAME`: a header field; underscores stand for dashes.
    Header(HeaderName),
    /// `host`: the host without a port.
    Host,
    /// `http_host`, `best_http_host`: the host as the client named it, with its port.
    HttpHost,
    /// `pass_access_scheme`: the scheme, as far as a trusted proxy told it.
    PassAccessScheme,
    /// `remote_addr`: the client's address as far as it is believed.
    RemoteAddr,
    /// `request_id`, `req_id`: the request's id.
    RequestId,
    /// `request_method`: the method.
    RequestMethod,
    /// `request_uri`: path and query.
    RequestUri,
    /// `scheme`: the scheme of the connection.
    Scheme,
    /// `server_port`: the port the request came to.
    ServerPort,
    /// `uri`: the path.
    Uri,
}

/// What is wrong with a template, as the end of a sentence that begins with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A control character: it would end a header line.
    #[error("has a control character")]
    Control,
    /// A brace without its partner.
    #[error("has a brace without its partner; write `{{{{` or `}}}}` for the character itself")]
    Brace,
    /// A name that is no variable.
    #[error("has no variable `{0}`")]
    Unknown(String),
}

/// The variables that have no name of the user's in them.
const PLAIN: [(&str, Variable); 14] = [
    ("args", Variable::Args),
    ("best_http_host", Variable::HttpHost),
    ("escaped_request_uri", Variable::EscapedRequestUri),
    ("host", Variable::Host),
    ("http_host", Variable::HttpHost),
    ("pass_access_scheme", Variable::PassAccessScheme),
    ("remote_addr", Variable::RemoteAddr),
    ("req_id", Variable::RequestId),
    ("request_id", Variable::RequestId),
    ("request_method", Variable::RequestMethod),
    ("request_uri", Variable::RequestUri),
    ("scheme", Variable::Scheme),
    ("server_port", Variable::ServerPort),
    ("uri", Variable::Uri),
];

impl Variable {
    /// The variable called `name`.
    pub fn named(name: &str) -> Option<Self> {
        if let Some((_, variable)) = PLAIN.iter().find(|(known, _)| *known == name) {
            return Some(variable.clone());
        }
        let word = |name: &str| -> Option<Arc<str>> {
            let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            (!name.is_empty() && name.bytes().all(letters)).then(|| Arc::from(name))
        };
        if let Some(field) = name.strip_prefix("http_") {
            let field = word(field)?.to_ascii_lowercase().replace('_', "-");
            return HeaderName::from_bytes(field.as_bytes()).ok().map(Self::Header);
        }
        match name.strip_prefix("cookie_") {
            Some(cookie) => word(cookie).map(Self::Cookie),
            None => word(name.strip_prefix("arg_")?).map(Self::Arg),
        }
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arg(name) => write!(f, "arg_{name}"),
            Self::Cookie(name) => write!(f, "cookie_{name}"),
            Self::Header(name) => write!(f, "http_{}", name.as_str().replace('-', "_")),
            plain => {
                let known = PLAIN.iter().rfind(|(_, variable)| variable == plain);
                f.write_str(known.map_or("", |(name, _)| name))
            }
        }
    }
}

impl Template {
    /// Parses a text with `{name}` in it; `{{` and `}}` are the braces themselves.
    ///
    /// # Errors
    /// Braces without partners, names that are no variables, control characters.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut template = Self::checked(text)?;
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(brace);
            template.push_literal(before);
            if let Some(after) = from.strip_prefix("{{") {
                template.push_literal("{");
                rest = after;
            } else if let Some(after) = from.strip_prefix("}}") {
                template.push_literal("}");
                rest = after;
            } else {
                let inner = from.strip_prefix('{').ok_or(TemplateError::Brace)?;
                let (name, after) = inner.split_once('}').ok_or(TemplateError::Brace)?;
                template.push_named(name)?;
                rest = after;
            }
        }
        template.push_literal(rest);
        Ok(template)
    }

    /// Parses a text as nginx has it, with `$name` and `${name}` in it. A `$` before anything that
    /// cannot be a name stands for itself.
    ///
    /// # Errors
    /// As [`Template::parse`].
    pub fn parse_nginx(text: &str) -> Result<Self, TemplateError> {
        let mut template = Self::checked(text)?;
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            template.push_literal(before);
            if let Some(inner) = after.strip_prefix('{') {
                let (name, after) = inner.split_once('}').ok_or(TemplateError::Brace)?;
                template.push_named(name)?;
                rest = after;
                continue;
            }
            let letters = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
            let (name, after) = after.split_at(after.bytes().take_while(letters).count());
            match name {
                "" => template.push_literal("$"),
                name => template.push_named(name)?,
            }
            rest = after;
        }
        template.push_literal(rest);
        Ok(template)
    }

    /// The same, kept from being shown where `secret`.
    #[must_use]
    pub fn hidden(mut self, secret: bool) -> Self {
        self.secret |= secret;
        self
    }

    /// A template of these pieces.
    pub fn of(pieces: impl IntoIterator<Item = Piece>) -> Self {
        let mut template = Self { pieces: Vec::new(), secret: false };
        for piece in pieces {
            match piece {
                Piece::Literal(text) => template.push_literal(&text),
                variable => template.pieces.push(variable),
            }
        }
        template
    }

    /// Its pieces.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Whether it is not to be shown.
    pub fn is_secret(&self) -> bool {
        self.secret
    }

    fn checked(text: &str) -> Result<Self, TemplateError> {
        match text.chars().any(char::is_control) {
            true => Err(TemplateError::Control),
            false => Ok(Self { pieces: Vec::new(), secret: false }),
        }
    }

    fn push_literal(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        match self.pieces.last_mut() {
            Some(Piece::Literal(last)) => *last = format!("{last}{text}").into(),
            _ => self.pieces.push(Piece::Literal(text.into())),
        }
    }

    fn push_named(&mut self, name: &str) -> Result<(), TemplateError> {
        let variable = Variable::named(name);
        let variable = variable.ok_or_else(|| TemplateError::Unknown(name.to_owned()))?;
        self.pieces.push(Piece::Variable(variable));
        Ok(())
    }
}

impl fmt::Display for Template {
    /// For people: what is secret is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.secret {
            return f.write_str("<redacted>");
        }
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Literal(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}")),
            Piece::Variable(variable) => write!(f, "{{{variable}}}"),
        })
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({self})")
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_mean_the_same() {
        let braces =
            "https://{host}/a?rd={escaped_request_uri}&u={http_x_user}{cookie_sid}{arg_q}$";
        let dollars =
            "https://$host/a?rd=${escaped_request_uri}&u=$http_x_user${cookie_sid}$arg_q$";
        let template = Template::parse(braces).expect("sound");
        assert_eq!(Template::parse_nginx(dollars), Ok(template.clone()));
        assert_eq!(template.to_string(), braces);
        assert_eq!(
            Template::parse("{{a}}").expect("sound").pieces(),
            [Piece::Literal("{a}".into())]
        );
        assert_eq!(Template::parse_nginx("{a}").expect("sound").to_string(), "{{a}}");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for (text, error) in [
            ("{host", TemplateError::Brace),
            ("host}", TemplateError::Brace),
            ("{hosts}", TemplateError::Unknown("hosts".into())),
            ("{http_}", TemplateError::Unknown("http_".into())),
            ("{cookie_a b}", TemplateError::Unknown("cookie_a b".into())),
            ("a\r\nb", TemplateError::Control),
        ] {
            assert_eq!(Template::parse(text), Err(error), "{text}");
        }
        assert_eq!(Template::parse_nginx("${host"), Err(TemplateError::Brace));
        assert_eq!(Template::parse_nginx("$foo"), Err(TemplateError::Unknown("foo".into())));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let template = Template::parse("key-{host}").expect("sound").hidden(true);
        assert_eq!(format!("{template} {template:?}").matches("key").count(), 0);
        assert_eq!(serde_json::to_string(&template).expect("JSON"), "\"<redacted>\"");
    }

    fn variable() -> impl Strategy<Value = Variable> {
        prop_oneof![
            (0..PLAIN.len()).prop_map(|at| PLAIN[at].1.clone()),
            "[a-z0-9_]{1,8}".prop_map(|name| Variable::Arg(name.into())),
            "[a-zA-Z_]{1,8}".prop_map(|name| Variable::Cookie(name.into())),
            "x(-[a-z]{1,4}){1,3}".prop_map(|name| Variable::Header(name.parse().unwrap())),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_out_is_read_back(pieces in prop::collection::vec(
            prop_oneof![
                "[ -~ö]{1,6}".prop_map(|text| Piece::Literal(text.into())),
                variable().prop_map(Piece::Variable),
            ],
            0..8,
        )) {
            let template = Template::of(pieces);
            prop_assert_eq!(Template::parse(&template.to_string()), Ok(template));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[{}$a-z_\\PC]{0,30}") {
            let _ = Template::parse_nginx(&text);
            if let Ok(template) = Template::parse(&text) {
                prop_assert_eq!(template.to_string(), text);
            }
        }
    }
}
