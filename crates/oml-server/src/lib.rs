//! Whatever speaks HTTP: the client of OpenAI-compatible endpoints, and the gateway that answers what is permitted.

pub mod endpoint;
pub mod gateway;
pub mod issuer;
