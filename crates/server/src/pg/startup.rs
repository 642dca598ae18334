//! From an accepted socket to a session: encryption refused, version agreed on, settings told, or a request to cancel.
//!
//! Authentication is trust: any user, database and password will do. Listening beyond loopback is warned of at start.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use engine::SessionOptions;
use repr::{PgError, SqlState};
use tokio::net::TcpStream;

use crate::pg::connection::Connection;
use crate::pg::message::{self, MessageError, Severity, StartupPacket};
use crate::pg::socket::{Frame, Output, Reader};
use crate::pg::{Admission, Wire, told_to_stop};

/// PostgreSQL's `authentication_timeout`.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);

/// The newest minor version of protocol 3 that we speak.
const MINOR_NEWEST: u16 = 2;

/// Agrees with the client on a session; `None` if there is to be none.
pub(crate) async fn start(socket: TcpStream, wire: &Arc<Wire>) -> io::Result<Option<Connection>> {
    let (read, write) = socket.into_split();
    let (mut reader, mut output) = (Reader::new(read), Output::new(write));
    let mut stop = wire.stop.clone();
    let packet = tokio::select! {
        biased;
        () = told_to_stop(&mut stop) => return Ok(None),
        packet = tokio::time::timeout(STARTUP_TIMEOUT, packet(&mut reader, &mut output)) => match packet {
            Ok(packet) => packet?,
            Err(_) => return Ok(None),
        }
    };
    match packet {
        Ok(None) | Ok(Some(StartupPacket::EncryptionRequest)) => Ok(None),
        Ok(Some(StartupPacket::Cancel { process_id, secret })) => {
            // A secret of another length than ours is as wrong as another secret.
            if let Ok(secret) = <[u8; 4]>::try_from(secret) {
                wire.engine.cancel(process_id, i32::from_be_bytes(secret));
            }
            Ok(None)
        }
        Ok(Some(StartupPacket::Startup { major, minor, parameters })) => {
            match open(wire, major, minor, parameters, &mut output.buffer) {
                Ok(opened) => {
                    let connection = Connection::new(wire.clone(), opened, reader, output);
                    Ok(Some(connection))
                }
                Err(error) => refuse(output, &error).await,
            }
        }
        Err(error) => refuse(output, &error).await,
    }
}

async fn refuse(mut output: Output, error: &PgError) -> io::Result<Option<Connection>> {
    message::error_response(&mut output.buffer, Severity::Fatal, error);
    output.flush().await?;
    Ok(None)
}

/// Reads up to the packet that is not a request for encryption.
async fn packet(reader: &mut Reader, output: &mut Output) -> io::Result<Result<Option<StartupPacket>, PgError>> {
    let malformed = |what: String| PgError::new(SqlState::PROTOCOL_VIOLATION, what);
    // TLS and GSS may both be asked for; more is mischief.
    for _ in 0..3 {
        let body = match reader.startup().await? {
            Frame::Message { body, .. } => body,
            Frame::End => return Ok(Ok(None)),
            Frame::Malformed | Frame::TooLarge { .. } => {
                return Ok(Err(malformed("invalid length of startup packet".to_string())));
            }
        };
        match message::decode_startup(body) {
            Ok(StartupPacket::EncryptionRequest) => {
                output.buffer.push(b'N');
                output.flush().await?;
            }
            Ok(packet) => return Ok(Ok(Some(packet))),
            Err(MessageError::Malformed(what)) => return Ok(Err(malformed(what))),
            Err(MessageError::Refused(error)) => return Ok(Err(error)),
        }
    }
    Ok(Err(malformed("too many requests for encryption".to_string())))
}

/// What a connection is made of once its client is let in.
pub(crate) struct Opened {
    pub(crate) session: engine::Session,
    pub(crate) admission: Admission,
}

/// Opens the session and writes everything up to, not including, the first ReadyForQuery.
fn open(
    wire: &Arc<Wire>,
    major: u16,
    minor: u16,
    parameters: Vec<(String, String)>,
    out: &mut Vec<u8>,
) -> Result<Opened, PgError> {
    if major != 3 {
        let message = format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{MINOR_NEWEST}");
        return Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
    }
    let (protocol_options, mut parameters): (Vec<_>, Vec<_>) =
        parameters.into_iter().partition(|(name, _)| name.starts_with("_pq_."));
    let unknown: Vec<String> = protocol_options.into_iter().map(|(name, _)| name).collect();
    // There was no 3.1.
    let agreed = match minor {
        1 => 0,
        minor => minor.min(MINOR_NEWEST),
    };
    if agreed != minor || !unknown.is_empty() {
        message::negotiate_protocol_version(out, agreed, &unknown);
    }
    let mut take = |wanted: &str| {
        let index = parameters.iter().position(|(name, value)| name == wanted && !value.is_empty())?;
        Some(parameters.remove(index).1)
    };
    let user = take("user").unwrap_or_else(|| "tidewater".to_string());
    let database = take("database").unwrap_or_else(|| user.clone());
    if take("replication").is_some_and(|mode| !matches!(mode.as_str(), "off" | "false" | "no" | "0")) {
        return Err(PgError::unsupported("a replication connection"));
    }
    let options = take("options").unwrap_or_default();
    parameters.retain(|(name, _)| !matches!(name.as_str(), "user" | "database" | "replication" | "options"));
    parameters.extend(command_line_settings(&options)?);
    let admission =
        wire.admit().ok_or_else(|| PgError::new(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already"))?;
    let session = wire.engine.session(SessionOptions { user, database, parameters });
    message::authentication_ok(out);
    for (name, value) in session.reported_settings() {
        message::parameter_status(out, &name, &value);
    }
    message::backend_key_data(out, session.process_id(), session.secret_key());
    Ok(Opened { session, admission })
}

/// The settings in the startup parameter `options`: `-c name=value` and `--name=value`, spaces escaped by backslashes.
fn command_line_settings(options: &str) -> Result<Vec<(String, String)>, PgError> {
    let mut words = vec![String::new()];
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        let word = words.last_mut();
        match (character, word) {
            ('\\', Some(word)) => word.extend(characters.next()),
            (space, _) if space.is_whitespace() => words.push(String::new()),
            (character, Some(word)) => word.push(character),
            (_, None) => {}
        }
    }
    let mut settings = Vec::new();
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let setting = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(setting), _) => setting.replace('-', "_"),
            (None, Some("")) => words.next().unwrap_or_default(),
            (None, Some(setting)) => setting.to_string(),
            (None, None) => {
                let message = format!("invalid command-line argument for server process: {word}");
                return Err(PgError::new(SqlState::SYNTAX_ERROR, message));
            }
        };
        match setting.split_once('=') {
            Some((name, value)) => settings.push((name.to_string(), value.to_string())),
            None => {
                return Err(PgError::new(SqlState::SYNTAX_ERROR, format!("-c {setting} requires a value")));
            }
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_a_command_line() {
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        let settings = command_line_settings("-c a=1  -cb=2 --work-mem=3 -c d=x\\ y").unwrap();
        assert_eq!(settings, [pair("a", "1"), pair("b", "2"), pair("work_mem", "3"), pair("d", "x y")]);
        assert!(command_line_settings("-x").is_err());
        assert!(command_line_settings("-c").is_err());
        assert_eq!(command_line_settings("").unwrap(), []);
    }
}
