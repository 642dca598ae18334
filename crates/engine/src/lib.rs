//! The coordinator: sessions, statements, timestamps and the life of every object. The only place where the crates meet.
//!
//! An [`Engine`] owns storage, the running dataflows and the catalog. A [`Session`] runs statements against it: `parse` gives
//! statements, `prepare` binds one, `execute` runs it and answers with a [`Response`]. Definitions change the catalog under
//! one lock, table writes get their timestamps under another, reads peek at the last closed time; see `docs/architecture.md`.

mod constant;
mod cursor;
mod dataflows;
mod ddl;
mod deferred;
mod engine;
mod errors;
mod event_time;
mod key_filter;
mod lookup;
mod metrics;
mod notify;
mod physical_rules;
mod read;
mod recursion;
mod response;
mod restore;
mod roles;
mod rules;
mod scram;
mod select;
mod sequences;
mod session;
mod settings;
mod source;
mod statement;
mod system;
mod transaction;
mod unique;
mod write;

pub use engine::{Engine, EngineConfig};
pub use metrics::{Metric, MetricKind};
pub use notify::{Mailbox, Notification};
pub use response::{CopyFormat, CopyIn, CopyOptions, Notice, Response, RowStream, RowsTag, Severity};
pub use roles::Login;
pub use scram::Verifier;
pub use session::{Prepared, Session, SessionOptions, TransactionStatus};
pub use sql::Statement;
