//! The APIs that an endpoint may speak, and where each is found under a base URL.
//!
//! | name | path | source |
//! |---|---|---|
//! | `chat` | `/v1/chat/completions` | OpenAI API reference, "Create chat completion" |
//! | `completions` | `/v1/completions` | OpenAI API reference, "Create completion" |
//! | `ollama-chat` | `/api/chat` | Ollama API, "Generate a chat completion" |
//! | `ollama-generate` | `/api/generate` | Ollama API, "Generate a completion" |
//!
//! A URL that ends in the path of its API is whole; another is a base, as in OpenAI's own clients: the last part of the path is
//! added, after `/v1` or `/api` where there is no path.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ureq::http::Uri;

use super::EndpointError;

/// How an endpoint is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Api {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's text completions.
    Completions,
    /// Ollama's own chat.
    OllamaChat,
    /// Ollama's own completion, without a template around the text.
    OllamaGenerate,
}

impl Api {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Chat,
        Self::Completions,
        Self::OllamaChat,
        Self::OllamaGenerate,
    ];

    /// Its name in settings and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::OllamaChat => "ollama-chat",
            Self::OllamaGenerate => "ollama-generate",
        }
    }

    /// Whether it takes messages with roles, rather than one text.
    #[must_use]
    pub const fn has_roles(self) -> bool {
        matches!(self, Self::Chat | Self::OllamaChat)
    }

    /// The API whose path a URL ends in; `None` for a base.
    #[must_use]
    pub fn of_url(url: &str) -> Option<Self> {
        let path = url.trim_end_matches('/');
        // "/chat/completions" ends in "/completions" as well, and stands first.
        Self::ALL
            .into_iter()
            .find(|api| path.ends_with(api.ending()))
    }

    /// Who promises the form of its answers.
    pub(super) const fn family(self) -> &'static str {
        match self {
            Self::Chat | Self::Completions => "OpenAI",
            Self::OllamaChat | Self::OllamaGenerate => "Ollama",
        }
    }

    const fn ending(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completions => "/completions",
            Self::OllamaChat => "/api/chat",
            Self::OllamaGenerate => "/api/generate",
        }
    }

    /// What a base with the path `path` lacks.
    fn missing(self, path: &str) -> String {
        match self {
            Self::Chat | Self::Completions => {
                let version = if path.is_empty() { "/v1" } else { "" };
                format!("{version}{}", self.ending())
            }
            Self::OllamaChat | Self::OllamaGenerate => {
                let ending = self.ending();
                let has_api = path.ends_with("/api");
                ending[if has_api { "/api".len() } else { 0 }..].to_owned()
            }
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Api {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let named = Self::ALL.into_iter().find(|api| api.name() == text);
        named.ok_or(EndpointError::Api)
    }
}

/// Where requests of `api` go.
pub(super) fn resolve(text: &str, api: Api, allow_http: bool) -> Result<String, EndpointError> {
    let fault = |expected| EndpointError::Url { expected };
    let url: Uri = text.parse().map_err(|_| fault("an http or https URL"))?;
    let (Some(host), Some(authority)) = (url.host(), url.authority()) else {
        return Err(fault("an http or https URL"));
    };
    if authority.as_str().contains('@') {
        return Err(fault("no user name or password in it"));
    }
    if url.query().is_some() {
        return Err(fault("no query in it"));
    }
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    match url.scheme_str() {
        Some("https") => {}
        Some("http") if is_loopback || allow_http => {}
        Some("http") => return Err(EndpointError::PlainHttp),
        _ => return Err(fault("an http or https URL")),
    }
    let text = text.trim_end_matches('/');
    let path = url.path().trim_end_matches('/');
    match Api::of_url(path) {
        Some(named) if named == api => Ok(text.to_owned()),
        Some(_) => Err(fault("a base, or the path of the API that is asked for")),
        None => Ok(format!("{text}{}", api.missing(path))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_completed_and_a_whole_url_kept() {
        let table = [
            (
                "http://127.0.0.1:8000",
                Api::Chat,
                "http://127.0.0.1:8000/v1/chat/completions",
            ),
            (
                "http://[::1]:8000/v1/",
                Api::Chat,
                "http://[::1]:8000/v1/chat/completions",
            ),
            (
                "https://host/api/v1/completions",
                Api::Completions,
                "https://host/api/v1/completions",
            ),
            (
                "https://host/v1/chat/completions/",
                Api::Chat,
                "https://host/v1/chat/completions",
            ),
            (
                "https://host",
                Api::Completions,
                "https://host/v1/completions",
            ),
            (
                "https://host/v1",
                Api::Completions,
                "https://host/v1/completions",
            ),
            (
                "http://localhost:11434",
                Api::OllamaChat,
                "http://localhost:11434/api/chat",
            ),
            (
                "http://localhost:11434/api/",
                Api::OllamaGenerate,
                "http://localhost:11434/api/generate",
            ),
            (
                "https://host/ollama",
                Api::OllamaGenerate,
                "https://host/ollama/api/generate",
            ),
            (
                "https://host/api/chat",
                Api::OllamaChat,
                "https://host/api/chat",
            ),
        ];
        for (given, api, url) in table {
            assert_eq!(resolve(given, api, false).unwrap(), url);
            assert_eq!(Api::of_url(url), Some(api));
        }
        assert_eq!(Api::of_url("https://host/v1"), None);
    }

    #[test]
    fn the_path_of_another_api_is_refused() {
        for (url, api) in [
            ("https://host/v1/chat/completions", Api::Completions),
            ("https://host/v1/completions", Api::Chat),
            ("https://host/api/chat", Api::OllamaGenerate),
        ] {
            assert!(
                matches!(resolve(url, api, false), Err(EndpointError::Url { .. })),
                "{url}"
            );
        }
    }

    #[test]
    fn plain_http_stays_on_this_machine_unless_it_is_allowed() {
        for url in [
            "http://example.org/v1",
            "http://127.0.0.1.example.org",
            "http://10.0.0.1",
        ] {
            assert!(
                matches!(
                    resolve(url, Api::Chat, false),
                    Err(EndpointError::PlainHttp)
                ),
                "{url}"
            );
            assert!(resolve(url, Api::Chat, true).is_ok());
        }
        assert!(resolve("http://localhost:8000", Api::Chat, false).is_ok());
    }

    #[test]
    fn urls_that_hide_something_are_refused() {
        for url in [
            "https://key@host/v1",
            "https://host/v1?key=1",
            "ftp://host",
            "host/v1",
            "",
        ] {
            assert!(
                matches!(
                    resolve(url, Api::Chat, true),
                    Err(EndpointError::Url { .. })
                ),
                "{url}"
            );
        }
    }

    #[test]
    fn names_are_read_back() {
        for api in Api::ALL {
            assert_eq!(api.to_string().parse::<Api>().unwrap(), api);
        }
        assert_eq!(
            "Chat".parse::<Api>().unwrap_err().to_string(),
            "API: expected chat, completions, ollama-chat or ollama-generate"
        );
    }
}
