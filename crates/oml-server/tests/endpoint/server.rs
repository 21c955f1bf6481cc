//! A server in this process, which says exactly the bytes that a test wants.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use oml_server::endpoint::EndpointOptions;
use serde_json::{Value, json};

/// A request as it arrived.
#[derive(Clone)]
pub(crate) struct Arrived {
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) at: Instant,
}

impl Arrived {
    pub(crate) fn body(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }
}

/// What is done with the n-th request's connection.
pub(crate) type Answer = Box<dyn Fn(usize, &Arrived, &mut TcpStream) + Send + Sync>;

/// A server that closes each connection after one request, unless the answer goes on itself.
pub(crate) struct Server {
    pub(crate) address: String,
    arrived: Arc<Mutex<Vec<Arrived>>>,
}

impl Server {
    pub(crate) fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&arrived), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                thread::spawn(move || serve(stream.unwrap(), &seen, &answer));
            }
        });
        Self { address, arrived }
    }

    /// Gives the n-th request the bytes `answer(n, request)`.
    pub(crate) fn saying(
        answer: impl Fn(usize, &Arrived) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::start(Box::new(move |number, request, stream| {
            // A client that has read enough may have gone.
            let _ = stream.write_all(&answer(number, request));
        }))
    }

    /// Answers nothing, and holds the line.
    pub(crate) fn silent() -> Self {
        Self::start(Box::new(|_, _, _| thread::sleep(Duration::from_secs(30))))
    }

    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.arrived.lock().unwrap().clone()
    }

    pub(crate) fn options(&self, path: &str) -> EndpointOptions {
        EndpointOptions {
            backoff: Duration::from_millis(1),
            ..EndpointOptions::new(&format!("http://{}{path}", self.address), "writer")
        }
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Arrived>>, answer: &Answer) {
    let Some(request) = read_request(&mut BufReader::new(stream.try_clone().unwrap())) else {
        return;
    };
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    answer(number, &request, &mut stream);
}

/// The next request of a connection; none at its end.
pub(crate) fn read_request(reader: &mut BufReader<impl Read>) -> Option<Arrived> {
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return None;
    }
    let at = Instant::now();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = HashMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or("0", String::as_str);
    let mut bytes = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut bytes).unwrap();
    Some(Arrived {
        path,
        headers,
        bytes,
        at,
    })
}

pub(crate) fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A chat's answer.
pub(crate) fn said(content: &Value) -> Vec<u8> {
    let body =
        json!({"choices": [{"message": {"role": "assistant", "content": content}}], "usage": {}});
    http("200 OK", "", body.to_string().as_bytes())
}
