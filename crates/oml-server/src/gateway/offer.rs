//! What a client without a permission is told: how to get one, as HTTP 402 of x402 says it (version 2).
//!
//! ```text
//! PAYMENT-REQUIRED: base64 of {"x402Version":2,"error":text,"resource":{"url","description","mimeType"},
//!   "accepts":[{"scheme":"exact","network":CAIP-2,"amount":text,"asset":address,"payTo":address,"maxTimeoutSeconds":n,"extra":{}}],
//!   "extensions":{"oml":{"model":id,"host":address,"chainId":n,"issuer":URL}}}
//! ```
//!
//! A payment buys standing with the issuer, never the answer itself: whoever serves before a payment has settled can be cheated.
//! Source: x402 specification, version 2.

use data_encoding::BASE64;
use oml_core::eip712::Domain;
use oml_core::permission::ModelId;
use oml_core::signing::Address;
use serde_json::{Value, json};

/// What a call costs and to whom it is paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// The chain, in the form of CAIP-2 (`eip155:8453`).
    pub network: String,
    /// The token's contract.
    pub asset: Address,
    /// Who gets it.
    pub pay_to: Address,
}

/// What is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The model.
    pub model: ModelId,
    /// The host that answers.
    pub host: Address,
    /// Where signatures count.
    pub domain: Domain,
    /// What a call costs, in the token's smallest unit.
    pub price: u128,
    /// How to pay; `None` where only the issuer says.
    pub payment: Option<Payment>,
    /// Where the issuer hands out permissions.
    pub issuer: Option<String>,
}

impl Offer {
    /// x402's object for a resource.
    pub(crate) fn to_json(&self, path: &str, error: &str) -> Value {
        let accepts: Vec<Value> = self
            .payment
            .iter()
            .map(|payment| self.accepts(payment))
            .collect();
        json!({
            "x402Version": 2,
            "error": error,
            "resource": {"url": path, "description": "one answer of the model", "mimeType": "application/json"},
            "accepts": accepts,
            "extensions": {"oml": {
                "model": self.model.to_string(), "host": self.host.to_string(),
                "chainId": self.domain.chain_id, "verifyingContract": self.domain.verifying_contract.map(|a| a.to_string()),
                "price": self.price.to_string(), "issuer": self.issuer, "header": super::gate::PERMISSION_HEADER,
            }},
        })
    }

    fn accepts(&self, payment: &Payment) -> Value {
        json!({
            "scheme": "exact", "network": payment.network, "amount": self.price.to_string(),
            "asset": payment.asset.to_string(), "payTo": payment.pay_to.to_string(), "maxTimeoutSeconds": 60, "extra": {},
        })
    }

    /// The value of the header.
    pub(crate) fn header(&self, path: &str, error: &str) -> String {
        BASE64.encode(self.to_json(path, error).to_string().as_bytes())
    }
}
