//! What authenticates a request: the key, headers of the user's own, and a proxy's address with its password.
//!
//! `Debug` shows nothing of their values, memory is zeroised on drop, and [`Secrets`] takes them out of what is kept or shown.

use std::fmt;

use ureq::http::{HeaderName, HeaderValue, Uri};
use zeroize::Zeroizing;

use super::EndpointError;

/// Shortest value that is looked for in answers: a shorter one is no secret, and may be a word of the language.
const SHORTEST_SECRET: usize = 12;
/// What stands where a secret was.
const HIDDEN: &str = "…";

/// Headers that are set by the client, or that would change how a message is framed.
const OWN_HEADERS: [&str; 17] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The key of an endpoint; `Debug` shows nothing, memory is zeroised on drop.
#[derive(Clone)]
pub struct ApiKey(Zeroizing<String>);

impl ApiKey {
    /// Takes the key, without white space around it.
    ///
    /// # Errors
    /// [`EndpointError::Key`] for anything that cannot be part of a header.
    pub fn new(key: &str) -> Result<Self, EndpointError> {
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(EndpointError::Key);
        }
        Ok(Self(Zeroizing::new(key.to_owned())))
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(secret)")
    }
}

/// A header that the user wants sent with each request; `Debug` shows its name alone.
#[derive(Clone)]
pub struct Header {
    name: String,
    value: Zeroizing<String>,
}

impl Header {
    /// Judges a header. `User-Agent` and `Accept` may be set, and replace what the client says of itself.
    ///
    /// # Errors
    /// [`EndpointError::Header`] for a name or value that HTTP does not allow, or a header that the client sets.
    pub fn new(name: &str, value: &str) -> Result<Self, EndpointError> {
        let fault = |expected| EndpointError::Header { expected };
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| fault("a name of letters, digits and hyphens"))?;
        if OWN_HEADERS.contains(&name.as_str()) {
            return Err(fault("a name that the client does not set itself"));
        }
        let value = value.trim();
        if value.is_empty() || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(fault("a value of visible ASCII characters"));
        }
        Ok(Self {
            name: name.as_str().to_owned(),
            value: Zeroizing::new(value.to_owned()),
        })
    }

    /// Its name, in lower case.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn value(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&self.value).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Header({}: secret)", self.name)
    }
}

/// A proxy that is asked to connect (`CONNECT`, RFC 9110, section 9.3.6); `Debug` shows nothing, since it may hold a password.
#[derive(Clone)]
pub struct Proxy(ureq::Proxy);

impl Proxy {
    /// Judges the address: `http://`, then `user:password@` where the proxy wants that, then the host and its port.
    ///
    /// # Errors
    /// [`EndpointError::Proxy`], which quotes nothing of it.
    pub fn new(address: &str) -> Result<Self, EndpointError> {
        let uri: Uri = address.parse().map_err(|_| EndpointError::Proxy)?;
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if uri.scheme_str() != Some("http") || !is_bare {
            return Err(EndpointError::Proxy);
        }
        let proxy = ureq::Proxy::new(address).map_err(|_| EndpointError::Proxy)?;
        Ok(Self(proxy))
    }

    pub(super) fn to_ureq(&self) -> ureq::Proxy {
        self.0.clone()
    }

    fn password(&self) -> Option<&str> {
        self.0.password()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxy(secret)")
    }
}

/// The values that must not appear in anything kept or shown.
pub(super) struct Secrets(Vec<Zeroizing<String>>);

impl Secrets {
    pub(super) fn new(key: Option<&ApiKey>, headers: &[Header], proxy: Option<&Proxy>) -> Self {
        let own = headers.iter().map(|header| header.value.clone());
        let password = proxy.and_then(Proxy::password);
        let password = password.map(|text| Zeroizing::new(text.to_owned()));
        let values = key.map(|key| key.0.clone()).into_iter().chain(own);
        Self(values.chain(password).collect())
    }

    /// A text to be shown, without any of them.
    pub(super) fn hide(&self, text: &str) -> String {
        let hide = |text: String, secret: &Zeroizing<String>| text.replace(secret.as_str(), HIDDEN);
        self.0.iter().fold(text.to_owned(), hide)
    }

    /// Takes them out of an answer that is kept; true where there was one.
    pub(super) fn hide_in(&self, answer: &mut Vec<u8>) -> bool {
        let mut found = false;
        for secret in &self.0 {
            if secret.len() >= SHORTEST_SECRET {
                found |= replace(answer, secret.as_bytes(), HIDDEN.as_bytes());
            }
        }
        found
    }
}

/// Replaces each `pattern` in `bytes`; true where there was one. `pattern` is not empty.
fn replace(bytes: &mut Vec<u8>, pattern: &[u8], by: &[u8]) -> bool {
    let mut places = bytes.windows(pattern.len());
    if !places.any(|window| window == pattern) {
        return false;
    }
    let (mut kept, mut rest) = (Vec::with_capacity(bytes.len()), bytes.as_slice());
    while let Some((&first, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(pattern) {
            kept.extend_from_slice(by);
            rest = after;
        } else {
            kept.push(first);
            rest = after;
        }
    }
    *bytes = kept;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_shows_nothing_and_fits_a_header() {
        let key = ApiKey::new(" sk-123\n").unwrap();
        assert_eq!(
            (format!("{key:?}").as_str(), key.expose()),
            ("ApiKey(secret)", "sk-123")
        );
        for bad in ["", " ", "a\r\nHost: b", "ä"] {
            assert!(matches!(ApiKey::new(bad), Err(EndpointError::Key)));
        }
    }

    #[test]
    fn headers_are_judged_and_their_values_not_shown() {
        let header = Header::new("X-Team", " secret words ").unwrap();
        assert_eq!(format!("{header:?}"), "Header(x-team: secret)");
        assert_eq!(header.value().unwrap(), "secret words");
        assert_eq!(format!("{:?}", header.value().unwrap()), "Sensitive");
        for name in ["", "a b", "a:b", "ä", "x\r\ny"] {
            let error = Header::new(name, "v").unwrap_err().to_string();
            assert_eq!(
                error,
                "header: expected a name of letters, digits and hyphens"
            );
        }
        for name in ["Authorization", "host", "Content-Length", "TE"] {
            let error = Header::new(name, "v").unwrap_err().to_string();
            assert_eq!(
                error,
                "header: expected a name that the client does not set itself"
            );
        }
        for value in ["", " ", "a\r\nHost: b", "\u{7f}", "ä"] {
            let error = Header::new("x", value).unwrap_err().to_string();
            assert_eq!(
                error,
                "header: expected a value of visible ASCII characters"
            );
        }
    }

    #[test]
    fn a_proxy_speaks_http_and_shows_nothing() {
        let address = format!("http://{}@127.0.0.1:3128", "me:swordfish%21");
        let proxy = Proxy::new(&address).unwrap();
        assert_eq!(format!("{proxy:?}"), "Proxy(secret)");
        assert_eq!(proxy.password(), Some("swordfish!"));
        for bad in [
            "",
            "127.0.0.1:3128",
            "https://host",
            "socks5://host",
            "http://host/path",
        ] {
            assert!(
                matches!(Proxy::new(bad), Err(EndpointError::Proxy)),
                "{bad}"
            );
        }
    }

    #[test]
    fn secrets_are_taken_out() {
        let key = ApiKey::new("sk-0123456789").unwrap();
        let headers = [Header::new("x-a", "short").unwrap()];
        let secrets = Secrets::new(Some(&key), &headers, None);
        assert_eq!(secrets.hide("sk-0123456789 is short"), "… is …");
        let mut answer = b"sk-012sk-0123456789sk-0123456789 short".to_vec();
        assert!(secrets.hide_in(&mut answer));
        assert_eq!(String::from_utf8(answer).unwrap(), "sk-012…… short");
        assert!(!secrets.hide_in(&mut b"short".to_vec()));
    }
}
