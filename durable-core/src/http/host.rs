//! Whom requests may come from, and where links lead.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::{Authority, Scheme};
use axum::http::{HeaderMap, HeaderName, Method, Uri, header};

/// The address under which the API is reached from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicUrl {
    https: bool,
    authority: Authority,
    /// Without a slash at its end.
    path: String,
}

impl PublicUrl {
    /// `None` for what is not `http://host[:port][/path]`, or the same with `https`.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let https = *uri.scheme()? == Scheme::HTTPS;
        let authority = uri.authority()?.clone();
        let plain = (https || *uri.scheme()? == Scheme::HTTP)
            && uri.query().is_none()
            && !authority.as_str().contains('@');
        plain.then(|| Self { https, authority, path: uri.path().trim_end_matches('/').to_owned() })
    }

    pub(super) fn base(&self) -> String {
        format!("{}://{}{}", scheme(self.https), self.authority, self.path)
    }

    fn is_origin(&self, https: bool, authority: &Authority) -> bool {
        https == self.https && same(https, authority, &self.authority)
    }
}

/// The addresses of this server.
#[derive(Debug, Clone, Default)]
pub(super) struct Hosts {
    pub(super) public: Option<PublicUrl>,
    pub(super) listen: Option<SocketAddr>,
}

/// The host that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// None at all.
    Nothing,
    /// Loopback, the listen address, or the public one.
    Own(Authority),
    /// Any other, or what is no host.
    Foreign,
}

impl Hosts {
    pub(super) fn named(&self, headers: &HeaderMap, uri: &Uri) -> Named {
        match host(headers, uri) {
            Ok(None) => Named::Nothing,
            Ok(Some(host)) if self.is_own(&host) => Named::Own(host),
            Ok(Some(_)) | Err(NoHost) => Named::Foreign,
        }
    }

    fn is_own(&self, host: &Authority) -> bool {
        let address = address(host);
        let is_listen = self.listen.is_some_and(|listen| {
            let port = host.port_u16().unwrap_or(80) == listen.port();
            // Who listens on every address is reached by any; names can be made to lead anywhere.
            port && address.is_some_and(|ip| ip == listen.ip() || listen.ip().is_unspecified())
        });
        let is_public =
            self.public.as_ref().is_some_and(|public| same(public.https, host, &public.authority));
        is_loopback(host) || is_listen || is_public
    }

    /// Where links lead: the public URL if there is one, else this path where the request went.
    pub(super) fn base(&self, named: &Named, path: &str) -> String {
        self.public.as_ref().map_or_else(|| self.here(named, path), PublicUrl::base)
    }

    /// This path on the host that was named, if that is an own one, or on the listen address.
    pub(super) fn here(&self, named: &Named, path: &str) -> String {
        match (named, self.listen) {
            (Named::Own(host), _) => format!("http://{host}{path}"),
            (_, Some(listen)) if listen.ip().is_unspecified() => {
                format!("http://localhost:{}{path}", listen.port())
            }
            (_, Some(listen)) => format!("http://{listen}{path}"),
            (_, None) => format!("http://localhost{path}"),
        }
    }

    /// Whether a page of another site sent this to change something.
    pub(super) fn is_cross_site(&self, method: &Method, headers: &HeaderMap, uri: &Uri) -> bool {
        if !matches!(*method, Method::POST | Method::DELETE | Method::PUT | Method::PATCH) {
            return false;
        }
        let mut origins = headers.get_all(header::ORIGIN).iter().peekable();
        if origins.peek().is_none() {
            const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
            let site = headers.get(FETCH_SITE).map(|site| site.as_bytes());
            return !matches!(site, None | Some(b"same-origin" | b"none"));
        }
        let host = host(headers, uri).ok().flatten();
        !origins.all(|origin| {
            let Some(origin) = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok())
            else {
                return false;
            };
            let (Some(scheme), Some(authority)) = (origin.scheme(), origin.authority()) else {
                return false;
            };
            let https = *scheme == Scheme::HTTPS;
            let is_public =
                self.public.as_ref().is_some_and(|public| public.is_origin(https, authority));
            is_public || host.as_ref().is_some_and(|host| same(https, authority, host))
        })
    }
}

/// What stands where a host should.
struct NoHost;

/// The host that a request names: one, in its header, or in the URL where the protocol has it there.
fn host(headers: &HeaderMap, uri: &Uri) -> Result<Option<Authority>, NoHost> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Ok(uri.authority().cloned()),
        (Some(host), None) => {
            let host: Option<Authority> = host.to_str().ok().and_then(|host| host.parse().ok());
            let host = host.filter(is_host).ok_or(NoHost)?;
            // A URL that names one, too, names the same.
            match uri.authority() {
                Some(other) if *other != host => Err(NoHost),
                Some(_) | None => Ok(Some(host)),
            }
        }
        (Some(_), Some(_)) => Err(NoHost),
    }
}

/// Whether it is a name or address and perhaps a port, and nothing else.
fn is_host(authority: &Authority) -> bool {
    let rest = authority.as_str().strip_prefix(authority.host());
    rest.is_some_and(|rest| rest.is_empty() || authority.port_u16().is_some())
}

/// Whether it names this machine only.
pub(super) fn is_loopback(host: &Authority) -> bool {
    host.host().eq_ignore_ascii_case("localhost")
        || address(host).is_some_and(|address| address.is_loopback())
}

fn address(host: &Authority) -> Option<IpAddr> {
    host.host().trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The same host and port, for this scheme.
fn same(https: bool, one: &Authority, other: &Authority) -> bool {
    let port = |authority: &Authority| authority.port_u16().unwrap_or(if https { 443 } else { 80 });
    one.host().eq_ignore_ascii_case(other.host()) && port(one) == port(other)
}

fn scheme(https: bool) -> &'static str {
    if https { "https" } else { "http" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        of.iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn hosts(public: Option<&str>, listen: Option<&str>) -> Hosts {
        Hosts {
            public: public.map(|url| PublicUrl::parse(url).unwrap()),
            listen: listen.map(|address| address.parse().unwrap()),
        }
    }

    fn base(hosts: &Hosts, host: &str) -> (bool, String) {
        let named = hosts.named(&headers(&[("host", host)]), &Uri::from_static("/x"));
        (named != Named::Foreign, hosts.base(&named, "/api"))
    }

    #[test]
    fn a_public_url_is_an_origin_with_a_path() {
        for (url, base) in [
            ("https://example.org", "https://example.org"),
            ("https://example.org:8443/durable/", "https://example.org:8443/durable"),
            ("http://[::1]:80/a", "http://[::1]:80/a"),
        ] {
            assert_eq!(PublicUrl::parse(url).unwrap().base(), base);
        }
        for bad in
            ["", "example.org", "/x", "ftp://a", "https://a?b=c", "https://user@a", "https://"]
        {
            assert_eq!(PublicUrl::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn links_lead_to_the_host_that_was_named_if_it_is_an_own_one() {
        let none = hosts(None, None);
        for own in ["localhost:7071", "LOCALHOST", "127.0.0.1:1", "127.9.9.9", "[::1]:7071"] {
            assert_eq!(base(&none, own), (true, format!("http://{own}/api")));
        }
        let at = hosts(None, Some("10.0.0.5:7071"));
        assert_eq!(base(&at, "10.0.0.5:7071"), (true, "http://10.0.0.5:7071/api".into()));
        for foreign in [
            "evil.example",
            "10.0.0.5",
            "10.0.0.6:7071",
            "localhost.evil.example",
            "a@localhost",
            "a b",
        ] {
            assert_eq!(base(&at, foreign), (false, "http://10.0.0.5:7071/api".into()), "{foreign}");
            assert_eq!(base(&none, foreign), (false, "http://localhost/api".into()), "{foreign}");
        }
        let anywhere = hosts(None, Some("0.0.0.0:7071"));
        assert_eq!(
            base(&anywhere, "192.168.1.5:7071"),
            (true, "http://192.168.1.5:7071/api".into())
        );
        assert_eq!(
            base(&anywhere, "evil.example:7071"),
            (false, "http://localhost:7071/api".into())
        );
    }

    #[test]
    fn links_lead_to_the_public_url_whatever_host_was_named() {
        let public = hosts(Some("https://example.org/durable"), None);
        for (host, own) in [
            ("example.org", true),
            ("Example.org:443", true),
            ("example.org:80", false),
            ("localhost:7071", true),
            ("evil.example", false),
        ] {
            assert_eq!(base(&public, host), (own, "https://example.org/durable".into()), "{host}");
        }
    }

    #[test]
    fn two_hosts_are_foreign_and_none_is_nothing() {
        let hosts = hosts(None, None);
        let mut two = headers(&[("host", "localhost")]);
        two.append(header::HOST, "localhost".parse().unwrap());
        assert_eq!(hosts.named(&two, &Uri::from_static("/")), Named::Foreign);
        let none = HeaderMap::new();
        assert_eq!(hosts.named(&none, &Uri::from_static("/")), Named::Nothing);
        let uri = Uri::from_static("http://localhost:7071/x");
        assert_eq!(hosts.named(&none, &uri), Named::Own("localhost:7071".parse().unwrap()));
        for (host, own) in
            [("localhost:7071", true), ("LOCALHOST:7071", true), ("127.0.0.1", false)]
        {
            let named = hosts.named(&headers(&[("host", host)]), &uri);
            assert_eq!(named != Named::Foreign, own, "{host} and {uri}");
        }
    }

    fn crosses(hosts: &Hosts, method: Method, headers: &HeaderMap) -> bool {
        hosts.is_cross_site(&method, headers, &Uri::from_static("/x"))
    }

    #[test]
    fn a_page_of_another_origin_changes_nothing() {
        let hosts = hosts(Some("https://example.org/durable"), None);
        for (origin, cross) in [
            ("http://localhost:7071", false),
            ("http://localhost:3000", true),
            ("http://localhost", true),
            ("https://example.org", false),
            ("http://example.org", true),
            ("https://evil.example", true),
            ("null", true),
            ("", true),
        ] {
            let headers = headers(&[("host", "localhost:7071"), ("origin", origin)]);
            assert_eq!(crosses(&hosts, Method::POST, &headers), cross, "{origin}");
            assert_eq!(crosses(&hosts, Method::DELETE, &headers), cross, "{origin}");
            assert!(!crosses(&hosts, Method::GET, &headers), "{origin}");
        }
        for (site, cross) in
            [("cross-site", true), ("same-site", true), ("same-origin", false), ("none", false)]
        {
            let headers = headers(&[("host", "localhost:7071"), ("sec-fetch-site", site)]);
            assert_eq!(crosses(&hosts, Method::POST, &headers), cross, "{site}");
        }
        assert!(!crosses(&hosts, Method::POST, &headers(&[("host", "localhost:7071")])));
        // Where the protocol has the host in the URL.
        let uri = Uri::from_static("https://localhost:7071/x");
        for (origin, cross) in [("https://localhost:7071", false), ("https://evil.example", true)] {
            let headers = headers(&[("origin", origin)]);
            assert_eq!(hosts.is_cross_site(&Method::POST, &headers, &uri), cross, "{origin}");
        }
    }
}
