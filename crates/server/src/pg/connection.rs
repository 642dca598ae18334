//! One client's session on the wire: reads messages, runs them, answers, until either side ends it.
//!
//! Only a whole message is ever in the output buffer when control returns here, so whatever happens (an error, a panic
//! below us) what the client reads stays in step. A panic is a defect: it is answered with XX000 and ends this session
//! alone.

use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::ArrayRef;
use engine::{CopyIn, Prepared, Response, Session, Statement, TransactionStatus};
use futures::FutureExt;
use repr::text::{FormatOptions, TimeZone};
use repr::{PgError, RelationSchema, SqlState, SqlType};
use tokio::time::Instant;

use crate::pg::copy::CopyDecoder;
use crate::pg::encode::Format;
use crate::pg::extended::{Portal, PreparedStatement};
use crate::pg::keepalive::Keepalive;
use crate::pg::message::{self, Frontend, MESSAGE_BYTES_MAX, MessageError, STATEMENT_BYTES_MAX, Severity};
use crate::pg::socket::{Frame, Output, Reader};
use crate::pg::startup::Opened;
use crate::pg::{Admission, Wire, told_to_stop};

/// How long a session that was told to end may still be sending.
const TERMINATION_GRACE: Duration = Duration::from_secs(5);

pub(crate) struct Connection {
    pub(crate) wire: Arc<Wire>,
    pub(crate) session: Session,
    pub(crate) reader: Reader,
    pub(crate) output: Output,
    /// By name; the unnamed one is "".
    pub(crate) statements: HashMap<String, PreparedStatement>,
    /// By name; the unnamed one is "". They end with their transaction.
    pub(crate) portals: HashMap<String, Portal>,
    /// A message of the extended protocol failed: everything up to the next Sync is ignored.
    pub(crate) skipping: bool,
    /// ReadyForQuery was the last that was said: the client is idle, and hears what others notify it of.
    is_ready: bool,
    /// The socket's keepalive, and what it follows.
    keepalive: Keepalive,
    /// Held for as long as the session counts against the limit.
    _admission: Admission,
}

/// Why something could not go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The statement failed; the session goes on.
    Failed(PgError),
    /// The connection ends.
    End(End),
}

/// How a connection ends.
#[derive(Debug)]
pub(crate) enum End {
    /// The client said goodbye, or is not there any more.
    Vanished,
    /// We end it and say why.
    Fatal(PgError),
}

impl From<PgError> for Stop {
    fn from(error: PgError) -> Stop {
        Stop::Failed(error)
    }
}

impl From<io::Error> for Stop {
    /// Reading and writing a socket fails when the other side is gone.
    fn from(error: io::Error) -> Stop {
        tracing::debug!("a connection broke: {error}");
        Stop::End(End::Vanished)
    }
}

pub(crate) fn protocol_violation(message: impl Into<String>) -> PgError {
    PgError::new(SqlState::PROTOCOL_VIOLATION, message)
}

impl Connection {
    /// `socket` is the one below `reader` and `output`.
    pub(crate) fn new(wire: Arc<Wire>, opened: Opened, reader: Reader, output: Output, socket: RawFd) -> Connection {
        Connection {
            wire,
            session: opened.session,
            reader,
            output,
            statements: HashMap::new(),
            portals: HashMap::new(),
            skipping: false,
            is_ready: false,
            keepalive: Keepalive::of(socket),
            _admission: opened.admission,
        }
    }

    /// Runs the session to its end.
    pub(crate) async fn run(mut self) {
        let mailbox = Arc::clone(self.session.mailbox());
        let overdue = async {
            mailbox.terminated().await;
            tokio::time::sleep(TERMINATION_GRACE).await;
        };
        let ended = tokio::select! {
            ended = AssertUnwindSafe(self.converse()).catch_unwind() => ended,
            // A client that does not read what it is sent would keep its session for ever.
            () = overdue => return,
        };
        let error = match ended {
            Ok(End::Vanished) => return,
            Ok(End::Fatal(error)) => error,
            Err(_) => {
                // The panic hook has logged it. What was not sent may end within a message.
                self.output.buffer.clear();
                PgError::internal("the server failed in a way it should not have; this session ends")
                    .with_hint("The server's log says where. Please report it.")
            }
        };
        message::error_response(&mut self.output.buffer, Severity::Fatal, &error);
        if let Err(error) = self.output.flush().await {
            tracing::debug!("a connection broke while it ended: {error}");
        }
    }

    async fn converse(&mut self) -> End {
        self.ready();
        loop {
            let step = async {
                // A client that has sent its next message already is not waiting for this answer alone.
                if self.reader.arrived().is_none() {
                    self.output.flush().await?;
                    self.output.shrink();
                } else {
                    self.output.flush_if_full().await?;
                }
                let frame = self.next_frame().await?;
                self.is_ready = false;
                self.answer(frame).await
            };
            match step.await {
                Ok(()) => {}
                Err(Stop::End(end)) => return end,
                // Every kind of message answers its own failures.
                Err(Stop::Failed(error)) => return End::Fatal(error),
            }
        }
    }

    /// The next message. Meanwhile the client hears what it is to hear at any time.
    async fn next_frame(&mut self) -> Result<Frame, Stop> {
        let (mut stop, mailbox) = (self.wire.stop.clone(), Arc::clone(self.session.mailbox()));
        let limit = if self.is_ready { self.idle_limit() } else { None };
        let deadline = limit.as_ref().map(|(limit, _)| Instant::now() + *limit);
        loop {
            let too_late = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = told_to_stop(&mut stop) => return Err(Stop::End(End::Fatal(shutting_down()))),
                () = mailbox.arrived() => {}
                frame = self.reader.frame() => return Ok(frame?),
                () = too_late => {
                    let error = limit.map_or_else(shutting_down, |(_, error)| error);
                    return Err(Stop::End(End::Fatal(error)));
                }
            }
            if mailbox.is_terminated() {
                return Err(Stop::End(End::Fatal(shutting_down())));
            }
            if self.is_ready {
                self.notifications();
                self.output.flush().await?;
            }
        }
    }

    /// How long the client may be idle as it is now, and what it is told after.
    fn idle_limit(&self) -> Option<(Duration, PgError)> {
        let (setting, state, what) = match self.session.transaction_status() {
            TransactionStatus::Idle => ("idle_session_timeout", "57P05", "idle-session"),
            _ => ("idle_in_transaction_session_timeout", "25P03", "idle-in-transaction"),
        };
        let limit_ms = self.session.milliseconds(setting);
        let error = || PgError::new(SqlState(state), format!("terminating connection due to {what} timeout"));
        (limit_ms > 0).then(|| (Duration::from_millis(limit_ms), error()))
    }

    /// Writes what others have notified the session of.
    fn notifications(&mut self) {
        for notification in self.session.take_notifications() {
            message::notification_response(&mut self.output.buffer, &notification);
        }
    }

    /// How a statement's error is taken: it is the session's end if that was what it was told.
    pub(crate) fn stop_of(&self, error: PgError) -> Stop {
        match self.session.mailbox().is_terminated() && error.state == SqlState::ADMIN_SHUTDOWN {
            true => Stop::End(End::Fatal(error)),
            false => Stop::Failed(error),
        }
    }

    async fn answer(&mut self, frame: Frame) -> Result<(), Stop> {
        let (tag, decoded) = match frame {
            Frame::Message { tag, body } => (tag, message::decode(tag, body)),
            Frame::TooLarge { tag, bytes } => (tag, Err(MessageError::Refused(too_large(tag, bytes)))),
            Frame::Malformed => return Err(Stop::End(End::Fatal(protocol_violation("invalid message length")))),
            Frame::End => return Err(Stop::End(End::Vanished)),
        };
        let message = match decoded {
            Ok(message) => message,
            Err(MessageError::Malformed(what)) => return Err(Stop::End(End::Fatal(protocol_violation(what)))),
            Err(MessageError::Refused(error)) => {
                return match tag {
                    b'Q' => {
                        self.failed(&error);
                        self.ready();
                        Ok(())
                    }
                    // The remains of a COPY that has failed already.
                    b'd' | b'c' | b'f' => Ok(()),
                    _ => self.extended_failed(error).await,
                };
            }
        };
        match message {
            Frontend::Terminate => Err(Stop::End(End::Vanished)),
            Frontend::Sync => self.sync().await,
            _ if self.skipping => Ok(()),
            Frontend::Query(text) => self.simple_query(text).await,
            Frontend::FunctionCall => {
                self.failed(&PgError::unsupported("the fast-path function call"));
                self.ready();
                Ok(())
            }
            // The remains of a COPY that failed; PostgreSQL drops them silently too.
            Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail(_) => Ok(()),
            Frontend::Flush => Ok(self.output.flush().await?),
            extended => match self.extended(extended).await {
                Err(Stop::Failed(error)) => self.extended_failed(error).await,
                other => other,
            },
        }
    }

    /// Says that a statement failed and lets the transaction know.
    pub(crate) fn failed(&mut self, error: &PgError) {
        self.session.fail_transaction();
        self.notices();
        message::error_response(&mut self.output.buffer, Severity::Error, error);
    }

    /// Writes ReadyForQuery.
    pub(crate) fn ready(&mut self) {
        self.session.settle();
        let status = match self.session.transaction_status() {
            TransactionStatus::Idle => message::TransactionStatus::Idle,
            TransactionStatus::InTransaction => message::TransactionStatus::Transaction,
            TransactionStatus::Failed => message::TransactionStatus::Error,
        };
        if status == message::TransactionStatus::Idle {
            self.portals.clear();
        }
        self.notifications();
        message::ready_for_query(&mut self.output.buffer, status);
        self.is_ready = true;
    }

    /// Writes what the session has to say besides the answer.
    pub(crate) fn notices(&mut self) {
        for notice in self.session.take_notices() {
            message::notice_response(&mut self.output.buffer, &notice);
        }
        for (name, value) in self.session.take_changed_settings() {
            message::parameter_status(&mut self.output.buffer, &name, &value);
        }
        self.keepalive.follow(&self.session);
    }

    /// Binds a statement, watching for a client that leaves meanwhile.
    pub(crate) async fn prepare(
        &mut self,
        statement: &Statement,
        parameter_types: &[Option<repr::SqlType>],
    ) -> Result<Prepared, Stop> {
        let prepared =
            self.session.prepare(statement, parameter_types).await.map_err(|error| place(error, statement))?;
        if self.session.transaction_status() == TransactionStatus::Failed && !prepared.is_transaction_exit() {
            return Err(Stop::Failed(PgError::new(
                SqlState::IN_FAILED_SQL_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            )));
        }
        Ok(prepared)
    }

    /// Runs a bound statement. If the client leaves, the statement is cancelled and seen to its end, so that nothing of
    /// the engine's is dropped halfway.
    pub(crate) async fn execute(
        &mut self,
        statement: &Statement,
        prepared: &Prepared,
        parameters: Vec<ArrayRef>,
    ) -> Result<Response, Stop> {
        if let Some(name) = deallocated(&statement.text)
            && self.statements.remove(&name).is_some()
        {
            return Ok(Response::Command { tag: "DEALLOCATE".to_string() });
        }
        let (process_id, secret) = (self.session.process_id(), self.session.secret_key().to_vec());
        let response = {
            let execution = self.session.execute(prepared, parameters);
            tokio::pin!(execution);
            tokio::select! {
                biased;
                response = &mut execution => response,
                () = self.reader.gone() => {
                    self.wire.engine.cancel(process_id, &secret);
                    let _ = execution.await;
                    return Err(Stop::End(End::Vanished));
                }
            }
        };
        response.map_err(|error| self.stop_of(place(error, statement)))
    }

    /// How values of these columns are printed for this session.
    pub(crate) fn format_options(&self, schema: &RelationSchema) -> FormatOptions {
        // SET has refused every name that is no zone.
        let timezone = self.session.setting("timezone").and_then(|name| TimeZone::parse(&name).ok());
        let is_named = |sql_type: &SqlType| sql_type.element().unwrap_or(sql_type).is_registered();
        let named = schema.columns.iter().any(|column| is_named(&column.sql_type));
        let names = named.then(|| self.session.names());
        FormatOptions { timezone: timezone.unwrap_or(TimeZone::UTC), names }
    }

    /// Ends `grace` after the server was told to stop.
    pub(crate) fn stopped(&self, grace: Duration) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.wire.stop.clone();
        async move {
            told_to_stop(&mut stop).await;
            tokio::time::sleep(grace).await;
        }
    }

    /// COPY FROM STDIN: asks for the data, reads it to its end and writes it. Gives the command tag.
    pub(crate) async fn copy_in(&mut self, copy: CopyIn) -> Result<String, Stop> {
        let format = match copy.options.format {
            engine::CopyFormat::Binary => Format::Binary,
            engine::CopyFormat::Text | engine::CopyFormat::Csv => Format::Text,
        };
        message::copy_in_response(&mut self.output.buffer, format, copy.schema.columns.len());
        self.output.flush().await?;
        let mut decoder = CopyDecoder::new(copy.schema.clone(), copy.options.clone());
        loop {
            let (tag, decoded) = match self.next_frame().await? {
                Frame::Message { tag, body } => (tag, message::decode(tag, body)),
                Frame::TooLarge { tag, bytes } => return Err(Stop::Failed(too_large(tag, bytes))),
                Frame::Malformed => return Err(Stop::End(End::Fatal(protocol_violation("invalid message length")))),
                Frame::End => return Err(Stop::End(End::Vanished)),
            };
            match decoded {
                Ok(Frontend::CopyData(piece)) => decoder.push(&piece)?,
                Ok(Frontend::CopyDone) => break,
                Ok(Frontend::CopyFail(reason)) => {
                    let message = format!("COPY from stdin failed: {reason}");
                    return Err(Stop::Failed(PgError::new(SqlState::QUERY_CANCELED, message)));
                }
                // The extended protocol sends them after Execute as a matter of course.
                Ok(Frontend::Flush | Frontend::Sync) => {}
                Ok(Frontend::Terminate) => return Err(Stop::End(End::Vanished)),
                Ok(_) => {
                    let message = format!("unexpected message type 0x{tag:02X} during COPY from stdin");
                    return Err(Stop::End(End::Fatal(protocol_violation(message))));
                }
                Err(MessageError::Malformed(what)) => return Err(Stop::End(End::Fatal(protocol_violation(what)))),
                Err(MessageError::Refused(error)) => return Err(Stop::Failed(error)),
            }
        }
        let batches = decoder.finish()?;
        Ok(self.session.copy_in(&copy, batches).await?)
    }
}

/// The name in `DEALLOCATE [PREPARE] name`. Statements prepared by the protocol and by SQL share their names in PostgreSQL,
/// and psycopg tidies the former up by the latter's statement.
fn deallocated(text: &str) -> Option<String> {
    let mut words = text.split_whitespace();
    if !words.next()?.eq_ignore_ascii_case("deallocate") {
        return None;
    }
    let name = match (words.next()?, words.next()) {
        (prepare, Some(name)) if prepare.eq_ignore_ascii_case("prepare") => name,
        (name, None) => name,
        _ => return None,
    };
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(quoted) => Some(quoted.replace("\"\"", "\"")),
        None => Some(name.to_lowercase()),
    }
}

/// Positions are counted from the statement's own start; the client knows only the whole text it sent.
fn place(mut error: PgError, statement: &Statement) -> PgError {
    error.position = error.position.map(|position| position + statement.offset as u32);
    error
}

fn shutting_down() -> PgError {
    PgError::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
}

fn too_large(tag: u8, bytes: usize) -> PgError {
    let (what, limit, hint) = match tag {
        b'Q' | b'P' => {
            ("statement", STATEMENT_BYTES_MAX, "Send data in several statements, as parameters, or by COPY.")
        }
        _ => ("message", MESSAGE_BYTES_MAX, "Send it in smaller pieces."),
    };
    PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, format!("{what} of {bytes} bytes is too long"))
        .with_detail(format!("A {what} may have {limit} bytes."))
        .with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deallocate_names_a_statement() {
        assert_eq!(deallocated("DEALLOCATE _pg3_0").as_deref(), Some("_pg3_0"));
        assert_eq!(deallocated("deallocate prepare \"Quoted\"").as_deref(), Some("Quoted"));
        assert_eq!(deallocated("DEALLOCATE PREPARE").as_deref(), Some("prepare"));
        assert_eq!(deallocated("SELECT 1"), None);
    }
}
