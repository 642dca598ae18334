//! The outside of Tidewater: the Postgres wire and HTTP over an [`engine::Engine`].
//!
//! Nothing is decided here about SQL or data. This crate speaks protocols: bytes from a socket become calls of an
//! engine's session, and its answers become bytes again.

mod http;
mod pg;
mod serve;

pub use pg::AuthPolicy;
pub use serve::{Config, ServeError, serve};
