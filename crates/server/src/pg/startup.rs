//! From an accepted socket to a session: encryption and version agreed on, the client let in, settings told; or a request to
//! cancel.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use engine::SessionOptions;
use repr::{PgError, SqlState};
use tokio::net::TcpStream;

use crate::pg::auth::{Method, authenticate};
use crate::pg::connection::{Connection, protocol_violation};
use crate::pg::message::{self, MessageError, Severity, StartupPacket};
use crate::pg::socket::{Frame, Output, Reader, begins_with_tls, encrypted, plain, reunite};
use crate::pg::tls::{ALPN, Identity};
use crate::pg::{Admission, Wire, told_to_stop};

/// PostgreSQL's `authentication_timeout`.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);

/// The newest minor version of protocol 3 that we speak.
const MINOR_NEWEST: u16 = 2;

/// The first one in which the key of a CancelRequest may be longer than four bytes.
const MINOR_LONG_KEYS: u16 = 2;

/// How long the key is then.
const LONG_KEY_BYTES: usize = 32;

/// Why there is to be no session.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The client is told.
    Told(PgError),
    /// It is not there any more.
    Vanished,
}

impl From<PgError> for Refusal {
    fn from(error: PgError) -> Refusal {
        Refusal::Told(error)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        tracing::debug!("a connection broke while it started: {error}");
        Refusal::Vanished
    }
}

/// A connection on its way to a session.
struct Channel {
    reader: Reader,
    output: Output,
    address: SocketAddr,
    /// The socket below, for its options; ours for as long as `reader` and `output` are.
    socket: RawFd,
    /// What we showed of ourselves in TLS; None in the clear.
    identity: Option<Arc<Identity>>,
}

/// Agrees with the client on a session; `None` if there is to be none.
pub(crate) async fn start(socket: TcpStream, wire: &Arc<Wire>) -> Option<Connection> {
    let mut stop = wire.stop.clone();
    tokio::select! {
        biased;
        () = told_to_stop(&mut stop) => None,
        started = tokio::time::timeout(STARTUP_TIMEOUT, begin(socket, wire)) => started.ok().flatten(),
    }
}

async fn begin(socket: TcpStream, wire: &Arc<Wire>) -> Option<Connection> {
    let (address, fd) = (socket.peer_addr().ok()?, socket.as_raw_fd());
    let (channel, unnamed) = match &wire.tls {
        Some(tls) if begins_with_tls(&socket).await.ok()? => {
            let identity = tls.identity();
            let stream = identity.acceptor.accept(socket).await.ok()?;
            let unnamed = stream.get_ref().1.alpn_protocol() != Some(ALPN);
            let (reader, output) = encrypted(stream);
            (Channel { reader, output, address, socket: fd, identity: Some(identity) }, unnamed)
        }
        _ => {
            let (reader, output) = plain(socket);
            (Channel { reader, output, address, socket: fd, identity: None }, false)
        }
    };
    let (mut channel, packet) = packet(channel, wire).await.ok()?;
    let opened = match packet {
        _ if unnamed => {
            let message = "received direct SSL connection request without ALPN protocol negotiation extension";
            Err(protocol_violation(message).into())
        }
        Ok(StartupPacket::Cancel { process_id, secret }) => {
            wire.engine.cancel(process_id, &secret);
            return None;
        }
        Ok(StartupPacket::Startup { major, minor, parameters }) => {
            open(wire, &mut channel, major, minor, parameters).await
        }
        Ok(StartupPacket::TlsRequest | StartupPacket::GssRequest) => {
            Err(protocol_violation("too many requests for encryption").into())
        }
        Err(error) => Err(Refusal::Told(error)),
    };
    match opened {
        Ok(opened) => Some(Connection::new(wire.clone(), opened, channel.reader, channel.output, channel.socket)),
        Err(Refusal::Vanished) => None,
        Err(Refusal::Told(error)) => {
            message::error_response(&mut channel.output.buffer, Severity::Fatal, &error);
            if let Err(error) = channel.output.flush().await {
                tracing::debug!("a refused client has left already: {error}");
            }
            None
        }
    }
}

/// Reads up to the packet that is not a request for encryption; TLS, where it is asked for and we have it, has begun then.
async fn packet(mut channel: Channel, wire: &Arc<Wire>) -> Result<(Channel, Result<StartupPacket, PgError>), Refusal> {
    // TLS and GSS may both be asked for; more is mischief.
    for _ in 0..3 {
        let body = match channel.reader.startup().await? {
            Frame::Message { body, .. } => body,
            Frame::End => return Err(Refusal::Vanished),
            Frame::Malformed | Frame::TooLarge { .. } => {
                return Ok((channel, Err(protocol_violation("invalid length of startup packet"))));
            }
        };
        let identity = wire.tls.as_ref().filter(|_| channel.identity.is_none()).map(|tls| tls.identity());
        match (message::decode_startup(body), identity) {
            (Ok(StartupPacket::TlsRequest), Some(identity)) => {
                channel.output.buffer.push(b'S');
                channel.output.flush().await?;
                // Said before TLS began, it could be anybody's.
                if channel.reader.arrived().is_some() {
                    let error = protocol_violation("received unencrypted data after SSL request").with_detail(
                        "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
                    );
                    return Ok((channel, Err(error)));
                }
                channel = encrypt(channel, identity).await?;
            }
            (Ok(StartupPacket::TlsRequest | StartupPacket::GssRequest), _) => {
                channel.output.buffer.push(b'N');
                channel.output.flush().await?;
            }
            (Ok(packet), _) => return Ok((channel, Ok(packet))),
            (Err(MessageError::Malformed(what)), _) => return Ok((channel, Err(protocol_violation(what)))),
            (Err(MessageError::Refused(error)), _) => return Ok((channel, Err(error))),
        }
    }
    Ok((channel, Err(protocol_violation("too many requests for encryption"))))
}

async fn encrypt(channel: Channel, identity: Arc<Identity>) -> Result<Channel, Refusal> {
    let socket = reunite(channel.reader, channel.output).ok_or(Refusal::Vanished)?;
    let (reader, output) = encrypted(identity.acceptor.accept(socket).await?);
    Ok(Channel { reader, output, identity: Some(identity), ..channel })
}

/// What a connection is made of once its client is let in.
pub(crate) struct Opened {
    pub(crate) session: engine::Session,
    pub(crate) admission: Admission,
}

/// Lets the client in and writes everything up to, not including, the first ReadyForQuery.
async fn open(
    wire: &Arc<Wire>,
    channel: &mut Channel,
    major: u16,
    minor: u16,
    parameters: Vec<(String, String)>,
) -> Result<Opened, Refusal> {
    if major != 3 {
        let message = format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{MINOR_NEWEST}");
        return Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, message).into());
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
        message::negotiate_protocol_version(&mut channel.output.buffer, agreed, &unknown);
    }
    let mut take = |wanted: &str| {
        let index = parameters.iter().position(|(name, value)| name == wanted && !value.is_empty())?;
        Some(parameters.remove(index).1)
    };
    let user = take("user").unwrap_or_else(|| "tidewater".to_string());
    let database = take("database").unwrap_or_else(|| user.clone());
    if take("replication").is_some_and(|mode| !matches!(mode.as_str(), "off" | "false" | "no" | "0")) {
        return Err(PgError::unsupported("a replication connection").into());
    }
    let options = take("options").unwrap_or_default();
    parameters.retain(|(name, _)| !matches!(name.as_str(), "user" | "database" | "replication" | "options"));
    parameters.extend(command_line_settings(&options)?);
    let method = wire.auth.method(channel.address.ip(), channel.identity.is_some());
    let login = wire.engine.login(&user);
    let end_point = channel.identity.as_ref().and_then(|identity| identity.end_point.as_deref());
    authenticate(method, &user, &login, end_point, &mut channel.reader, &mut channel.output).await?;
    let admission =
        wire.admit().ok_or_else(|| PgError::new(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already"))?;
    let secret_bytes = if agreed >= MINOR_LONG_KEYS { LONG_KEY_BYTES } else { 4 };
    let trusted = method == Method::Trust;
    let session = wire.engine.log_in(SessionOptions { user, database, parameters, secret_bytes }, trusted)?;
    let out = &mut channel.output.buffer;
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
