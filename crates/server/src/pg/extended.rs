//! The extended protocol: prepared statements, portals, pipelines.
//!
//! Messages are answered in their order; a failure skips everything up to the next Sync. What runs between two Syncs is
//! one transaction, as in PostgreSQL, unless it says otherwise itself.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use engine::{Prepared, Response, Statement, TransactionStatus};
use repr::{PgError, SqlState, SqlType};

use crate::pg::connection::{Connection, Stop, protocol_violation};
use crate::pg::decode::decode_value;
use crate::pg::encode::Format;
use crate::pg::message::{self, Bind, Frontend, Target};
use crate::pg::rows::{RowCursor, Sent};

/// What Parse made.
#[derive(Clone)]
pub(crate) struct PreparedStatement(Option<Arc<(Statement, Prepared)>>);

/// What Bind made: a statement with its parameters, and how far it has run.
pub(crate) struct Portal {
    statement: PreparedStatement,
    parameters: Vec<ArrayRef>,
    formats: Vec<Format>,
    state: PortalState,
}

enum PortalState {
    New,
    /// Paused between rows.
    Running(RowCursor),
    Done {
        had_rows: bool,
    },
}

impl Connection {
    /// Answers one message, but for a failure.
    pub(crate) async fn extended(&mut self, message: Frontend) -> Result<(), Stop> {
        match message {
            Frontend::Parse { name, text, parameter_oids } => self.parse(name, &text, &parameter_oids).await,
            Frontend::Bind(bind) => self.bind(bind),
            Frontend::Describe(target) => self.describe(target),
            Frontend::Execute { portal, max_rows } => self.execute_portal(portal, max_rows).await,
            Frontend::Close(target) => {
                match target {
                    Target::Statement(name) => drop(self.statements.remove(&name)),
                    Target::Portal(name) => drop(self.portals.remove(&name)),
                }
                message::empty(&mut self.output.buffer, message::CLOSE_COMPLETE);
                Ok(())
            }
            other => Err(Stop::Failed(PgError::internal(format!("{other:?} is not of the extended protocol")))),
        }
    }

    /// Answers a failed message: an error now, nothing until Sync.
    pub(crate) async fn extended_failed(&mut self, error: PgError) -> Result<(), Stop> {
        self.failed(&error);
        self.skipping = true;
        if let Err(error) = self.session.end_implicit(false).await {
            tracing::debug!("while a failed transaction ended: {error}");
        }
        Ok(())
    }

    /// Sync: commits what ran since the last one, and both sides know where they are again.
    pub(crate) async fn sync(&mut self) -> Result<(), Stop> {
        if !std::mem::take(&mut self.skipping)
            && let Err(error) = self.session.end_implicit(true).await
        {
            self.failed(&error);
        }
        self.notices();
        self.ready();
        Ok(self.output.flush().await?)
    }

    async fn parse(&mut self, name: String, text: &str, parameter_oids: &[u32]) -> Result<(), Stop> {
        if !name.is_empty() && self.statements.contains_key(&name) {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(Stop::Failed(PgError::new(SqlState::DUPLICATE_PREPARED_STATEMENT, message)));
        }
        self.statements.remove(&name);
        let types = parameter_oids.iter().map(|oid| match (*oid, SqlType::from_oid(*oid)) {
            (0, _) | (_, Some(SqlType::Unknown)) => Ok(None),
            (_, Some(sql_type)) => Ok(Some(sql_type)),
            (oid, None) => Err(PgError::unsupported(format!("a parameter of the type with OID {oid}"))),
        });
        let types: Vec<Option<SqlType>> = types.collect::<Result<_, _>>()?;
        let mut statements = self.session.parse(text)?;
        let statement = match (statements.pop(), statements.is_empty()) {
            (None, _) => PreparedStatement(None),
            (Some(statement), true) => {
                let prepared = self.prepare(&statement, &types).await?;
                PreparedStatement(Some(Arc::new((statement, prepared))))
            }
            (Some(_), false) => {
                let message = "cannot insert multiple commands into a prepared statement";
                return Err(Stop::Failed(PgError::new(SqlState::SYNTAX_ERROR, message)));
            }
        };
        self.statements.insert(name, statement);
        self.notices();
        message::empty(&mut self.output.buffer, message::PARSE_COMPLETE);
        Ok(())
    }

    fn bind(&mut self, bind: Bind) -> Result<(), Stop> {
        let statement = self.statement(&bind.statement)?.clone();
        let (parameter_types, column_count) = match &statement.0 {
            None => (&[][..], 0),
            Some(both) => (both.1.parameter_types(), both.1.columns().map_or(0, |schema| schema.columns.len())),
        };
        let (given, wanted) = (bind.parameters.len(), parameter_types.len());
        let formats = bind.parameter_formats.len();
        if formats > 1 && formats != given {
            let message = format!("bind message has {formats} parameter formats but {given} parameters");
            return Err(Stop::Failed(protocol_violation(message)));
        }
        if given != wanted {
            let message = format!(
                "bind message supplies {given} parameters, but prepared statement \"{}\" requires {wanted}",
                bind.statement
            );
            return Err(Stop::Failed(protocol_violation(message)));
        }
        let formats = bind.result_formats.len();
        if formats > 1 && formats != column_count {
            let message = format!("bind message has {formats} result formats but query has {column_count} columns");
            return Err(Stop::Failed(protocol_violation(message)));
        }
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            let message = format!("cursor \"{}\" already exists", bind.portal);
            return Err(Stop::Failed(PgError::new(SqlState::DUPLICATE_CURSOR, message)));
        }
        let values = bind.parameters.iter().zip(parameter_types).enumerate();
        let parameters = values.map(|(index, (value, sql_type))| {
            let format = Format::of_column(&bind.parameter_formats, index);
            match (value, format) {
                // A name: only the catalog knows what has it.
                (Some(text), Format::Text) if sql_type.is_registered() => {
                    let oid = self.session.oid_of(sql_type, message::utf8(text)?)?;
                    Ok(Arc::new(UInt32Array::from(vec![oid])) as ArrayRef)
                }
                _ => decode_value(sql_type, format, value.as_deref()),
            }
        });
        let parameters = parameters.collect::<Result<_, PgError>>()?;
        let portal = Portal { statement, parameters, formats: bind.result_formats, state: PortalState::New };
        self.portals.insert(bind.portal, portal);
        message::empty(&mut self.output.buffer, message::BIND_COMPLETE);
        Ok(())
    }

    fn describe(&mut self, target: Target) -> Result<(), Stop> {
        let (statement, formats) = match &target {
            Target::Statement(name) => {
                let statement = self.statement(name)?.clone();
                let types = statement.0.as_ref().map_or(&[][..], |both| both.1.parameter_types());
                message::parameter_description(&mut self.output.buffer, types);
                (statement, Vec::new())
            }
            // A cursor of DECLARE is a portal to its client, which describes it before it fetches.
            Target::Portal(name) if !self.portals.contains_key(name) && self.session.cursor_columns(name).is_some() => {
                if let Some(schema) = self.session.cursor_columns(name) {
                    message::row_description(&mut self.output.buffer, schema, &[]);
                }
                return Ok(());
            }
            Target::Portal(name) => {
                let portal = self.portals.get(name).ok_or_else(|| unknown_portal(name))?;
                (portal.statement.clone(), portal.formats.clone())
            }
        };
        match statement.0.as_ref().and_then(|both| both.1.columns()) {
            Some(schema) => message::row_description(&mut self.output.buffer, schema, &formats),
            None => message::empty(&mut self.output.buffer, message::NO_DATA),
        }
        Ok(())
    }

    async fn execute_portal(&mut self, name: String, max_rows: usize) -> Result<(), Stop> {
        // Out of the map while it runs, so that the connection is free to be borrowed.
        let mut portal = self.portals.remove(&name).ok_or_else(|| unknown_portal(&name))?;
        let state = std::mem::replace(&mut portal.state, PortalState::Done { had_rows: false });
        portal.state = match state {
            PortalState::New => {
                let (statement, parameters) = (portal.statement.clone(), portal.parameters.clone());
                self.start_portal(statement, parameters, portal.formats.clone(), max_rows).await?
            }
            PortalState::Running(cursor) => self.continue_portal(cursor, max_rows).await?,
            PortalState::Done { had_rows: true } => {
                self.command_done("SELECT 0");
                PortalState::Done { had_rows: true }
            }
            PortalState::Done { had_rows: false } => {
                let message = format!("portal \"{name}\" cannot be run");
                return Err(Stop::Failed(PgError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message)));
            }
        };
        self.portals.insert(name, portal);
        Ok(())
    }

    async fn start_portal(
        &mut self,
        statement: PreparedStatement,
        parameters: Vec<ArrayRef>,
        formats: Vec<Format>,
        max_rows: usize,
    ) -> Result<PortalState, Stop> {
        let done = PortalState::Done { had_rows: false };
        let Some(both) = statement.0 else {
            message::empty(&mut self.output.buffer, message::EMPTY_QUERY_RESPONSE);
            return Ok(done);
        };
        let (statement, prepared) = both.as_ref();
        if self.session.transaction_status() == TransactionStatus::Failed && !prepared.is_transaction_exit() {
            return Err(Stop::Failed(PgError::new(
                SqlState::IN_FAILED_SQL_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            )));
        }
        // Followed by Sync, as nearly all are, a statement is its own transaction.
        if self.reader.arrived() != Some(b'S') {
            self.session.begin_implicit();
        }
        let response = self.execute(statement, prepared, parameters).await?;
        self.notices();
        let tag = match response {
            Response::Rows { schema, rows, tag } => {
                let printing = self.format_options(&schema);
                let cursor = RowCursor::new(schema, rows, formats, tag, printing);
                return self.continue_portal(cursor, max_rows).await;
            }
            Response::CopyOut { schema, rows, options } => {
                let printing = self.format_options(&schema);
                let cursor = RowCursor::copy(schema, rows, options, printing);
                return self.continue_portal(cursor, 0).await;
            }
            Response::CopyIn(copy) => self.copy_in(copy).await?,
            Response::Command { tag } => tag,
            Response::Empty => {
                message::empty(&mut self.output.buffer, message::EMPTY_QUERY_RESPONSE);
                return Ok(done);
            }
        };
        self.command_done(&tag);
        Ok(done)
    }

    async fn continue_portal(&mut self, mut cursor: RowCursor, max_rows: usize) -> Result<PortalState, Stop> {
        match self.send_rows(&mut cursor, max_rows).await? {
            Sent::All(tag) => {
                self.command_done(&tag);
                Ok(PortalState::Done { had_rows: true })
            }
            Sent::Limit => {
                message::empty(&mut self.output.buffer, message::PORTAL_SUSPENDED);
                Ok(PortalState::Running(cursor))
            }
        }
    }

    fn statement(&self, name: &str) -> Result<&PreparedStatement, PgError> {
        self.statements.get(name).ok_or_else(|| {
            let message = match name {
                "" => "unnamed prepared statement does not exist".to_string(),
                name => format!("prepared statement \"{name}\" does not exist"),
            };
            PgError::new(SqlState::INVALID_SQL_STATEMENT_NAME, message)
        })
    }
}

fn unknown_portal(name: &str) -> PgError {
    PgError::new(SqlState::INVALID_CURSOR_NAME, format!("portal \"{name}\" does not exist"))
}
