//! LISTEN, NOTIFY, UNLISTEN.

use repr::PgError;
use sql::parse::NotifyStatement;

use crate::deferred::{self, Listening};
use crate::response::Response;
use crate::session::Session;
use crate::statement::command;

pub(super) fn run(session: &mut Session, statement: &NotifyStatement) -> Result<Response, PgError> {
    Ok(match statement {
        NotifyStatement::Listen(channel) => {
            deferred::listen(session, Listening::To(channel.clone()));
            command("LISTEN")
        }
        NotifyStatement::Unlisten(channel) => {
            let listening = channel.clone().map_or(Listening::ToNothing, Listening::NotTo);
            deferred::listen(session, listening);
            command("UNLISTEN")
        }
        NotifyStatement::Notify { channel, payload } => {
            deferred::notify(session, channel, payload)?;
            command("NOTIFY")
        }
    })
}
