//! Whatever speaks HTTP: today the client of OpenAI-compatible endpoints.

pub mod endpoint;
pub mod gateway;
