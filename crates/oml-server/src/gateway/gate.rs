//! The gate: no answer without a permission that is good now and was not used before, and a receipt for every answer.
//!
//! ```text
//! OML-Permission: oml1.…[; salt=64 hexadecimal digits][; purpose=text]
//! ```
//!
//! verify (signatures, times, scope, revocations) ▶ rates ▶ admit (replay and budgets, on disk) ▶ revocations again ▶ answer ▶
//! receipt (on disk) ▶ the end of the answer. Whatever fails before the answer is a refusal.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, StatusCode};
use oml_core::manifest::hex;
use oml_core::merkle::Hash;
use oml_core::permission::{
    Authority, Call, GrantCache, Input, InputSalt, ModelId, NONE, Refusal, Replay, Token, Verified,
    input_hash,
};
use oml_core::receipt::{InferenceReceipt, SignedReceipt, output_hash};
use oml_core::signing::{Address, SigningKey};

use super::fault::Fault;
use super::rates::Rates;
use super::replay::{Admission, Answered, Budget, DAY, ReplayStore, UsageKey};
use super::request::Request;

/// The header that carries a permission.
pub const PERMISSION_HEADER: &str = "oml-permission";
/// Bytes of the header at most: a permission with all that belongs to it.
pub const MAX_HEADER_BYTES: usize = 10 << 10;
const MAX_PURPOSE: usize = 64;

/// What a host demands of permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The model that is served.
    pub model: ModelId,
    /// Its version, where grants may name one.
    pub model_version: Option<String>,
    /// Where the host stands, where grants may name regions.
    pub region: Option<String>,
    /// What a call costs under a grant, in the token's smallest unit.
    pub price: u128,
    /// Seconds by which clocks may differ.
    pub skew: u64,
    /// The longest life of a permission, in seconds: used ones are kept so long.
    pub longest_life: u64,
}

/// The gate of one model on one host.
pub struct Gate {
    terms: Terms,
    key: SigningKey,
    host: Address,
    authority: Arc<dyn Authority>,
    store: Arc<dyn ReplayStore>,
    grants: GrantCache,
    rates: Rates,
    started: Instant,
}

/// A permission that is good, before it is known to be new.
#[derive(Debug)]
pub struct Ticket {
    verified: Verified,
    token: String,
    input_hash: Hash,
    /// The salt of the input's hash, where the host drew it.
    drawn: Option<InputSalt>,
}

impl Ticket {
    /// Tokens of an answer at most.
    pub(crate) fn max_tokens(&self) -> Option<u32> {
        self.verified.max_tokens
    }
}

/// An admitted call, which is owed an answer and a receipt.
#[derive(Debug)]
pub struct Admitted {
    verified: Verified,
    input_hash: Hash,
    issued_at: u64,
    /// The salt that the host drew, in hexadecimal digits, without which its receipt's input cannot be shown.
    pub(crate) salt: Option<String>,
}

impl Admitted {
    /// The permission's id.
    pub(crate) fn permission(&self) -> &Hash {
        &self.verified.id
    }

    pub(crate) fn licensee(&self) -> &Address {
        &self.verified.licensee
    }

    pub(crate) fn purpose(&self) -> Option<&str> {
        self.verified.purpose.as_deref()
    }
}

/// What came in the permission's header.
struct Shown<'a> {
    token: &'a str,
    salt: Option<InputSalt>,
    purpose: Option<&'a str>,
}

impl Gate {
    /// Room for this many grants whose signatures are known.
    const KNOWN_GRANTS: usize = 65_536;

    /// A gate whose receipts `key` signs.
    pub fn new(
        terms: Terms,
        key: SigningKey,
        authority: Arc<dyn Authority>,
        store: Arc<dyn ReplayStore>,
    ) -> Self {
        Self {
            host: key.address(),
            terms,
            key,
            authority,
            store,
            grants: GrantCache::new(Self::KNOWN_GRANTS),
            rates: Rates::default(),
            started: Instant::now(),
        }
    }

    /// The host's address, which permissions must name.
    #[must_use]
    pub fn host(&self) -> Address {
        self.host
    }

    /// What is demanded.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Who knows issuers and revocations.
    pub(crate) fn authority(&self) -> &dyn Authority {
        &*self.authority
    }

    /// What was used.
    pub(crate) fn store(&self) -> &dyn ReplayStore {
        &*self.store
    }

    /// Holds a request against the permission that came with it.
    ///
    /// # Errors
    /// The first reason against it.
    pub fn verify(&self, headers: &HeaderMap, request: &Request) -> Result<Ticket, Fault> {
        let shown = shown(headers)?;
        let token = Token::from_text(shown.token).map_err(Refusal::from)?;
        let canonical = request.canonical_input()?;
        let now = now();
        let life = token
            .permission
            .deadline
            .saturating_sub(token.permission.issued_at);
        if life > self.terms.longest_life {
            let message = format!(
                "permission: expected a life of at most {} s, got {life}",
                self.terms.longest_life
            );
            return Err(Fault::new(StatusCode::FORBIDDEN, "life_too_long", message));
        }
        // A request that names no length gets what its grant allows.
        let allowed = token
            .grants
            .last()
            .and_then(|signed| signed.scope.max_tokens);
        let call = Call {
            model: self.terms.model,
            host: self.host,
            now,
            skew: self.terms.skew,
            input: shown.salt.as_ref().map(|salt| Input {
                canonical: &canonical,
                salt,
            }),
            purpose: shown.purpose,
            region: self.terms.region.as_deref(),
            model_version: self.terms.model_version.as_deref(),
            max_tokens: request.max_tokens.or(allowed),
        };
        let verified = token.verify(&call, &*self.authority, &self.grants)?;
        let (salt, drawn) = match shown.salt {
            Some(salt) => (salt, None),
            None => {
                let salt = draw_salt()?;
                (salt.clone(), Some(salt))
            }
        };
        let input_hash = match verified.input_hash {
            NONE => input_hash(&salt, &canonical),
            named => named,
        };
        Ok(Ticket {
            verified,
            token: shown.token.to_owned(),
            input_hash,
            drawn,
        })
    }

    /// Admits a call for good: afterwards its permission is used, on disk.
    ///
    /// # Errors
    /// When it was used before, a budget is at its end, it was revoked meanwhile, or the store fails.
    pub async fn admit(&self, ticket: Ticket) -> Result<Admitted, Fault> {
        let Ticket {
            verified,
            token,
            input_hash,
            drawn,
        } = ticket;
        let limits: Vec<(Hash, u32)> = verified
            .grants
            .iter()
            .filter_map(|grant| Some((grant.id, grant.calls_per_minute?)))
            .collect();
        if !self
            .rates
            .take(&limits, self.started.elapsed().as_secs_f64())
        {
            let message =
                "calls: expected fewer in a minute than the grant allows, got all of them";
            return Err(Fault::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_calls",
                message,
            ));
        }
        let time = now();
        let admission = Admission {
            permission: verified.id,
            expires: verified.deadline,
            time,
            sequence: (verified.replay == Replay::Sequence).then_some(verified.nonce),
            budgets: verified
                .grants
                .iter()
                .map(|grant| Budget {
                    grant: grant.id,
                    max_calls: grant.max_calls,
                    max_spend: grant.max_spend,
                    not_after: grant.not_after,
                })
                .collect(),
            promised: verified.cumulative,
            price: self.price(&verified),
            token,
        };
        let decision = self.store.admit(admission).await;
        let refused = decision.map_or_else(|error| Some(error.into()), Fault::of_decision);
        if let Some(fault) = refused {
            self.rates.give_back(&limits);
            return Err(fault);
        }
        self.not_revoked(&verified)?;
        Ok(Admitted {
            issued_at: time.clamp(verified.issued_at, verified.deadline),
            verified,
            input_hash,
            salt: drawn.map(|salt| hex(salt.expose())),
        })
    }

    /// Signs and keeps the receipt of an answer; it is on disk when this is ready.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn receipt(
        &self,
        admitted: &Admitted,
        output: &[u8],
        tokens: [u64; 2],
    ) -> Result<String, Fault> {
        let Admitted { verified, .. } = admitted;
        let receipt = InferenceReceipt {
            model: self.terms.model,
            host: self.host,
            input_hash: admitted.input_hash,
            output_hash: output_hash(output),
            permission_id: verified.id,
            issued_at: admitted.issued_at,
        };
        let signed = SignedReceipt::sign(self.authority.domain(), receipt, &self.key);
        let receipt = signed.to_text();
        let answered = Answered {
            permission: verified.id,
            expires: verified.deadline,
            usage: UsageKey {
                day: u32::try_from(now() / DAY).unwrap_or(u32::MAX),
                model: self.terms.model.0,
                licensee: verified.licensee.0,
            },
            tokens,
            price: self.price(verified),
            receipt: receipt.clone(),
        };
        self.store.keep(answered).await?;
        Ok(receipt)
    }

    /// What a call costs: what an issuer signed itself is paid already.
    fn price(&self, verified: &Verified) -> u128 {
        match verified.grants.is_empty() {
            true => 0,
            false => self.terms.price,
        }
    }

    /// Time passed while the admission was written.
    fn not_revoked(&self, verified: &Verified) -> Result<(), Fault> {
        let (model, now) = (&self.terms.model, now());
        let is_past = |at: Option<u64>| at.filter(|at| *at <= now);
        for (i, grant) in verified.grants.iter().enumerate() {
            if let Some(at) = is_past(self.authority.revoked_at(model, &grant.id)) {
                let grant = i + 1;
                return Err(Refusal::GrantRevoked { grant, at, now }.into());
            }
        }
        if let Some(at) = is_past(self.authority.revoked_at(model, &verified.id)) {
            return Err(Refusal::PermissionRevoked { at, now }.into());
        }
        Ok(())
    }

    /// Drops what expired more than `window` ago.
    pub(crate) async fn forget(&self, window: Duration) -> Result<(), Fault> {
        let window = window.as_secs().saturating_add(self.terms.skew);
        Ok(self.store.forget(now(), window).await?)
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn draw_salt() -> Result<InputSalt, Fault> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| {
        let message = "the machine gives no random numbers";
        Fault::new(StatusCode::SERVICE_UNAVAILABLE, "no_randomness", message)
    })?;
    Ok(InputSalt::new(bytes))
}

/// Reads the header. Two of it are refused, since whoever stands before this server may have looked at the other.
fn shown(headers: &HeaderMap) -> Result<Shown<'_>, Fault> {
    let bad = |message: String| Fault::new(StatusCode::UNAUTHORIZED, "header", message);
    let mut values = headers.get_all(PERMISSION_HEADER).iter();
    let value = values.next().ok_or_else(|| {
        Fault::new(
            StatusCode::PAYMENT_REQUIRED,
            "no_permission",
            format!("{PERMISSION_HEADER}: expected a permission, got none"),
        )
    })?;
    if values.next().is_some() {
        return Err(bad(format!(
            "{PERMISSION_HEADER}: expected one, got several"
        )));
    }
    if value.len() > MAX_HEADER_BYTES {
        return Err(bad(format!(
            "{PERMISSION_HEADER}: expected at most {MAX_HEADER_BYTES} bytes, got {}",
            value.len()
        )));
    }
    let value = value
        .to_str()
        .map_err(|_| bad(format!("{PERMISSION_HEADER}: expected printable ASCII")))?;
    let mut parts = value.split(';').map(str::trim);
    let mut shown = Shown {
        token: parts.next().unwrap_or_default(),
        salt: None,
        purpose: None,
    };
    for part in parts {
        match part.split_once('=') {
            Some(("salt", digits)) if shown.salt.is_none() => {
                let salt = read_salt(digits).ok_or_else(|| {
                    bad(format!(
                        "{PERMISSION_HEADER} salt: expected 64 hexadecimal digits"
                    ))
                })?;
                shown.salt = Some(salt);
            }
            Some(("purpose", purpose)) if shown.purpose.is_none() => {
                if purpose.is_empty() || purpose.len() > MAX_PURPOSE {
                    return Err(bad(format!(
                        "{PERMISSION_HEADER} purpose: expected 1 to {MAX_PURPOSE} characters"
                    )));
                }
                shown.purpose = Some(purpose);
            }
            _ => {
                return Err(bad(format!(
                    "{PERMISSION_HEADER}: expected a permission, a salt and a purpose, got something else or one twice"
                )));
            }
        }
    }
    Ok(shown)
}

fn read_salt(digits: &str) -> Option<InputSalt> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes());
    Some(InputSalt::new(bytes.ok()?.try_into().ok()?))
}
