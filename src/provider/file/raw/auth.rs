//! Who may use a route, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::provider::file::field::{Field, List, Named, Text};
use crate::provider::file::scalar::{FieldName, Period, Verb};

/// What a client must show before its request is served.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Auth {
    /// A user name and a password (HTTP basic authentication).
    pub basic: Field<BasicAuth>,
    /// The word of a service that is asked about every request.
    pub external: Field<ExternalAuth>,
    /// Whether `all` that is named must be shown or `any` of it will do. Default: `all`.
    pub satisfy: Field<Satisfy>,
}

/// How many conditions must hold.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::provider::file) enum Satisfy {
    All,
    Any,
}

/// Users and their passwords; one of `users` and `users_file`. A hash is bcrypt (of a cost up to
/// 17), `$apr1$` or `{SHA}`; users with anything else, a plain password say, are refused.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct BasicAuth {
    /// What the client is told that it needs a password for. Default: `Restricted`.
    pub realm: Field<String>,
    /// Lines of `user:hash`, as `htpasswd` makes them.
    pub users: Field<String>,
    /// A file of such lines. Where it is missing the route answers 503.
    pub users_file: Field<String>,
}

/// A service that is asked; one of `url` and `upstream`. It lets a request pass by 2xx and refuses
/// it by 401 or 403; whatever else it answers is a 500 to the client. URLs and values are templates:
/// `{host}`, `{request_uri}`, `{escaped_request_uri}`, `{http_NAME}`, `{cookie_NAME}` and others.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct ExternalAuth {
    /// Whether clients get the cookies of the answer with every status. Default: `false`, with 2xx
    /// and 3xx only.
    pub always_set_cookie: Field<bool>,
    /// Which answers hold for further requests that are alike. Default: every request is asked about.
    pub cache: Field<AuthCache>,
    /// The method of the question. Default: `GET`.
    pub method: Field<Text<Verb>>,
    /// Path and query of the question to `upstream`. Default: `/`.
    pub path: Field<String>,
    /// Fields of the question beside those of the request, which it has all.
    pub request_headers: Field<Named<String>>,
    /// The value of `X-Auth-Request-Redirect`. Default: `{request_uri}`.
    pub request_redirect: Field<String>,
    /// Fields that the upstream gets from the answer, and never from the client.
    pub response_headers: Field<List<Text<FieldName>>>,
    /// Where clients are sent (302) instead of being answered 401.
    pub signin: Field<String>,
    /// The parameter of `signin` that tells where they wanted to go; added where it is not in the
    /// URL. Default: `rd`.
    pub signin_redirect_param: Field<String>,
    /// The most an answer may take. Default: `10s`.
    pub timeout: Field<Text<Period>>,
    /// The upstream that is asked.
    pub upstream: Field<String>,
    /// The URL that is asked. Over `https` the service is verified. With `{host}` as its host
    /// another route of the request's own host is asked.
    pub url: Field<String>,
}

/// Answers of a service that hold for further requests, in each worker: as long as they say
/// themselves (`Cache-Control`, `Expires`), and `valid` at most. One with `Set-Cookie` is not kept.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct AuthCache {
    /// What makes requests of a route alike, beside their host and the URL that is asked: a template
    /// such as `{http_authorization}{cookie_session}`. All that the service decides by must be in it.
    pub key: Field<String>,
    /// How long answers count, by status: `200`, `200-299` or `2xx`; the first that names it. Others
    /// are not kept. Default: `{ 200: 5m, 202: 5m, 401: 5m }`.
    pub valid: Field<Named<Text<Period>>>,
}
