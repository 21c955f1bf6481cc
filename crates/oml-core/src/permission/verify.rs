//! Verification of a token against what is asked and what is known, cheap checks before dear ones.
//!
//! ```text
//! 1 domain, age of the view      2 model, host, times       3 input hash          4 chain: ids, each grant within the one above
//! 5 scope against the call       6 signatures, from the permission outwards       7 the issuer's tenure      8 revocations
//! ```
//!
//! A permission's life lies within its grants' lives, and a scope within the scopes above it, so the innermost grant's limits are the
//! tightest. An issuer's key that is revoked at T voids what is used from T on, whenever it was signed. Clock skew is forgiven for
//! the times of permissions and grants, not for revocations.

use super::chain;
use super::{
    Authority, GrantCache, GrantId, InputSalt, ModelId, NONE, Part, PermissionId, Refusal, Replay,
    SignedGrant, Tenure, Token, UNLIMITED_CALLS, UNLIMITED_SPEND, input_hash,
};
use crate::eip712::digest_under;
use crate::merkle::Hash;
use crate::signing::{Address, Signature};

/// What is asked, as the host knows it.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The model that would answer.
    pub model: ModelId,
    /// The host that would answer.
    pub host: Address,
    /// Seconds since 1970.
    pub now: u64,
    /// Seconds by which clocks may differ.
    pub skew: u64,
    /// The input with the salt that came along; none where no salt came.
    pub input: Option<Input<'a>>,
    /// What the answer is for, as the caller says.
    pub purpose: Option<&'a str>,
    /// Where the host stands.
    pub region: Option<&'a str>,
    /// Version of the model that would answer.
    pub model_version: Option<&'a str>,
    /// Most tokens that the answer will have.
    pub max_tokens: Option<u32>,
}

/// An input whose hash can be computed.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Canonical bytes; see [`super::input_of_request`].
    pub canonical: &'a [u8],
    /// The salt.
    pub salt: &'a InputSalt,
}

/// A token that counts, as far as it can be told without a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Id of the permission.
    pub id: PermissionId,
    /// What nonces and promises are counted under: id of the innermost grant, or of the permission where the issuer signed it.
    pub budget_key: Hash,
    /// Every grant, the issuer's first; the budget of each counts.
    pub grants: Vec<VerifiedGrant>,
    /// Who pays.
    pub licensee: Address,
    /// The issuer at the root.
    pub issuer: Address,
    /// Who signed the permission.
    pub signer: Address,
    /// How replay is told.
    pub replay: Replay,
    /// The permission's nonce.
    pub nonce: u128,
    /// What the licensee has promised under the innermost grant, with this call.
    pub cumulative: u128,
    /// Last second of the permission.
    pub deadline: u64,
    /// When the permission was signed.
    pub issued_at: u64,
    /// Salted hash of the input; [`NONE`] where the permission leaves it open.
    pub input_hash: Hash,
    /// Purpose of the call.
    pub purpose: Option<String>,
    /// Region of the call.
    pub region: Option<String>,
    /// Version of the model.
    pub model_version: Option<String>,
    /// Most tokens that the grants allow.
    pub max_tokens: Option<u32>,
    /// Calls in a minute that the innermost grant allows.
    pub calls_per_minute: Option<u32>,
}

/// What is counted under one grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedGrant {
    /// Its id.
    pub id: GrantId,
    /// Most calls under it and all below, or [`UNLIMITED_CALLS`].
    pub max_calls: u64,
    /// Most that may be promised under it and all below, or [`UNLIMITED_SPEND`].
    pub max_spend: u128,
    /// Most calls in a minute under it and all below.
    pub calls_per_minute: Option<u32>,
    /// Last second of its life.
    pub not_after: u64,
}

impl Token {
    /// Whether the token permits the call. Replay, budgets and rates are counted by whoever keeps a store.
    ///
    /// # Errors
    /// The first reason against it.
    pub fn verify(
        &self,
        call: &Call<'_>,
        authority: &dyn Authority,
        cache: &GrantCache,
    ) -> Result<Verified, Refusal> {
        self.check_view(call, authority)?;
        self.check_place_and_time(call)?;
        self.check_input(call)?;
        let separator = self.domain.separator();
        let ids = self.check_under(&separator)?;
        self.check_scope(call)?;
        let id = digest_under(&separator, &self.permission);
        let signers = self.check_signatures(&id, &ids, cache)?;
        let issuer = self.check_issuer(&signers, call, authority)?;
        self.check_revocations(&id, &ids, call, authority)?;
        for ((signed, id), signer) in self.grants.iter().zip(&ids).zip(&signers) {
            cache.put(id, &signed.signature, *signer);
        }
        Ok(self.verified(id, &ids, issuer, &signers, call))
    }

    fn check_view(&self, call: &Call<'_>, authority: &dyn Authority) -> Result<(), Refusal> {
        if self.domain != authority.domain() {
            return Err(Refusal::WrongDomain);
        }
        let now = call.now;
        let view = authority.view(&call.model, now);
        let Some(max_age) = view.max_age else {
            return Ok(());
        };
        let as_of = view.as_of;
        if as_of > now.saturating_add(call.skew) {
            return Err(Refusal::FutureView { as_of, now });
        }
        if now.saturating_sub(as_of) > max_age {
            return Err(Refusal::StaleView {
                as_of,
                max_age,
                now,
            });
        }
        Ok(())
    }

    fn check_place_and_time(&self, call: &Call<'_>) -> Result<(), Refusal> {
        let permission = &self.permission;
        if permission.model != call.model {
            return Err(Refusal::WrongModel {
                expected: call.model,
                got: permission.model,
            });
        }
        if permission.host != call.host {
            return Err(Refusal::WrongHost {
                part: Part::Permission,
                expected: call.host,
                got: permission.host,
            });
        }
        let (issued_at, deadline) = (permission.issued_at, permission.deadline);
        if issued_at > deadline {
            let part = Part::Permission;
            return Err(Refusal::ImpossibleTimes { part });
        }
        let now = call.now;
        let (earliest, latest) = (now.saturating_sub(call.skew), now.saturating_add(call.skew));
        if issued_at > latest {
            return Err(Refusal::NotYetValid { issued_at, now });
        }
        if deadline < earliest {
            return Err(Refusal::Expired { deadline, now });
        }
        for (place, signed) in self.grants.iter().enumerate() {
            let (grant, number) = (&signed.grant, place + 1);
            if !grant.allows_host(&call.host) {
                return Err(Refusal::WrongHost {
                    part: Part::Grant(number),
                    expected: call.host,
                    got: grant.host,
                });
            }
            if grant.not_before > latest {
                return Err(Refusal::GrantNotYetValid {
                    grant: number,
                    not_before: grant.not_before,
                    now,
                });
            }
            if grant.not_after < earliest {
                return Err(Refusal::GrantExpired {
                    grant: number,
                    not_after: grant.not_after,
                    now,
                });
            }
        }
        Ok(())
    }

    fn check_input(&self, call: &Call<'_>) -> Result<(), Refusal> {
        let named = self.permission.input_hash;
        if named == NONE {
            return Ok(());
        }
        let input = call.input.ok_or(Refusal::SaltMissing)?;
        if input_hash(input.salt, input.canonical) != named {
            return Err(Refusal::WrongInput);
        }
        Ok(())
    }

    /// The grants' ids, if the grants hang together and the permission lies within the innermost. Signatures are not looked at.
    ///
    /// # Errors
    /// The first grant that is not under the one before it or allows more, or what the permission says beyond its grant.
    pub fn check(&self) -> Result<Vec<GrantId>, Refusal> {
        self.check_under(&self.domain.separator())
    }

    fn check_under(&self, separator: &Hash) -> Result<Vec<GrantId>, Refusal> {
        let permission = &self.permission;
        let ids = chain::check(separator, &self.grants)?;
        if permission.grant != ids.last().copied().unwrap_or(NONE) {
            let part = Part::Permission;
            return Err(Refusal::BrokenChain { part });
        }
        let Some(SignedGrant { grant, scope, .. }) = self.grants.last() else {
            return Ok(ids);
        };
        if permission.model != grant.model {
            return Err(Refusal::WrongModel {
                expected: permission.model,
                got: grant.model,
            });
        }
        if permission.licensee != grant.licensee {
            return Err(Refusal::WrongLicensee {
                expected: grant.licensee,
                got: permission.licensee,
            });
        }
        if !grant.allows_host(&permission.host) {
            return Err(Refusal::WiderHost {
                expected: grant.host,
                got: permission.host,
            });
        }
        if permission.issued_at < grant.not_before || permission.deadline > grant.not_after {
            return Err(Refusal::WiderTime {
                expected: (grant.not_before, grant.not_after),
                got: (permission.issued_at, permission.deadline),
            });
        }
        if permission.input_hash == NONE && !scope.any_input {
            return Err(Refusal::AnyInput);
        }
        if grant.max_calls == 0 {
            return Err(Refusal::OverCalls { limit: 0 });
        }
        if permission.cumulative > grant.max_spend {
            return Err(Refusal::OverSpend {
                limit: grant.max_spend,
                got: permission.cumulative,
            });
        }
        Ok(ids)
    }

    fn check_scope(&self, call: &Call<'_>) -> Result<(), Refusal> {
        let Some(signed) = self.grants.last() else {
            return Ok(());
        };
        let scope = &signed.scope;
        let within = |list: &[String], own: Option<&str>| {
            list.is_empty() || own.is_some_and(|own| list.iter().any(|word| word == own))
        };
        if !within(&scope.purposes, call.purpose) {
            return Err(Refusal::WrongPurpose);
        }
        if !within(&scope.regions, call.region) {
            return Err(Refusal::WrongRegion);
        }
        if !within(&scope.model_versions, call.model_version) {
            return Err(Refusal::WrongModelVersion);
        }
        if let Some(limit) = scope.max_tokens
            && call.max_tokens.is_none_or(|got| got > limit)
        {
            let got = call.max_tokens;
            return Err(Refusal::TooManyTokens { limit, got });
        }
        Ok(())
    }

    /// Who signed each grant and then the permission; all but the first were the delegates of the grants above them.
    fn check_signatures(
        &self,
        id: &PermissionId,
        ids: &[GrantId],
        cache: &GrantCache,
    ) -> Result<Vec<Address>, Refusal> {
        let recover = |part, digest: &Hash, signature: &Signature| {
            let signer = signature.recover(digest);
            signer.map_err(|fault| Refusal::BadSignature { part, fault })
        };
        let expect = |part, above: Option<usize>, got: Address| match above {
            Some(above) if self.grants[above].grant.delegate != got => Err(Refusal::WrongSigner {
                part,
                expected: self.grants[above].grant.delegate,
                got,
            }),
            _ => Ok(got),
        };
        let mut signers = Vec::with_capacity(ids.len() + 1);
        let part = Part::Permission;
        let signer = recover(part, id, &self.signature)?;
        signers.push(expect(part, ids.len().checked_sub(1), signer)?);
        for place in (0..ids.len()).rev() {
            let (part, digest) = (Part::Grant(place + 1), &ids[place]);
            let signature = &self.grants[place].signature;
            let signer = match cache.get(digest, signature) {
                Some(signer) => signer,
                None => recover(part, digest, signature)?,
            };
            signers.push(expect(part, place.checked_sub(1), signer)?);
        }
        signers.reverse();
        Ok(signers)
    }

    fn check_issuer(
        &self,
        signers: &[Address],
        call: &Call<'_>,
        authority: &dyn Authority,
    ) -> Result<Address, Refusal> {
        let (part, signed_at) = match self.grants.first() {
            Some(signed) => (Part::Grant(1), signed.grant.not_before),
            None => (Part::Permission, self.permission.issued_at),
        };
        let issuer = signers.first().copied().unwrap_or(Address::ZERO);
        let tenure = authority.issuer(&call.model, &issuer);
        let unknown = Refusal::UnknownIssuer { part, got: issuer };
        let Tenure { from, revoked_at } = tenure.ok_or(unknown)?;
        if signed_at < from {
            return Err(Refusal::IssuerNotYet {
                part,
                from,
                got: signed_at,
            });
        }
        let now = call.now.max(signed_at);
        match revoked_at {
            Some(revoked_at) if now >= revoked_at => Err(Refusal::IssuerRevoked {
                part,
                revoked_at,
                now,
            }),
            _ => Ok(issuer),
        }
    }

    fn check_revocations(
        &self,
        id: &PermissionId,
        ids: &[GrantId],
        call: &Call<'_>,
        authority: &dyn Authority,
    ) -> Result<(), Refusal> {
        let now = call.now;
        let revoked = |id| {
            authority
                .revoked_at(&call.model, id)
                .filter(|at| *at <= now)
        };
        for (place, id) in ids.iter().enumerate() {
            if let Some(at) = revoked(id) {
                return Err(Refusal::GrantRevoked {
                    grant: place + 1,
                    at,
                    now,
                });
            }
        }
        match revoked(id) {
            Some(at) => Err(Refusal::PermissionRevoked { at, now }),
            None => Ok(()),
        }
    }

    fn verified(
        &self,
        id: PermissionId,
        ids: &[GrantId],
        issuer: Address,
        signers: &[Address],
        call: &Call<'_>,
    ) -> Verified {
        let permission = &self.permission;
        let scope = self.grants.last().map(|signed| &signed.scope);
        let grants = self.grants.iter().zip(ids);
        Verified {
            id,
            budget_key: ids.last().copied().unwrap_or(id),
            grants: grants
                .map(|(signed, id)| VerifiedGrant {
                    id: *id,
                    max_calls: signed.grant.max_calls,
                    max_spend: signed.grant.max_spend,
                    calls_per_minute: signed.scope.calls_per_minute,
                    not_after: signed.grant.not_after,
                })
                .collect(),
            licensee: permission.licensee,
            issuer,
            signer: signers.last().copied().unwrap_or(issuer),
            replay: scope.map_or(Replay::Set, |scope| scope.replay),
            nonce: permission.nonce,
            cumulative: permission.cumulative,
            deadline: permission.deadline,
            issued_at: permission.issued_at,
            input_hash: permission.input_hash,
            purpose: call.purpose.map(str::to_owned),
            region: call.region.map(str::to_owned),
            model_version: call.model_version.map(str::to_owned),
            max_tokens: scope.and_then(|scope| scope.max_tokens),
            calls_per_minute: scope.and_then(|scope| scope.calls_per_minute),
        }
    }
}

impl VerifiedGrant {
    /// Whether calls are counted at all.
    #[must_use]
    pub const fn limits_calls(&self) -> bool {
        self.max_calls != UNLIMITED_CALLS
    }

    /// Whether promises are counted at all.
    #[must_use]
    pub const fn limits_spend(&self) -> bool {
        self.max_spend != UNLIMITED_SPEND
    }
}
