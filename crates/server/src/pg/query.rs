//! The simple protocol: a text of any number of statements, each answered in turn, in text format.
//!
//! Several statements in one text are one transaction, as in PostgreSQL, unless they say otherwise themselves.

use engine::{Response, Statement};

use crate::pg::connection::{Connection, Stop};
use crate::pg::message;
use crate::pg::rows::{RowCursor, Sent};

impl Connection {
    /// Answers a Query message, failures included.
    pub(crate) async fn simple_query(&mut self, text: String) -> Result<(), Stop> {
        // A simple query replaces the unnamed statement and portal.
        self.statements.remove("");
        self.portals.remove("");
        match self.run_text(&text).await {
            Ok(()) => {}
            Err(Stop::Failed(error)) => {
                self.failed(&error);
                if let Err(error) = self.session.end_implicit(false).await {
                    tracing::debug!("while a failed transaction ended: {error}");
                }
            }
            Err(end) => return Err(end),
        }
        self.ready();
        Ok(())
    }

    async fn run_text(&mut self, text: &str) -> Result<(), Stop> {
        let statements = self.session.parse(text)?;
        if statements.is_empty() {
            message::empty(&mut self.output.buffer, message::EMPTY_QUERY_RESPONSE);
            return Ok(());
        }
        let several = statements.len() > 1;
        for statement in &statements {
            if several {
                self.session.begin_implicit();
            }
            self.run_statement(statement).await?;
        }
        if several {
            self.session.end_implicit(true).await?;
        }
        Ok(())
    }

    async fn run_statement(&mut self, statement: &Statement) -> Result<(), Stop> {
        let prepared = self.prepare(statement, &[]).await?;
        let response = self.execute(statement, &prepared, Vec::new()).await?;
        self.notices();
        let tag = match response {
            Response::Rows { schema, rows, tag } => {
                let printing = self.format_options(&schema);
                let mut cursor = RowCursor::new(schema, rows, Vec::new(), tag, printing);
                message::row_description(&mut self.output.buffer, cursor.schema(), &[]);
                self.send_all(&mut cursor).await?
            }
            Response::CopyOut { schema, rows, options } => {
                let printing = self.format_options(&schema);
                let mut cursor = RowCursor::copy(schema, rows, options, printing);
                self.send_all(&mut cursor).await?
            }
            Response::CopyIn(copy) => self.copy_in(copy).await?,
            Response::Command { tag } => tag,
            Response::Empty => {
                message::empty(&mut self.output.buffer, message::EMPTY_QUERY_RESPONSE);
                return Ok(());
            }
        };
        self.command_done(&tag);
        Ok(())
    }

    async fn send_all(&mut self, cursor: &mut RowCursor) -> Result<String, Stop> {
        loop {
            if let Sent::All(tag) = self.send_rows(cursor, 0).await? {
                return Ok(tag);
            }
        }
    }

    /// Writes CommandComplete, and forgets what the command said to forget.
    pub(crate) fn command_done(&mut self, tag: &str) {
        if matches!(tag, "DISCARD ALL" | "DEALLOCATE ALL") {
            self.statements.clear();
        }
        if tag == "DISCARD ALL" {
            self.portals.clear();
        }
        self.notices();
        message::command_complete(&mut self.output.buffer, tag);
    }
}
