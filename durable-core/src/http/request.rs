//! One request: whether it may be carried out, and by which operation.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use durable_machine::model::limits;

use super::app::sealed;
use super::host::{Named, is_loopback};
use super::key::{Key, shown};
use super::links::{Links, Opener};
use super::query::Query;
use super::refusal::Refusal;
use super::route::{Operation, Route};
use super::serve::Ending;
use super::signature::{LinkRights, granted};
use super::{ManagementApi, body, json, openapi, operations, path};
use crate::Payload;

/// The header in which a key may be shown.
const KEY_HEADER: &str = "x-functions-key";

const FOREIGN_HOST: &str =
    "The request names a host that is not this server's. Set the public URL, or a key";
const FOREIGN_ORIGIN: &str = "A page of another origin must not change anything";
pub(super) const NOT_IN_LINK: Refusal =
    Refusal::Forbidden("The link that was shown does not allow this");

/// Which way in a request took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mount {
    /// For everybody who has the key.
    Public,
    /// For client libraries on this machine.
    Rpc,
}

/// A request that may be carried out, without its body.
pub(super) struct Ask<'a> {
    pub(super) api: &'a ManagementApi,
    pub(super) headers: &'a HeaderMap,
    pub(super) query: Query,
    pub(super) links: Links,
    /// Its own URL.
    pub(super) url: String,
    /// Where its server says when it ends.
    pub(super) ending: Option<Ending>,
    mount: Mount,
    /// What it may do with the instance that it is about; `None` is everything, with all of them.
    rights: Option<LinkRights>,
}

impl ManagementApi {
    /// Answers a request whose path below the mount is `below`; `uri` is the whole of it.
    pub(super) async fn serve(
        &self,
        mount: Mount,
        below: &str,
        uri: Uri,
        request: Request,
    ) -> Response {
        let answer = self.try_serve(mount, below, &uri, request).await;
        sealed(answer.unwrap_or_else(Refusal::into_response))
    }

    async fn try_serve(
        &self,
        mount: Mount,
        below: &str,
        uri: &Uri,
        request: Request,
    ) -> Result<Response, Refusal> {
        let (parts, body) = request.into_parts();
        let headers = &parts.headers;
        self.check_size(uri, headers)?;
        let named = self.check_sender(mount, &parts.method, headers, uri)?;
        let mut query = Query::parse(uri.query().unwrap_or_default());
        let route = || {
            let segments = path::segments(below)
                .map_err(|path::NotText| Refusal::argument("the path is not UTF-8 text"))?;
            Route::of(&parts.method, &segments).ok_or(Refusal::NotFound)
        };
        let ((route, line), opener, rights) = match (mount, self.token(&query)) {
            (Mount::Public, Some(token)) => {
                let found = route().map_err(|_| Refusal::Unauthorized)?;
                let rights = self.check_token(token, &found.0, headers, &query)?;
                (found, Opener::Token(token.to_owned()), Some(rights))
            }
            (Mount::Public, None) => {
                let key = self.check_key(headers, &query)?;
                (route()?, Opener::of(key), None)
            }
            (Mount::Rpc, _) => (route()?, Opener::of(self.settings.keys.first()), None),
        };
        query.declare(line.parameters);
        let hub = self.hub();
        if query.text("taskhub").is_some_and(|asked| !asked.eq_ignore_ascii_case(&hub)) {
            return Err(Refusal::NotFound);
        }
        let whole = uri.path();
        let mounted = whole.strip_suffix(below).unwrap_or(whole).trim_end_matches('/');
        // Links are for whoever they are handed to, so they lead to everybody's way in.
        let hosts = &self.settings.hosts;
        let (own, base) = match mount {
            Mount::Public => (hosts.base(&named, mounted), hosts.base(&named, mounted)),
            Mount::Rpc => {
                // A port of its own is not where everybody's way in is.
                let public = if self.settings.rpc.is_some() { &Named::Nothing } else { &named };
                (hosts.here(&named, mounted), hosts.base(public, &self.settings.path))
            }
        };
        let query_of_own = uri.query().map_or_else(String::new, |query| format!("?{query}"));
        let ask = Ask {
            api: self,
            headers,
            query,
            url: format!("{own}{below}{query_of_own}"),
            links: Links::new(base, &hub, opener),
            ending: parts.extensions.get().cloned(),
            mount,
            rights,
        };
        ask.carry_out(route, body).await
    }

    fn check_size(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let limits = &self.settings.limits;
        if uri.path().len() + uri.query().map_or(0, str::len) > limits.url_bytes {
            return Err(Refusal::Limit(StatusCode::URI_TOO_LONG, "the URL is too long"));
        }
        let size: usize =
            headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if size > limits.header_bytes {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Err(Refusal::Limit(status, "the headers are too large"));
        }
        Ok(())
    }

    /// The host that it names, if it comes from whom it may come.
    pub(super) fn check_sender(
        &self,
        mount: Mount,
        method: &Method,
        headers: &HeaderMap,
        uri: &Uri,
    ) -> Result<Named, Refusal> {
        let named = self.settings.hosts.named(headers, uri);
        let served = match (mount, &named) {
            (_, Named::Nothing) => true,
            (Mount::Public, Named::Own(_)) => true,
            (Mount::Rpc, Named::Own(host)) => is_loopback(host),
            (Mount::Public, Named::Foreign) => !self.settings.keys.is_empty(),
            (Mount::Rpc, Named::Foreign) => false,
        };
        if !served {
            return Err(Refusal::Forbidden(FOREIGN_HOST));
        }
        if self.settings.hosts.is_cross_site(method, headers, uri) {
            return Err(Refusal::Forbidden(FOREIGN_ORIGIN));
        }
        Ok(named)
    }

    /// The key that was shown; none where none is asked for.
    pub(super) fn check_key(
        &self,
        headers: &HeaderMap,
        query: &Query,
    ) -> Result<Option<&Key>, Refusal> {
        if self.settings.keys.is_empty() {
            return Ok(None);
        }
        let key = key_of(headers, query)?.unwrap_or_default();
        shown(&self.settings.keys, key).map(Some).ok_or(Refusal::Unauthorized)
    }

    /// The token that was shown, where tokens mean anything.
    fn token<'a>(&self, query: &'a Query) -> Option<&'a str> {
        query.text("token").filter(|_| !self.settings.secrets.is_empty())
    }

    /// What a token allows. It is not said what of it is wrong, and nothing is read before it is right.
    fn check_token(
        &self,
        token: &str,
        route: &Route,
        headers: &HeaderMap,
        query: &Query,
    ) -> Result<LinkRights, Refusal> {
        if key_of(headers, query)?.is_some() {
            return Err(Refusal::Unauthorized);
        }
        let Route::Instance { id, operation } = route else { return Err(Refusal::Unauthorized) };
        let settings = &self.settings;
        let grant = granted(&settings.secrets, token, &self.hub(), id, settings.now());
        let rights = grant.ok_or(Refusal::Unauthorized)?.rights;
        if rights.contains(operation.right()) { Ok(rights) } else { Err(NOT_IN_LINK) }
    }
}

/// The key that a request shows, in its header or its query.
fn key_of<'a>(headers: &'a HeaderMap, query: &'a Query) -> Result<Option<&'a str>, Refusal> {
    let mut in_header = headers.get_all(KEY_HEADER).iter();
    let in_header = match (in_header.next(), in_header.next()) {
        (None, _) => None,
        (Some(key), None) => Some(key.to_str().map_err(|_| Refusal::Unauthorized)?),
        (Some(_), Some(_)) => return Err(Refusal::Unauthorized),
    };
    Ok(in_header.filter(|key| !key.is_empty()).or(query.text("code")))
}

impl Ask<'_> {
    async fn carry_out(&self, route: Route, body: Body) -> Result<Response, Refusal> {
        match route {
            Route::Start { name, id } => operations::start(self, name, id, body).await,
            Route::List => operations::list(self).await,
            Route::Instance { id, operation } => self.carry_out_on(&id, operation, body).await,
            Route::MakePrimary => Err(Refusal::argument("this server has no application leases")),
            Route::PurgeMany => operations::purge_many(self).await,
            Route::OpenApi => openapi::answer(&self.links.base),
        }
    }

    async fn carry_out_on(
        &self,
        id: &str,
        operation: Operation,
        body: Body,
    ) -> Result<Response, Refusal> {
        match operation {
            Operation::Status => operations::status(self, id).await,
            Operation::RaiseEvent(name) => operations::raise_event(self, id, name, body).await,
            Operation::Terminate => operations::terminate(self, id).await,
            Operation::Suspend => operations::suspend(self, id).await,
            Operation::Resume => operations::resume(self, id).await,
            Operation::Restart => operations::restart(self, id).await,
            Operation::Purge => operations::purge(self, id).await,
            Operation::Rewind => operations::rewind(self, id).await,
        }
    }

    /// The body, within the limits of this way in.
    pub(super) async fn read(&self, body: Body) -> Result<Vec<u8>, Refusal> {
        let limits = &self.api.settings.limits;
        let bytes_max = match self.mount {
            Mount::Public => limits.body_bytes,
            Mount::Rpc => limits.rpc_body_bytes,
        };
        body::read(self.headers, body, bytes_max, limits.body_time).await
    }

    /// The one JSON value of a body; its own limit is that of every payload.
    pub(super) fn payload(&self, body: &[u8]) -> Result<Payload, Refusal> {
        if body.len() > limits::PAYLOAD_BYTES_MAX {
            return Err(body::TOO_LARGE);
        }
        Ok(json::payload(body)?)
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.query.flag(name).unwrap_or(false)
    }

    /// Whether it may do this with its instance.
    pub(super) fn may(&self, rights: LinkRights) -> bool {
        self.rights.is_none_or(|own| own.contains(rights))
    }

    /// Whether it is about one instance and must not touch another.
    pub(super) fn is_for_one(&self) -> bool {
        self.rights.is_some()
    }

    /// Whether it sees inputs: those who may do, and do not say otherwise.
    pub(super) fn shows_inputs(&self) -> bool {
        self.may(LinkRights::INSPECT) && self.query.flag("showinput").unwrap_or(true)
    }
}
