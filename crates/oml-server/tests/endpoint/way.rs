//! The way to an endpoint: TLS, a proxy, and time to connect.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use oml_server::endpoint::{Api, EndpointError, EndpointOptions, Proxy, Roots};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;

use crate::asker::ask;
use crate::server::{Server, http, read_request, said};

const ROOT: &[u8] = include_bytes!("tls/root.pem");
const CERTIFICATE: &[u8] = include_bytes!("tls/server.der");
const KEY: &[u8] = include_bytes!("tls/server.key.der");

/// The port of an HTTPS server that is `localhost`.
fn tls_server() -> u16 {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(KEY.to_vec()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(CERTIFICATE.to_vec())], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            // A client that does not trust this ends the handshake.
            if stream.flush().is_err() {
                continue;
            }
            let mut reader = BufReader::new(stream);
            if read_request(&mut reader).is_some() {
                let answer = said(&json!("me"));
                let _ = reader.get_mut().write_all(&answer);
                reader.get_mut().conn.send_close_notify();
                let _ = reader.get_mut().flush();
            }
        }
    });
    port
}

fn options(url: &str) -> EndpointOptions {
    EndpointOptions {
        backoff: Duration::from_millis(1),
        attempts: 2,
        ..EndpointOptions::new(url, "m")
    }
}

#[test]
fn certificates_are_checked_against_the_roots() {
    let port = tls_server();
    let roots = Roots::from_pem(ROOT).unwrap();

    let (reply, tries) = ask(options(&format!("https://localhost:{port}")), Api::Chat);
    let error = reply.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
    assert_eq!(tries.len(), 1, "a certificate does not get better");

    let mut trusting = options(&format!("https://localhost:{port}"));
    trusting.roots = Some(roots.clone());
    let (reply, _) = ask(trusting, Api::Chat);
    assert_eq!(reply.unwrap().text, "me");

    // The certificate is for localhost, by name.
    let mut elsewhere = options(&format!("https://127.0.0.1:{port}"));
    elsewhere.roots = Some(roots);
    let (reply, _) = ask(elsewhere, Api::Chat);
    let error = reply.unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "{error}");
}

#[test]
fn roots_are_certificates() {
    for (pem, got) in [
        (&b""[..], "none"),
        (b"no PEM at all", "none"),
        (
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "none",
        ),
        (
            b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
            "PEM: ",
        ),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "PEM: "),
    ] {
        let error = Roots::from_pem(pem).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!(
                "root certificates: expected at least one certificate in PEM, got {got}"
            )),
            "{error}"
        );
    }
}

#[test]
fn a_handshake_that_never_comes_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut options = options(&format!("https://localhost:{port}"));
    options.connect_timeout = Duration::from_millis(200);
    let started = Instant::now();
    let (reply, tries) = ask(options, Api::Chat);
    assert_eq!(reply.unwrap_err().to_string(), "endpoint: timeout: connect");
    assert_eq!(tries.len(), 2);
    assert!(started.elapsed() < Duration::from_secs(20));
}

/// The address of a proxy that answers `CONNECT` with `status`, and what it was told.
fn proxy(status: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let head = head(&mut client);
            heard.lock().unwrap().push(head.clone());
            client
                .write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes())
                .unwrap();
            if !status.starts_with("200") {
                continue;
            }
            let target = head.split(' ').nth(1).unwrap();
            let mut target = TcpStream::connect(target).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), target.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            let _ = std::io::copy(&mut target, &mut client);
        }
    });
    (address, told)
}

/// Byte by byte, since what follows is for the target.
fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn a_proxy_connects() {
    let server = Server::saying(|_, _| said(&json!("me")));
    let (address, told) = proxy("200 OK");
    let mut options = options(&format!("http://{}", server.address));
    options.proxy = Some(Proxy::new(&format!("http://{}@{address}", "me:swordfish")).unwrap());
    let (reply, _) = ask(options, Api::Chat);
    assert_eq!(reply.unwrap().text, "me");
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with(&format!("CONNECT {} HTTP/1.1\r\n", server.address)));
    // Base64 of the name and the password.
    assert!(told[0].contains("Proxy-Authorization: Basic bWU6c3dvcmRmaXNo\r\n"));
    assert_eq!(server.arrived()[0].path, "/v1/chat/completions");
    assert!(
        !server.arrived()[0]
            .headers
            .contains_key("proxy-authorization")
    );
}

#[test]
fn a_proxy_carries_tls() {
    let port = tls_server();
    let (address, told) = proxy("200 OK");
    let mut options = options(&format!("https://localhost:{port}"));
    options.proxy = Some(Proxy::new(&format!("http://{address}")).unwrap());
    options.roots = Some(Roots::from_pem(ROOT).unwrap());
    let (reply, _) = ask(options, Api::Chat);
    assert_eq!(reply.unwrap().text, "me");
    let told = told.lock().unwrap();
    assert!(told[0].starts_with(&format!("CONNECT localhost:{port} HTTP/1.1\r\n")));
    assert!(!told[0].contains("Authorization"));
}

#[test]
fn a_proxy_that_refuses_is_a_fault_without_its_password() {
    let server = Server::saying(|_, _| http("200 OK", "", b"{}"));
    let (address, _) = proxy("407 Proxy Authentication Required");
    let mut options = options(&format!("http://{}", server.address));
    options.proxy = Some(Proxy::new(&format!("http://{}@{address}", "me:swordfish")).unwrap());
    let (reply, tries) = ask(options, Api::Chat);
    let error = reply.unwrap_err();
    assert!(matches!(error, EndpointError::Transport(_)));
    let error = error.to_string();
    assert!(
        error.contains("407") && !error.contains("swordfish"),
        "{error}"
    );
    assert!(server.arrived().is_empty());
    assert_eq!(tries.len(), 1);
}
