//! A gateway on a free port, its keys, and a client.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use oml_core::eip712::Domain;
use oml_core::permission::{
    Authority, Chain, FileAuthority, Grant, InputSalt, Issuer, Issuers, ModelId, NONE, Permission,
    Scope, SignedGrant, Tenure, Token, UNLIMITED_CALLS, UNLIMITED_SPEND, input_hash,
    input_of_request,
};
use oml_core::secret::OwnerSeed;
use oml_core::serving::{Asked, Ending, Event, Prepared, Question, QuestionError, TextModel};
use oml_core::signing::{Address, SigningKey};
use oml_server::gateway::{
    Answers, AuditLog, Gate, Gateway, Limits, Offer, Plan, RunError, StorePlace, Terms, Tls, run,
};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const MODEL: ModelId = ModelId([7; 32]);
pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const TEXT: &str = "/v1/completions";

/// The key of a role: 1 the issuer, 2 the host, 3 the licensee, 4 a stranger.
pub(crate) fn key(role: u8) -> SigningKey {
    SigningKey::derive(&OwnerSeed::new([role; 32]))
}

pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A model that says what it was asked, word by word; a word `wait` takes a while, `fail` ends in a fault.
pub(crate) struct Echo;

impl TextModel for Echo {
    fn prepare(&self, question: Question) -> Result<Prepared, QuestionError> {
        let text = match question.asked {
            Asked::Text(text) => text,
            Asked::Chat(turns) => turns.last().map(|t| t.content.clone()).unwrap_or_default(),
        };
        let words: Vec<String> = text.split_inclusive(' ').map(str::to_owned).collect();
        if words.is_empty() {
            return Err(QuestionError::Empty);
        }
        let limit = question.max_tokens.map_or(usize::MAX, usize::from);
        Ok(Prepared {
            prompt_tokens: words.len(),
            start: Box::new(move |mut listener| {
                std::thread::spawn(move || {
                    let tokens = words.len().min(limit);
                    for word in &words[..tokens] {
                        match word.trim() {
                            "wait" => std::thread::sleep(Duration::from_millis(400)),
                            "fail" => {
                                let fault = std::io::Error::other("secret inside");
                                let fault = oml_core::model::ModelError(Box::new(fault));
                                listener(Event::Failed(fault));
                                return;
                            }
                            _ => {}
                        }
                        if !listener(Event::Text(word.clone())) {
                            return;
                        }
                    }
                    let ending = match tokens < words.len() {
                        true => Ending::Length,
                        false => Ending::Stop,
                    };
                    listener(Event::Ended { ending, tokens });
                });
                Ok(())
            }),
        })
    }

    fn context(&self) -> usize {
        4096
    }
}

/// What may differ from server to server.
pub(crate) struct Setup {
    pub(crate) terms: Terms,
    pub(crate) limits: Limits,
    pub(crate) answers: Option<Answers>,
    pub(crate) authority: Arc<dyn Authority>,
    pub(crate) store: Option<StorePlace>,
    pub(crate) folder: Option<Arc<TempDir>>,
    pub(crate) tls: Option<Tls>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            terms: Terms {
                model: MODEL,
                model_version: Some("v1".to_owned()),
                region: Some("eu".to_owned()),
                price: 0,
                skew: 5,
                longest_life: 3600,
            },
            limits: Limits::default(),
            answers: None,
            authority: Arc::new(authority(None)),
            store: None,
            folder: None,
            tls: None,
        }
    }
}

pub(crate) fn authority(revoked_at: Option<u64>) -> FileAuthority {
    let issuers = Issuers {
        domain: Domain::OFF_CHAIN,
        max_age: None,
        issuers: vec![Issuer {
            model: MODEL,
            address: key(1).address(),
            tenure: Tenure {
                from: 0,
                revoked_at,
            },
        }],
    };
    FileAuthority::new(&issuers, &[]).unwrap()
}

/// A running gateway, which stops when this is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) admin: String,
    pub(crate) folder: Arc<TempDir>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(setup: Setup) -> Self {
        let folder = setup
            .folder
            .unwrap_or_else(|| Arc::new(tempfile::tempdir().unwrap()));
        let store = setup
            .store
            .unwrap_or_else(|| StorePlace::File(folder.path().join("replay.redb")));
        let log = AuditLog::open(&folder.path().join("log.jsonl")).unwrap();
        let plan = Plan {
            public: "127.0.0.1:0".to_owned(),
            tls: setup.tls,
            admin: Some("127.0.0.1:0".to_owned()),
            threads: 2,
            store,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, listening) = mpsc::channel();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let build = |store| {
                let gate = Gate::new(setup.terms, key(2), setup.authority, store);
                let offer = Offer {
                    model: MODEL,
                    host: gate.host(),
                    domain: Domain::OFF_CHAIN,
                    price: 3,
                    payment: None,
                    issuer: Some("https://issuer.example".to_owned()),
                };
                let answers = setup.answers.unwrap_or(Answers::Model(Arc::new(Echo)));
                let names = vec!["m".to_owned(), "alias".to_owned()];
                Ok::<_, RunError>(Gateway::new(
                    names,
                    gate,
                    answers,
                    offer,
                    setup.limits,
                    Some(log),
                ))
            };
            let ready = |ready: &oml_server::gateway::Ready| sender.send(ready.clone()).unwrap();
            run(plan, build, ready, || stopped.load(Ordering::SeqCst)).unwrap();
        });
        let ready = listening.recv().unwrap();
        Self {
            url: ready.url,
            admin: format!("http://{}", ready.admin.unwrap()),
            folder,
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.url.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Asks with a permission's header; gives status and answer.
    pub(crate) fn ask(&self, header: Option<&str>, path: &str, body: &Value) -> Answer {
        post(
            &format!("{}{path}", self.url),
            header,
            body.to_string().as_bytes(),
        )
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log.jsonl")).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(30)))
        .build()
        .into()
}

pub(crate) fn post(url: &str, header: Option<&str>, body: &[u8]) -> Answer {
    let mut request = agent().post(url).header("content-type", "application/json");
    if let Some(header) = header {
        request = request.header("OML-Permission", header);
    }
    answer(request.send(body).unwrap())
}

pub(crate) fn get(url: &str) -> Answer {
    answer(agent().get(url).call().unwrap())
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Answer {
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.body_mut().read_to_string().unwrap(),
    }
}

pub(crate) fn host() -> Address {
    key(2).address()
}

/// A permission for any input, signed by the issuer.
pub(crate) fn permission() -> Permission {
    static NONCE: Mutex<u128> = Mutex::new(0);
    let mut nonce = NONCE.lock().unwrap();
    *nonce += 1;
    Permission {
        model: MODEL,
        grant: NONE,
        licensee: key(3).address(),
        host: host(),
        input_hash: NONE,
        nonce: *nonce,
        cumulative: 0,
        issued_at: now(),
        deadline: now() + 60,
    }
}

/// A grant to the licensee, whose own key signs permissions under it.
pub(crate) fn grant() -> Grant {
    Grant {
        model: MODEL,
        parent: NONE,
        licensee: key(3).address(),
        delegate: key(3).address(),
        host: Address::ZERO,
        max_calls: UNLIMITED_CALLS,
        max_spend: UNLIMITED_SPEND,
        scope_hash: NONE,
        not_before: now() - 100,
        not_after: now() + 1000,
        nonce: u128::from(std::process::id()),
    }
}

pub(crate) fn open_scope() -> Scope {
    Scope {
        any_input: true,
        ..Scope::default()
    }
}

pub(crate) fn chain(grant: Grant, scope: Scope) -> Chain {
    let domain = Domain::OFF_CHAIN;
    Chain {
        domain,
        grants: vec![SignedGrant::sign(&domain, grant, scope, &key(1))],
    }
}

pub(crate) fn issued(permission: Permission) -> String {
    Token::sign_as_issuer(Domain::OFF_CHAIN, permission, &key(1))
        .to_text()
        .unwrap()
}

pub(crate) fn under(chain: &Chain, permission: Permission) -> String {
    Token::sign_under(chain, permission, &key(3))
        .to_text()
        .unwrap()
}

/// The header of a permission for one request alone.
pub(crate) fn bound(body: &Value) -> String {
    let salt = InputSalt::new([9; 32]);
    let input_hash = input_hash(&salt, &input_of_request(body).unwrap());
    let token = issued(Permission {
        input_hash,
        ..permission()
    });
    format!("{token}; salt={}", "09".repeat(32))
}
