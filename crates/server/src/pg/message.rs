//! PostgreSQL's wire messages: frames in, typed frontend messages out, and the bytes of every backend message.
//!
//! ```text
//! startup   | length i32 (with itself) | code or version i32 | ..                 no tag: the client speaks first
//! afterward | tag u8 | length i32 (with itself, without the tag) | body
//! ```
//!
//! What we say is laid out by pgwire, but for rows and COPY data, which are written straight into the connection's output
//! buffer. What a client says we read ourselves, because it is not trusted with our memory or our threads: a frame is cut
//! out whole before anything in it is read, every read inside is bounded by the frame, and text must be UTF-8 (ADR 8).

use bytes::{Buf, Bytes, BytesMut};
use engine::{Notice, Notification};
use pgwire::messages::Message;
use pgwire::messages::copy::{CopyInResponse, CopyOutResponse};
use pgwire::messages::data::{FieldDescription, ParameterDescription, RowDescription};
pub(crate) use pgwire::messages::response::TransactionStatus;
use pgwire::messages::response::{CommandComplete, ErrorResponse, NoticeResponse, NotificationResponse, ReadyForQuery};
use pgwire::messages::startup::{Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey};
use repr::{ColumnSchema, PgError, RelationSchema, SqlState, SqlType};

use crate::pg::encode::Format;

/// The largest frame that is read. A longer one is skipped and answered with 54000.
pub(crate) const MESSAGE_BYTES_MAX: usize = 128 << 20;

/// The largest SQL text that is parsed. Parsing takes some hundred bytes of memory a token, so text is bounded more
/// tightly than data (parameters and COPY).
pub(crate) const STATEMENT_BYTES_MAX: usize = 16 << 20;

/// The longest answer to a request for a password, PostgreSQL's own limit. It comes from clients that are not let in yet.
pub(crate) const PASSWORD_BYTES_MAX: usize = 65_535;

/// The longest startup packet, PostgreSQL's own limit.
pub(crate) const STARTUP_BYTES_MAX: usize = 10_000;

const SSL_REQUEST: i32 = 80877103;
const GSS_ENCRYPTION_REQUEST: i32 = 80877104;
const CANCEL_REQUEST: i32 = 80877102;

/// The first packet of a connection, before anything is agreed on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StartupPacket {
    /// May we speak TLS? Answered with one byte; then TLS begins, or the client sends another startup packet.
    TlsRequest,
    /// The same for GSS, which we do not have.
    GssRequest,
    /// Stop what that session does. Nothing is answered.
    Cancel { process_id: i32, secret: Vec<u8> },
    /// Begin a session in this protocol version.
    Startup { major: u16, minor: u16, parameters: Vec<(String, String)> },
}

/// What a client can say within a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frontend {
    Query(String),
    Parse { name: String, text: String, parameter_oids: Vec<u32> },
    Bind(Bind),
    Describe(Target),
    Execute { portal: String, max_rows: usize },
    Close(Target),
    Flush,
    Sync,
    CopyData(Bytes),
    CopyDone,
    CopyFail(String),
    FunctionCall,
    Terminate,
}

/// A portal made from a prepared statement, its parameters and the formats wanted for its columns.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) portal: String,
    pub(crate) statement: String,
    /// None (all text), one for all, or one a parameter.
    pub(crate) parameter_formats: Vec<Format>,
    /// `None` is NULL.
    pub(crate) parameters: Vec<Option<Bytes>>,
    /// None (all text), one for all, or one a column.
    pub(crate) result_formats: Vec<Format>,
}

/// What Describe and Close name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Statement(String),
    Portal(String),
}

/// Why a frame is not a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MessageError {
    /// The frame contradicts the protocol: after this nothing the client says can be trusted to be aligned.
    Malformed(String),
    /// A well-formed frame with a value that is refused; the session goes on.
    Refused(PgError),
}

fn malformed(what: impl Into<String>) -> MessageError {
    MessageError::Malformed(what.into())
}

/// Reads a startup packet's body (without its length).
pub(crate) fn decode_startup(body: Bytes) -> Result<StartupPacket, MessageError> {
    let mut fields = Fields(body);
    match fields.i32()? {
        SSL_REQUEST => Ok(StartupPacket::TlsRequest),
        GSS_ENCRYPTION_REQUEST => Ok(StartupPacket::GssRequest),
        CANCEL_REQUEST => {
            let process_id = fields.i32()?;
            if fields.0.is_empty() || fields.0.len() > 256 {
                return Err(malformed("invalid length of cancel request"));
            }
            Ok(StartupPacket::Cancel { process_id, secret: fields.0.to_vec() })
        }
        version => {
            let (major, minor) = ((version >> 16) as u16, version as u16);
            let mut parameters = Vec::new();
            // Another major version lays its packet out differently; only the number is of use then.
            if major == 3 {
                loop {
                    let name = fields.string()?;
                    if name.is_empty() {
                        break;
                    }
                    parameters.push((name, fields.string()?));
                }
                fields.end("startup packet")?;
            }
            Ok(StartupPacket::Startup { major, minor, parameters })
        }
    }
}

/// Reads one message's body.
pub(crate) fn decode(tag: u8, body: Bytes) -> Result<Frontend, MessageError> {
    let mut fields = Fields(body);
    let message = match tag {
        b'Q' => Frontend::Query(fields.string()?),
        b'P' => {
            let (name, text) = (fields.string()?, fields.string()?);
            let count = fields.u16()?;
            let parameter_oids = (0..count).map(|_| fields.u32()).collect::<Result<_, _>>()?;
            Frontend::Parse { name, text, parameter_oids }
        }
        b'B' => {
            let (portal, statement) = (fields.string()?, fields.string()?);
            let parameter_formats = fields.formats()?;
            let count = fields.u16()?;
            let parameters = (0..count).map(|_| fields.value()).collect::<Result<_, _>>()?;
            let result_formats = fields.formats()?;
            Frontend::Bind(Bind { portal, statement, parameter_formats, parameters, result_formats })
        }
        b'D' => Frontend::Describe(fields.target()?),
        b'C' => Frontend::Close(fields.target()?),
        b'E' => {
            let portal = fields.string()?;
            // Zero and, as PostgreSQL has it, everything negative is no limit.
            let max_rows = usize::try_from(fields.i32()?).unwrap_or(0);
            Frontend::Execute { portal, max_rows }
        }
        b'H' => Frontend::Flush,
        b'S' => Frontend::Sync,
        b'd' => Frontend::CopyData(std::mem::take(&mut fields.0)),
        b'c' => Frontend::CopyDone,
        b'f' => Frontend::CopyFail(fields.string()?),
        b'F' => {
            fields.0.clear();
            Frontend::FunctionCall
        }
        b'X' => Frontend::Terminate,
        other => return Err(malformed(format!("invalid frontend message type {other}"))),
    };
    fields.end("message")?;
    Ok(message)
}

/// A frame's remaining bytes, read from the front and never past the end.
struct Fields(Bytes);

impl Fields {
    fn take(&mut self, count: usize) -> Result<Bytes, MessageError> {
        match self.0.len() >= count {
            true => Ok(self.0.split_to(count)),
            false => Err(malformed("insufficient data left in message")),
        }
    }

    fn u8(&mut self) -> Result<u8, MessageError> {
        Ok(self.take(1)?.get_u8())
    }

    fn u16(&mut self) -> Result<u16, MessageError> {
        Ok(self.take(2)?.get_u16())
    }

    fn i32(&mut self) -> Result<i32, MessageError> {
        Ok(self.take(4)?.get_i32())
    }

    fn u32(&mut self) -> Result<u32, MessageError> {
        Ok(self.take(4)?.get_u32())
    }

    fn string(&mut self) -> Result<String, MessageError> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(|| malformed("invalid string in message"))?;
        let bytes = self.take(end + 1)?;
        utf8(&bytes[..end]).map(str::to_string).map_err(MessageError::Refused)
    }

    fn value(&mut self) -> Result<Option<Bytes>, MessageError> {
        match self.i32()? {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) => self.take(length).map(Some),
                Err(_) => Err(malformed("invalid value length in message")),
            },
        }
    }

    fn formats(&mut self) -> Result<Vec<Format>, MessageError> {
        let count = self.u16()?;
        let format = |code| match code {
            0 => Ok(Format::Text),
            1 => Ok(Format::Binary),
            other => Err(malformed(format!("unsupported format code: {other}"))),
        };
        (0..count).map(|_| self.u16().and_then(format)).collect()
    }

    fn target(&mut self) -> Result<Target, MessageError> {
        match self.u8()? {
            b'S' => Ok(Target::Statement(self.string()?)),
            b'P' => Ok(Target::Portal(self.string()?)),
            other => Err(malformed(format!("invalid DESCRIBE or CLOSE message subtype {other}"))),
        }
    }

    fn end(&self, what: &str) -> Result<(), MessageError> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(malformed(format!("invalid {what} format: {} bytes too many", self.0.len()))),
        }
    }
}

/// Text from the client; 22021 as PostgreSQL words it where it is not UTF-8.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, PgError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let start = error.valid_up_to();
        let end = start + error.error_len().unwrap_or(bytes.len() - start).max(1);
        let shown: Vec<String> = bytes[start..end].iter().map(|byte| format!("0x{byte:02x}")).collect();
        let message = format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" "));
        PgError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, message)
    })
}

/// Appends a message: its tag, its length, and what `body` writes.
pub(crate) fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    // Every message is bounded by what fits in memory a row at a time; a row beyond 2 GiB is refused where it is encoded.
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends a message that pgwire lays out. Rows and COPY data do not come this way: they are written in place.
fn put(out: &mut Vec<u8>, message: impl Message) {
    let mut bytes = BytesMut::new();
    match message.encode(&mut bytes) {
        Ok(()) => out.extend_from_slice(&bytes),
        // Only what libpq would not read either: a command tag or a setting of more than 30,000 bytes.
        Err(error) => tracing::error!("a message is not sent: {error}"),
    }
}

/// Text for a message. A zero inside would end it early and leave its rest to be read as the next field.
fn text(text: &str) -> String {
    text.chars().filter(|char| *char != '\0').collect()
}

/// AuthenticationCleartextPassword: send the password as it is.
pub(crate) fn authentication_cleartext(out: &mut Vec<u8>) {
    put(out, Authentication::CleartextPassword);
}

/// AuthenticationSASL: choose one of these mechanisms, best first.
pub(crate) fn authentication_sasl(out: &mut Vec<u8>, mechanisms: &[&str]) {
    put(out, Authentication::SASL(mechanisms.iter().map(|mechanism| mechanism.to_string()).collect()));
}

/// AuthenticationSASLContinue, with the mechanism's own message.
pub(crate) fn authentication_sasl_continue(out: &mut Vec<u8>, data: &[u8]) {
    put(out, Authentication::SASLContinue(Bytes::copy_from_slice(data)));
}

/// AuthenticationSASLFinal, the mechanism's last message.
pub(crate) fn authentication_sasl_final(out: &mut Vec<u8>, data: &[u8]) {
    put(out, Authentication::SASLFinal(Bytes::copy_from_slice(data)));
}

/// AuthenticationOk: on a trusted connection the first answer.
pub(crate) fn authentication_ok(out: &mut Vec<u8>) {
    put(out, Authentication::Ok);
}

/// A setting the client is told of, at the start and whenever it changes.
pub(crate) fn parameter_status(out: &mut Vec<u8>, name: &str, value: &str) {
    put(out, ParameterStatus::new(text(name), text(value)));
}

/// What a CancelRequest must show.
pub(crate) fn backend_key_data(out: &mut Vec<u8>, process_id: i32, secret: &[u8]) {
    put(out, BackendKeyData::new(process_id, SecretKey::Bytes(Bytes::copy_from_slice(secret))));
}

/// NotificationResponse: someone has notified a channel that the session listens to.
pub(crate) fn notification_response(out: &mut Vec<u8>, notification: &Notification) {
    let (channel, payload) = (text(&notification.channel), text(&notification.payload));
    put(out, NotificationResponse::new(notification.process_id, channel, payload));
}

/// The client asked for a newer minor version or for options we do not know: this is what we speak.
pub(crate) fn negotiate_protocol_version(out: &mut Vec<u8>, minor: u16, unknown_options: &[String]) {
    let version = (3i32 << 16) | i32::from(minor);
    put(out, NegotiateProtocolVersion::new(version, unknown_options.iter().map(|option| text(option)).collect()));
}

/// ReadyForQuery.
pub(crate) fn ready_for_query(out: &mut Vec<u8>, status: TransactionStatus) {
    put(out, ReadyForQuery::new(status));
}

/// A message that is its tag alone.
pub(crate) fn empty(out: &mut Vec<u8>, tag: u8) {
    message(out, tag, |_| {});
}

pub(crate) const PARSE_COMPLETE: u8 = b'1';
pub(crate) const BIND_COMPLETE: u8 = b'2';
pub(crate) const CLOSE_COMPLETE: u8 = b'3';
pub(crate) const NO_DATA: u8 = b'n';
pub(crate) const PORTAL_SUSPENDED: u8 = b's';
pub(crate) const EMPTY_QUERY_RESPONSE: u8 = b'I';
pub(crate) const COPY_DONE: u8 = b'c';

/// CommandComplete with its tag, such as `INSERT 0 1`.
pub(crate) fn command_complete(out: &mut Vec<u8>, tag: &str) {
    put(out, CommandComplete::new(text(tag)));
}

/// The types of a prepared statement's parameters.
pub(crate) fn parameter_description(out: &mut Vec<u8>, types: &[SqlType]) {
    put(out, ParameterDescription::new(types.iter().map(described_oid).collect()));
}

/// The columns of rows to come. `formats` as in Bind: none, one for all, or one a column.
pub(crate) fn row_description(out: &mut Vec<u8>, schema: &RelationSchema, formats: &[Format]) {
    let field = |(index, column): (usize, &ColumnSchema)| {
        let size_bytes = match &column.sql_type {
            SqlType::Array(_) | SqlType::Unknown => -1,
            scalar => scalar.info().size_bytes,
        };
        // No table and no column number: a result's column is an expression to us.
        let (table, number) = (0, 0);
        let oid = described_oid(&column.sql_type);
        let format = Format::of_column(formats, index).code();
        FieldDescription::new(text(&column.name), table, number, oid, size_bytes, column.typmod, format)
    };
    put(out, RowDescription::new(schema.columns.iter().enumerate().map(field).collect()));
}

/// PostgreSQL resolves an unknown literal to text before a client hears of it.
fn described_oid(sql_type: &SqlType) -> u32 {
    match sql_type {
        SqlType::Unknown => SqlType::Text.oid(),
        known => known.oid(),
    }
}

/// CopyInResponse: send the data, all columns in one format.
pub(crate) fn copy_in_response(out: &mut Vec<u8>, format: Format, column_count: usize) {
    let formats = vec![format.code(); column_count];
    put(out, CopyInResponse::new(format.code() as i8, column_count as i16, formats));
}

/// CopyOutResponse: the data follows, all columns in one format.
pub(crate) fn copy_out_response(out: &mut Vec<u8>, format: Format, column_count: usize) {
    let formats = vec![format.code(); column_count];
    put(out, CopyOutResponse::new(format.code() as i8, column_count as i16, formats));
}

/// How bad an ErrorResponse is for the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// The statement failed.
    Error,
    /// The connection ends.
    Fatal,
}

/// ErrorResponse.
pub(crate) fn error_response(out: &mut Vec<u8>, severity: Severity, error: &PgError) {
    let severity = match severity {
        Severity::Error => "ERROR",
        Severity::Fatal => "FATAL",
    };
    put(out, ErrorResponse::new(error_fields(severity, error)));
}

/// NoticeResponse.
pub(crate) fn notice_response(out: &mut Vec<u8>, notice: &Notice) {
    put(out, NoticeResponse::new(error_fields(notice.severity.name(), &notice.error)));
}

/// The fields of an error by their codes: severity (also untranslated), SQLSTATE, message, then what there is of the others.
fn error_fields(severity: &str, error: &PgError) -> Vec<(u8, String)> {
    let mut fields = vec![
        (b'S', severity.to_string()),
        (b'V', severity.to_string()),
        (b'C', error.state.0.to_string()),
        (b'M', text(&error.message)),
    ];
    fields.extend(error.detail.as_deref().map(|detail| (b'D', text(detail))));
    fields.extend(error.hint.as_deref().map(|hint| (b'H', text(hint))));
    fields.extend(error.position.map(|position| (b'P', position.to_string())));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind_body() -> Vec<u8> {
        let mut body = b"portal\0statement\0".to_vec();
        body.extend_from_slice(&[0, 1, 0, 1]); // One parameter format: binary.
        body.extend_from_slice(&[0, 2, 0, 0, 0, 2, b'h', b'i', 255, 255, 255, 255]); // "hi" and NULL.
        body.extend_from_slice(&[0, 0]);
        body
    }

    #[test]
    fn bind_is_read_in_full() {
        let expected = Bind {
            portal: "portal".into(),
            statement: "statement".into(),
            parameter_formats: vec![Format::Binary],
            parameters: vec![Some(Bytes::from_static(b"hi")), None],
            result_formats: vec![],
        };
        assert_eq!(decode(b'B', bind_body().into()), Ok(Frontend::Bind(expected)));
    }

    #[test]
    fn every_truncation_is_malformed_and_none_panics() {
        let body = bind_body();
        for length in 0..body.len() {
            let cut = Bytes::copy_from_slice(&body[..length]);
            assert!(matches!(decode(b'B', cut), Err(MessageError::Malformed(_))), "cut at {length}");
        }
        let parse = b"name\0select 1\0\0\x01\0\0\0\x17";
        for length in 0..parse.len() {
            let cut = Bytes::copy_from_slice(&parse[..length]);
            assert!(matches!(decode(b'P', cut), Err(MessageError::Malformed(_))), "cut at {length}");
        }
    }

    #[test]
    fn bytes_after_a_message_are_malformed() {
        assert!(matches!(decode(b'S', Bytes::from_static(b"x")), Err(MessageError::Malformed(_))));
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_but_does_not_end_the_session() {
        let Err(MessageError::Refused(error)) = decode(b'Q', Bytes::from_static(b"select '\xff'\0")) else {
            panic!("accepted");
        };
        assert_eq!(error.state, SqlState::CHARACTER_NOT_IN_REPERTOIRE);
        assert_eq!(error.message, "invalid byte sequence for encoding \"UTF8\": 0xff");
    }

    #[test]
    fn startup_packets() {
        let encryption = Bytes::copy_from_slice(&SSL_REQUEST.to_be_bytes());
        assert_eq!(decode_startup(encryption), Ok(StartupPacket::TlsRequest));
        let startup = Bytes::from_static(b"\0\x03\0\0user\0me\0database\0\0\0");
        let parameters = vec![("user".to_string(), "me".to_string()), ("database".to_string(), String::new())];
        assert_eq!(decode_startup(startup), Ok(StartupPacket::Startup { major: 3, minor: 0, parameters }));
        assert!(matches!(decode_startup(Bytes::from_static(b"\0\x03\0\0user\0me")), Err(MessageError::Malformed(_))));
        assert!(matches!(decode_startup(Bytes::from_static(b"\0\x03")), Err(MessageError::Malformed(_))));
    }
}
