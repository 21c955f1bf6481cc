//! An issuer's server: its customers get permissions for one model over HTTP, within quotas and against what they paid.
//!
//! ```text
//! POST /v1/permissions   Authorization: Bearer KEY   [Idempotency-Key: text]
//!      {"host":"0x…","count":n} or {"host":"0x…","input_hashes":["0x…",…]}, with "seconds":n? for their life
//!   ▶  {"permissions":["oml1.…",…],"deadline":n,"price":decimal text,"calls_left":n or null,"credit_left":decimal text}
//! GET  /v1/prices         what a permission costs, for which model, how long it may live
//! GET  /v1/account        Authorization: Bearer KEY    what is left
//! ```
//!
//! A customer hashes its input with a salt of its own, so the issuer learns nothing of what is asked. Permissions are signed by the
//! issuer itself, so hosts count them as paid.

mod book;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use oml_core::eip712::Domain;
use oml_core::manifest::{hex, parse_hash};
use oml_core::merkle::Hash;
use oml_core::permission::{Customer, ModelId, NONE, Permission, Token};
use oml_core::signing::{Address, SigningKey};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Builder;

use self::book::{Book, Purchase, Sale};
use crate::gateway::{
    Fault, Limits, Listening, Offer, RunError, StoreError, Tls, asking, now, read_body,
    serve_router,
};

const MAX_BODY: usize = 256 << 10;
const MAX_KEY: usize = 255;

/// What an issuer sells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerTerms {
    /// The model.
    pub model: ModelId,
    /// Where signatures count.
    pub domain: Domain,
    /// What a permission costs, in the token's smallest unit.
    pub price: u128,
    /// Hosts for which there are permissions; none is any.
    pub hosts: Vec<Address>,
    /// The longest life of a permission, in seconds.
    pub longest_life: u64,
    /// Permissions in one answer at most.
    pub most: usize,
}

/// An issuer with its key, its customers and its book.
pub struct IssuerService {
    terms: IssuerTerms,
    key: SigningKey,
    offer: Offer,
    book: Book,
    customers: RwLock<HashMap<Hash, Customer>>,
}

/// What a customer asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    host: String,
    #[serde(default)]
    count: Option<usize>,
    #[serde(default)]
    input_hashes: Option<Vec<String>>,
    #[serde(default)]
    seconds: Option<u64>,
}

impl IssuerService {
    /// An issuer whose book lies at `book`; `offer` is what a customer without credit is told.
    ///
    /// # Errors
    /// When the book cannot be opened.
    pub fn new(
        terms: IssuerTerms,
        key: SigningKey,
        offer: Offer,
        book: &Path,
        customers: Vec<Customer>,
    ) -> Result<Arc<Self>, StoreError> {
        let service = Self {
            terms,
            key,
            offer,
            book: Book::open(book)?,
            customers: RwLock::default(),
        };
        service.set_customers(customers);
        Ok(Arc::new(service))
    }

    /// Takes other customers from now on.
    pub fn set_customers(&self, customers: Vec<Customer>) {
        let known = customers.into_iter().map(|c| (c.key_hash, c)).collect();
        *self
            .customers
            .write()
            .unwrap_or_else(PoisonError::into_inner) = known;
    }

    fn customer(&self, headers: &HeaderMap) -> Result<Customer, Fault> {
        let value = headers
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok());
        let key = value.and_then(|value| value.strip_prefix("Bearer "));
        let key = key.ok_or_else(|| {
            let message = "authorization: expected Bearer and a customer's key";
            Fault::new(StatusCode::UNAUTHORIZED, "no_key", message)
        })?;
        // Looked up by its hash: how long that takes says nothing of any key.
        let hash: Hash = Sha256::digest(key.trim().as_bytes()).into();
        let customers = self
            .customers
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        customers.get(&hash).cloned().ok_or_else(|| {
            let message = "authorization: expected the key of a customer, got another";
            Fault::new(StatusCode::UNAUTHORIZED, "unknown_key", message)
        })
    }

    /// Signs what is ordered; nothing is sold yet.
    fn sign(
        &self,
        order: &Order,
        customer: &Customer,
        now: u64,
    ) -> Result<(Vec<String>, u64), Fault> {
        let terms = &self.terms;
        let host: Address = order
            .host
            .parse()
            .map_err(|error| Fault::field("invalid_value", "host", format!("host: {error}")))?;
        if !terms.hosts.is_empty() && !terms.hosts.contains(&host) {
            let message = "host: expected one for which there are permissions, got another";
            return Err(Fault::new(StatusCode::FORBIDDEN, "wrong_host", message));
        }
        let hashes = match (order.count, &order.input_hashes) {
            (Some(count), None) if (1..=terms.most).contains(&count) => vec![NONE; count],
            (None, Some(hashes)) if (1..=terms.most).contains(&hashes.len()) => {
                let read = |(i, text): (usize, &String)| {
                    let hash = text.strip_prefix("0x").and_then(parse_hash);
                    hash.filter(|hash| *hash != NONE).ok_or_else(|| {
                        let field = format!("input_hashes[{i}]");
                        let message = format!("{field}: expected 0x and 64 lower-case hexadecimal digits, not all zero");
                        Fault::field("invalid_value", field, message)
                    })
                };
                hashes
                    .iter()
                    .enumerate()
                    .map(read)
                    .collect::<Result<_, _>>()?
            }
            _ => {
                let message = format!(
                    "count: expected either a count or input_hashes, of 1 to {} permissions",
                    terms.most
                );
                return Err(Fault::field("invalid_value", "count", message));
            }
        };
        let life = order.seconds.unwrap_or(terms.longest_life);
        if life == 0 || life > terms.longest_life {
            let message = format!("seconds: expected 1 to {}, got {life}", terms.longest_life);
            return Err(Fault::field("invalid_value", "seconds", message));
        }
        let deadline = now + life;
        let mut texts = Vec::with_capacity(hashes.len());
        for input_hash in hashes {
            let mut nonce = [0; 16];
            getrandom::fill(&mut nonce).map_err(|_| no_randomness())?;
            let permission = Permission {
                model: terms.model,
                grant: NONE,
                licensee: customer.licensee,
                host,
                input_hash,
                nonce: u128::from_be_bytes(nonce),
                cumulative: 0,
                issued_at: now,
                deadline,
            };
            let token = Token::sign_as_issuer(terms.domain, permission, &self.key);
            texts.push(token.to_text().map_err(|_| no_randomness())?);
        }
        Ok((texts, deadline))
    }

    fn sell(&self, headers: &HeaderMap, body: &[u8]) -> Result<Vec<u8>, Fault> {
        let customer = self.customer(headers)?;
        let key = match headers.get("idempotency-key").map(HeaderValue::to_str) {
            None => None,
            Some(Ok(key)) if (1..=MAX_KEY).contains(&key.len()) => Some(key),
            Some(_) => {
                let message =
                    format!("idempotency-key: expected 1 to {MAX_KEY} printable characters");
                return Err(Fault::field("invalid_value", "idempotency-key", message));
            }
        };
        let order: Order = serde_json::from_slice(body).map_err(|error| {
            let message = format!("body: expected an order: {error}");
            Fault::new(StatusCode::BAD_REQUEST, "invalid_json", message)
        })?;
        let now = now();
        let (permissions, deadline) = self.sign(&order, &customer, now)?;
        let calls = permissions.len() as u64;
        let price = self.terms.price.saturating_mul(u128::from(calls));
        let answer = json!({
            "permissions": permissions, "deadline": deadline, "price": price.to_string(),
        })
        .to_string()
        .into_bytes();
        let sale = self.book.sell(&Purchase {
            customer: &customer.name,
            now,
            calls,
            price,
            calls_per_day: customer.calls_per_day,
            credit: customer.credit,
            key: key.map(|key| (key, Sha256::digest(body).into())),
            answer: &answer,
        })?;
        match sale {
            Sale::New => Ok(answer),
            Sale::Before(answer) => Ok(answer),
            Sale::Mismatch => {
                let message =
                    "idempotency-key: expected a new one for another order, got one that was used";
                Err(Fault::new(
                    StatusCode::CONFLICT,
                    "idempotency_mismatch",
                    message,
                ))
            }
            Sale::OverQuota(left) => {
                let message = format!(
                    "count: expected at most the {left} permissions left today, got {calls}"
                );
                Err(Fault::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "over_quota",
                    message,
                ))
            }
            Sale::NoCredit(left) => {
                let message = format!("credit: expected {price}, got {left}");
                Err(Fault::new(
                    StatusCode::PAYMENT_REQUIRED,
                    "no_credit",
                    message,
                ))
            }
        }
    }
}

fn no_randomness() -> Fault {
    let message = "the issuer cannot sign now";
    Fault::new(StatusCode::SERVICE_UNAVAILABLE, "cannot_sign", message)
}

/// Runs an issuer at `address` until `stopped` says so; `ready` hears its URL.
///
/// # Errors
/// When it cannot start.
pub fn run_issuer(
    service: Arc<IssuerService>,
    address: &str,
    tls: Option<Tls>,
    ready: impl FnOnce(&str),
    stopped: impl Fn() -> bool + Send + Sync,
) -> Result<(), RunError> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listening = Listening::bind(address, tls).await?;
        ready(&listening.url()?);
        serve(service, listening, Limits::default(), asking(&stopped)).await;
        Ok(())
    })
}

async fn serve(
    service: Arc<IssuerService>,
    listening: Listening,
    limits: Limits,
    stop: impl Future<Output = ()> + Send,
) {
    let router = Router::new()
        .route("/v1/permissions", post(sell))
        .route("/v1/prices", get(prices))
        .route("/v1/account", get(account))
        .route("/healthz", get(async || Json(json!({"status": "ok"}))))
        .with_state((service, limits));
    serve_router(router, listening, &limits, stop).await;
}

type Shared = State<(Arc<IssuerService>, Limits)>;

async fn sell(State((service, limits)): Shared, headers: HeaderMap, body: Body) -> Response {
    // Strangers are turned away before their bodies are read.
    if let Err(fault) = service.customer(&headers) {
        return fault.into_response();
    }
    let body = match read_body(body, MAX_BODY, limits.patience).await {
        Ok(body) => body,
        Err(fault) => return fault.into_response(),
    };
    let selling = service.clone();
    let sold = tokio::task::spawn_blocking(move || selling.sell(&headers, &body)).await;
    match sold.unwrap_or_else(|_| Err(no_randomness())) {
        Ok(answer) => {
            let kind = [(header::CONTENT_TYPE, "application/json")];
            (kind, answer).into_response()
        }
        Err(fault) => fault.with_offer(&service.offer, "/v1/permissions"),
    }
}

async fn prices(State((service, _)): Shared) -> Response {
    let terms = &service.terms;
    let hosts: Vec<String> = terms.hosts.iter().map(Address::to_string).collect();
    let body = json!({
        "model": terms.model.to_string(), "issuer": service.key.address().to_string(),
        "price": terms.price.to_string(), "hosts": hosts, "longest_life": terms.longest_life, "most": terms.most,
        "chain_id": terms.domain.chain_id, "verifying_contract": terms.domain.verifying_contract.map(|a| a.to_string()),
    });
    Json(body).into_response()
}

async fn account(State((service, _)): Shared, headers: HeaderMap) -> Response {
    let found = service.customer(&headers).and_then(|customer| {
        let account = service.book.account(&customer.name, now())?;
        Ok(json!({
            "name": customer.name, "licensee": customer.licensee.to_string(),
            "calls_left": customer.calls_per_day.map(|limit| limit.saturating_sub(account.calls_today)),
            "credit_left": customer.credit.saturating_sub(account.spent).to_string(),
        }))
    });
    match found {
        Ok(body) => Json(body).into_response(),
        Err(fault) => fault.into_response(),
    }
}

/// The hash under which a customer's key is known.
#[must_use]
pub fn key_hash(key: &str) -> Hash {
    Sha256::digest(key.as_bytes()).into()
}

/// A customer's key from random bytes.
#[must_use]
pub fn customer_key(random: &[u8; 32]) -> String {
    format!("omlk_{}", hex(random))
}
