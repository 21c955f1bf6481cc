//! The gateway over real sockets: what is answered, what is refused and by which code, and what survives.

mod answers;
mod hostile;
mod postgres;
mod refusals;
mod server;
mod stores;
mod upstream;
