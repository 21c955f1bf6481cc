//! Addresses of hosts: one that is named by its address is that address, at once; a name is looked up as ureq does.
//!
//! ureq starts a thread for every look-up that has a time limit, before every request. A server on this machine is asked by its address, and
//! on a busy machine that thread takes longer to be run than the server to answer.

use std::net::{IpAddr, SocketAddr};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// A resolver that looks up nothing but names.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    names: DefaultResolver,
}

impl Resolver for Addresses {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        match address(uri) {
            Some(address) => {
                let mut addresses = self.empty();
                addresses.push(address);
                Ok(addresses)
            }
            None => self.names.resolve(uri, config, timeout),
        }
    }
}

/// The address that a URL names.
fn address(uri: &Uri) -> Option<SocketAddr> {
    let host = uri.host()?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let address: IpAddr = bare.unwrap_or(host).parse().ok()?;
    let port = match (uri.port_u16(), uri.scheme_str()?) {
        (Some(port), _) => port,
        (None, "https") => 443,
        (None, "http") => 80,
        (None, _) => return None,
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_names_are_not() {
        for (url, expected) in [
            ("http://127.0.0.1:8080/v1", Some("127.0.0.1:8080")),
            ("https://192.0.2.7/v1", Some("192.0.2.7:443")),
            ("http://[::1]/", Some("[::1]:80")),
            ("https://[2001:db8::1]:8443/", Some("[2001:db8::1]:8443")),
            ("http://localhost:8080/", None),
            ("https://127.0.0.1.example.org/", None),
        ] {
            let found = address(&url.parse().unwrap()).map(|found| found.to_string());
            assert_eq!(found.as_deref(), expected, "{url}");
        }
    }
}
