//! LISTEN, NOTIFY, UNLISTEN.

use repr::PgError;
use sqlparser::tokenizer::Token;

use super::{Ast, StatementParser};

/// A statement about channels, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Each variant is the statement of that name.
pub enum NotifyStatement {
    Listen(String),
    Notify {
        channel: String,
        payload: String,
    },
    /// None is `*`.
    Unlisten(Option<String>),
}

impl StatementParser<'_> {
    /// At LISTEN, NOTIFY or UNLISTEN.
    pub(super) fn notify_statement(&mut self) -> Result<Ast, PgError> {
        let statement = if self.accept(&["LISTEN"]) {
            NotifyStatement::Listen(self.identifier()?)
        } else if self.accept(&["UNLISTEN"]) {
            let channel = if self.accept_token(&Token::Mul) { None } else { Some(self.identifier()?) };
            NotifyStatement::Unlisten(channel)
        } else {
            self.expect(&["NOTIFY"])?;
            let channel = self.identifier()?;
            let payload = if self.accept_token(&Token::Comma) { self.string()? } else { String::new() };
            NotifyStatement::Notify { channel, payload }
        };
        Ok(Ast::Notify(statement))
    }
}
