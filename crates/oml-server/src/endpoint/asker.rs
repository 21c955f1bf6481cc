//! The client of an audit: a question becomes bytes, bytes are sent, and every try is handed to the caller's log.

use super::question::{Manner, render};
use super::transport::Transport;
use super::{Api, Attempt, EndpointError, EndpointOptions, Question, Reply, read_reply};

/// An endpoint that is asked questions; any number of threads may ask at the same time.
pub struct Asker {
    transport: Transport,
    api: Api,
    model: String,
}

impl Asker {
    /// Judges the options; nothing is sent yet.
    ///
    /// # Errors
    /// [`EndpointError::Url`] or [`EndpointError::PlainHttp`].
    pub fn new(options: EndpointOptions, api: Api) -> Result<Self, EndpointError> {
        Ok(Self {
            transport: Transport::new(&options, api)?,
            api,
            model: options.model,
        })
    }

    /// Where requests go.
    #[must_use]
    pub fn url(&self) -> &str {
        self.transport.url()
    }

    /// How the endpoint is asked.
    #[must_use]
    pub const fn api(&self) -> Api {
        self.api
    }

    /// The body of the request that asks `question`: what [`send`](Self::send) sends byte by byte, to be logged before.
    ///
    /// # Errors
    /// [`EndpointError::Unsupported`] for a part of the question that the API has no place for.
    pub fn request(&self, question: &Question<'_>) -> Result<Vec<u8>, EndpointError> {
        render(self.api, &self.model, question, Manner::AUDIT)
    }

    /// Waits until the next request may leave. A request is written down after this and before [`send`](Self::send), so that
    /// one that was stopped while it waited was never said to have left.
    ///
    /// # Errors
    /// [`EndpointError::Stopped`].
    pub fn turn(&self) -> Result<(), EndpointError> {
        self.transport.turn()
    }

    /// Sends a request whose [`turn`](Self::turn) has come, at once, until it is answered, or cannot be; `log` sees every try, as
    /// [`read_reply`] would read it.
    ///
    /// # Errors
    /// The last try's [`EndpointError`], or [`EndpointError::Stopped`] before it was sent again.
    pub fn send(
        &self,
        request: &[u8],
        log: &mut dyn FnMut(&Attempt),
    ) -> Result<Reply, EndpointError> {
        self.transport
            .send(request, log, |answer| read_reply(self.api, answer))
    }
}
