//! The client of an endpoint that serves a language model: OpenAI's chat and text completions, and Ollama's own API.
//!
//! One way to the endpoint (`transport`) serves two users: [`Endpoint`] writes natural queries, [`Asker`] puts the questions of an
//! audit and hands every try to its caller's log. Requests are plain bytes before they are sent, and answers are read from plain
//! bytes ([`read_prompt`], [`read_reply`]), so that whoever checks a log later reads exactly what the client read.
//!
//! Plain HTTP goes to loopback alone, unless it is allowed. Redirects are not followed, and no proxy is used but the one that is
//! named: the key and the request go to the host that was named or nowhere. Requests that may succeed later are sent again, after
//! a wait that doubles or that the endpoint names.
//!
//! Answers are strangers' bytes: their size is capped before they are parsed, and nothing of them is shown but a short printable
//! part of an error's text, without the key.

mod api;
mod asker;
mod error;
mod options;
mod patience;
mod question;
mod reply;
mod resolver;
mod secret;
mod transport;
mod writer;

pub use api::Api;
pub use asker::Asker;
pub use error::{EndpointError, Form};
pub use options::{EndpointOptions, Roots};
pub use question::{Prompt, Question, read_prompt};
pub use reply::{Reply, TokenLogProbability, read_reply};
pub use secret::{ApiKey, Header, Proxy};
pub use transport::{Attempt, MAX_ANSWER_BYTES};
pub use writer::Endpoint;
