//! What the gate takes of a request, over real sockets, with a model that answers at once: accepted permissions a second and how long
//! they take, receipts and all on disk.
//!
//! ```sh
//! cargo bench -p oml-server --bench gate [-- FOLDER | postgres://…]
//! ```
//!
//! Closed: each of the connections asks again as soon as it is answered; that is the most. Open: requests start at 80 % of that rate
//! whether or not earlier ones are answered, and a latency counts from when its request was due. Server and client share the cores.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use oml_core::eip712::Domain;
use oml_core::permission::{
    Chain, FileAuthority, Grant, Issuer, Issuers, ModelId, NONE, Permission, Scope, SignedGrant,
    Tenure, Token, UNLIMITED_CALLS, UNLIMITED_SPEND,
};
use oml_core::secret::OwnerSeed;
use oml_core::serving::{Asked, Ending, Event, Prepared, Question, QuestionError, TextModel};
use oml_core::signing::{Address, SigningKey};
use oml_server::gateway::{
    Answers, Gate, Gateway, Limits, Offer, Plan, RunError, StorePlace, Terms, run,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

const MODEL: ModelId = ModelId([7; 32]);
const CONNECTIONS: usize = 128;
const WARM: usize = 4_000;
const CLOSED: usize = 40_000;
const OPEN_SECONDS: f64 = 10.0;

/// Says what it was asked, at once.
struct Echo;

impl TextModel for Echo {
    fn prepare(&self, question: Question) -> Result<Prepared, QuestionError> {
        let text = match question.asked {
            Asked::Text(text) => text,
            Asked::Chat(turns) => turns.into_iter().map(|turn| turn.content).collect(),
        };
        Ok(Prepared {
            prompt_tokens: 1,
            start: Box::new(move |mut listener| {
                listener(Event::Text(text));
                listener(Event::Ended {
                    ending: Ending::Stop,
                    tokens: 1,
                });
                Ok(())
            }),
        })
    }

    fn context(&self) -> usize {
        4096
    }
}

fn key(role: u8) -> SigningKey {
    SigningKey::derive(&OwnerSeed::new([role; 32]))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Whole requests, each with a permission of its own under one grant.
fn requests(count: usize) -> Vec<Vec<u8>> {
    let domain = Domain::OFF_CHAIN;
    let scope = Scope {
        any_input: true,
        ..Scope::default()
    };
    let grant = Grant {
        model: MODEL,
        parent: NONE,
        licensee: key(3).address(),
        delegate: key(3).address(),
        host: Address::ZERO,
        max_calls: UNLIMITED_CALLS,
        max_spend: UNLIMITED_SPEND,
        scope_hash: NONE,
        not_before: now() - 10,
        not_after: now() + 10_000,
        nonce: u128::from(std::process::id()),
    };
    let chain = Chain {
        domain,
        grants: vec![SignedGrant::sign(&domain, grant, scope, &key(1))],
    };
    let (host, licensee, delegate) = (key(2).address(), key(3).address(), key(3));
    let issued_at = now();
    (0..count)
        .map(|nonce| {
            let permission = Permission {
                model: MODEL,
                grant: NONE,
                licensee,
                host,
                input_hash: NONE,
                nonce: nonce as u128,
                cumulative: 0,
                issued_at,
                deadline: issued_at + 3600,
            };
            let token = Token::sign_under(&chain, permission, &delegate).to_text();
            let token = token.unwrap_or_default();
            let body = r#"{"model":"m","messages":[{"role":"user","content":"What is the capital of France?"}]}"#;
            format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\noml-permission: {token}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        })
        .collect()
}

/// Sends one request and reads its answer; `true` for 200.
async fn ask(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) -> bool {
    if stream.write_all(request).await.is_err() {
        return false;
    }
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
            return false;
        }
        let Some(head) = buffer.windows(4).position(|w| w == b"\r\n\r\n") else {
            continue;
        };
        let text = String::from_utf8_lossy(&buffer[..head]);
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if buffer.len() >= head + 4 + length.unwrap_or(0) {
            return buffer.starts_with(b"HTTP/1.1 200");
        }
    }
}

/// Asks all requests over [`CONNECTIONS`] connections; request `i` is due at `i / rate`. Gives latencies, in seconds, and seconds in all.
async fn load(address: &str, requests: Arc<Vec<Vec<u8>>>, rate: f64) -> (Vec<f64>, f64) {
    let next = Arc::new(AtomicUsize::new(0));
    let latencies = Arc::new(Mutex::new(Vec::with_capacity(requests.len())));
    let begin = Instant::now();
    let tasks = (0..CONNECTIONS).map(|_| {
        let (next, latencies, requests) = (next.clone(), latencies.clone(), requests.clone());
        let address = address.to_owned();
        tokio::spawn(async move {
            let Ok(mut stream) = TcpStream::connect(&address).await else {
                return;
            };
            let _ = stream.set_nodelay(true);
            let (mut buffer, mut own) = (Vec::new(), Vec::new());
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(request) = requests.get(i) else {
                    break;
                };
                let due = begin + Duration::from_secs_f64(i as f64 / rate);
                tokio::time::sleep_until(due.into()).await;
                let due = if rate.is_finite() {
                    due
                } else {
                    Instant::now()
                };
                if ask(&mut stream, request, &mut buffer).await {
                    own.push(due.elapsed().as_secs_f64());
                }
            }
            latencies.lock().await.extend(own);
        })
    });
    futures_util::future::join_all(tasks).await;
    let seconds = begin.elapsed().as_secs_f64();
    let mut latencies = std::mem::take(&mut *latencies.lock().await);
    latencies.sort_by(f64::total_cmp);
    (latencies, seconds)
}

fn say(name: &str, asked: usize, latencies: &[f64], seconds: f64) {
    let at = |share: f64| {
        let place =
            ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
        latencies.get(place).map_or(f64::NAN, |s| s * 1e3)
    };
    #[expect(clippy::print_stdout, reason = "a bench prints what it measured")]
    {
        println!(
            "{name}: {} of {asked} accepted, {:.0}/s; median {:.2} ms, 99 % {:.2} ms, longest {:.2} ms",
            latencies.len(),
            latencies.len() as f64 / seconds,
            at(0.5),
            at(0.99),
            at(1.0),
        );
    }
}

fn main() {
    // What criterion's harness and cargo's own flags say is of no use here.
    let place = std::env::args()
        .skip(1)
        .find(|word| !word.starts_with("--"));
    let folder = tempfile::tempdir();
    let Ok(folder) = folder else { return };
    let store = match place.as_deref().map(StorePlace::new) {
        Some(StorePlace::File(path)) => StorePlace::File(path.join("bench.redb")),
        Some(database) => database,
        None => StorePlace::File(PathBuf::from(folder.path()).join("bench.redb")),
    };
    let plan = Plan {
        public: "127.0.0.1:0".to_owned(),
        tls: None,
        admin: None,
        threads: 2,
        store,
    };
    let issuers = Issuers {
        domain: Domain::OFF_CHAIN,
        max_age: None,
        issuers: vec![Issuer {
            model: MODEL,
            address: key(1).address(),
            tenure: Tenure {
                from: 0,
                revoked_at: None,
            },
        }],
    };
    let Ok(authority) = FileAuthority::new(&issuers, &[]) else {
        return;
    };
    let terms = Terms {
        model: MODEL,
        model_version: None,
        region: None,
        price: 0,
        skew: 30,
        longest_life: 86_400,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, listening) = mpsc::channel();
    let stopped = stop.clone();
    let server = std::thread::spawn(move || {
        let build = |store| {
            let gate = Gate::new(terms, key(2), Arc::new(authority), store);
            let offer = Offer {
                model: MODEL,
                host: gate.host(),
                domain: Domain::OFF_CHAIN,
                price: 0,
                payment: None,
                issuer: None,
            };
            let answers = Answers::Model(Arc::new(Echo));
            let limits = Limits {
                calls: 2 * CONNECTIONS,
                ..Limits::default()
            };
            let names = vec!["m".to_owned()];
            Ok::<_, RunError>(Gateway::new(names, gate, answers, offer, limits, None))
        };
        let ready = |ready: &oml_server::gateway::Ready| {
            let _ = sender.send(ready.url.clone());
        };
        run(plan, build, ready, || stopped.load(Ordering::SeqCst))
    });
    let Ok(url) = listening.recv() else { return };
    let address = url.trim_start_matches("http://").to_owned();
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
    else {
        return;
    };
    let share = |requests: &mut Vec<Vec<u8>>, count: usize| {
        let rest = requests.split_off(count.min(requests.len()));
        Arc::new(std::mem::replace(requests, rest))
    };
    let open = (OPEN_SECONDS * 20_000.0) as usize;
    let mut all = requests(WARM + CLOSED + open);
    runtime.block_on(async {
        load(&address, share(&mut all, WARM), f64::INFINITY).await;
        let closed = share(&mut all, CLOSED);
        let (latencies, seconds) = load(&address, closed, f64::INFINITY).await;
        say("closed", CLOSED, &latencies, seconds);
        let rate = 0.8 * latencies.len() as f64 / seconds;
        let due = (rate * OPEN_SECONDS) as usize;
        let (latencies, seconds) = load(&address, share(&mut all, due), rate).await;
        say(&format!("open at {rate:.0}/s"), due, &latencies, seconds);
    });
    stop.store(true, Ordering::SeqCst);
    let _ = server.join();
}
