//! Who is let in, and how they show who they are.
//!
//! A client on the same machine is trusted unless the server was told otherwise. Everyone else knows a role's password, and
//! shows it by SCRAM-SHA-256, in which the password itself is never sent; with `--auth password` a client in TLS may send it
//! as it is instead. A role that does not exist goes through the same exchange and fails at the same point as a wrong password.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::Login;
use repr::{PgError, SqlState};

use crate::pg::connection::protocol_violation;
use crate::pg::message;
use crate::pg::socket::{Frame, Output, Reader};
use crate::pg::startup::Refusal;

/// Which clients are asked for a password, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AuthPolicy {
    /// Clients on this machine are trusted, others show their password by SCRAM.
    Trust,
    /// Everyone shows it by SCRAM.
    Scram,
    /// Everyone shows it: by SCRAM, or in TLS as it is.
    Password,
}

/// What a client has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Trust,
    Scram,
    Cleartext,
}

impl AuthPolicy {
    /// What a client from `address` has to do.
    pub(crate) fn method(self, address: IpAddr, encrypted: bool) -> Method {
        match self {
            AuthPolicy::Trust if address.to_canonical().is_loopback() => Method::Trust,
            AuthPolicy::Password if encrypted => Method::Cleartext,
            _ => Method::Scram,
        }
    }
}

const SCRAM: &str = "SCRAM-SHA-256";
const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Asks the client for the password of `user`'s role. `end_point` is what SCRAM binds to in TLS.
pub(crate) async fn authenticate(
    method: Method,
    user: &str,
    login: &Login,
    end_point: Option<&[u8]>,
    reader: &mut Reader,
    output: &mut Output,
) -> Result<(), Refusal> {
    let known = match method {
        Method::Trust => return Ok(()),
        Method::Cleartext => cleartext(login, reader, output).await?,
        Method::Scram => scram(login, end_point, reader, output).await?,
    };
    match known {
        true => Ok(()),
        false => Err(Refusal::Told(wrong_password(user))),
    }
}

fn wrong_password(user: &str) -> PgError {
    PgError::new(SqlState("28P01"), format!("password authentication failed for user \"{user}\""))
}

async fn cleartext(login: &Login, reader: &mut Reader, output: &mut Output) -> Result<bool, Refusal> {
    message::authentication_cleartext(&mut output.buffer);
    output.flush().await?;
    let password = answer(reader).await?;
    let password = password.strip_suffix(b"\0").filter(|password| !password.contains(&0));
    let password = password.ok_or_else(|| protocol_violation("invalid password packet size"))?;
    if password.is_empty() {
        return Err(Refusal::Told(PgError::new(SqlState("28P01"), "empty password returned by client")));
    }
    let password = String::from_utf8_lossy(password).into_owned();
    let verifier = login.verifier.clone();
    let known = tokio::task::spawn_blocking(move || verifier.is_of(&password)).await.unwrap_or(false);
    Ok(known && login.accepted)
}

async fn scram(
    login: &Login,
    end_point: Option<&[u8]>,
    reader: &mut Reader,
    output: &mut Output,
) -> Result<bool, Refusal> {
    let mechanisms: &[&str] = if end_point.is_some() { &[SCRAM_PLUS, SCRAM] } else { &[SCRAM] };
    message::authentication_sasl(&mut output.buffer, mechanisms);
    output.flush().await?;
    let (mechanism, first) = initial_response(&answer(reader).await?)?;
    if !mechanisms.contains(&mechanism.as_str()) {
        return Err(protocol_violation("client selected an invalid SASL authentication mechanism").into());
    }
    // PostgreSQL takes a client that sends nothing yet: it is asked to begin.
    let first = match first {
        Some(first) => first,
        None => {
            message::authentication_sasl_continue(&mut output.buffer, b"");
            output.flush().await?;
            text(&answer(reader).await?)?
        }
    };
    let first = ClientFirst::read(&first)?;
    let binding = binding(first.flag, mechanism == SCRAM_PLUS, end_point)?;
    let nonce = format!("{}{}", first.nonce, STANDARD.encode(rand::random::<[u8; 18]>()));
    let verifier = &login.verifier;
    let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(&verifier.salt), verifier.iterations);
    message::authentication_sasl_continue(&mut output.buffer, server_first.as_bytes());
    output.flush().await?;

    let last = text(&answer(reader).await?)?;
    let last = ClientFinal::read(&last)?;
    let bound = [first.header.as_bytes(), binding].concat();
    if last.binding != STANDARD.encode(bound) {
        let message = match binding.is_empty() {
            true => "unexpected SCRAM channel-binding attribute in client-final-message",
            false => "SCRAM channel binding check failed",
        };
        return Err(Refusal::Told(match binding.is_empty() {
            true => protocol_violation(message),
            false => PgError::new(SqlState("28000"), message),
        }));
    }
    if last.nonce != nonce {
        return Err(malformed("Nonce does not match."));
    }
    let signed = format!("{},{server_first},{}", first.bare, last.without_proof);
    if !verifier.is_proven_by(&last.proof, &signed) || !login.accepted {
        return Ok(false);
    }
    let signature = format!("v={}", STANDARD.encode(verifier.server_signature(&signed)));
    message::authentication_sasl_final(&mut output.buffer, signature.as_bytes());
    Ok(true)
}

/// The bytes that the client's final message must bind to. Errors: as PostgreSQL has them.
fn binding<'a>(flag: &str, plus: bool, end_point: Option<&'a [u8]>) -> Result<&'a [u8], Refusal> {
    match (flag, plus) {
        ("n", false) => Ok(&[]),
        // The client could bind and thinks that we cannot: somebody in between may have said so.
        ("y", false) if end_point.is_some() => {
            Err(Refusal::Told(PgError::new(SqlState("28000"), "SCRAM channel binding negotiation error").with_detail(
                "The client supports SCRAM channel binding but thinks the server does not.  \
                 However, this server does support channel binding.",
            )))
        }
        ("y", false) => Ok(&[]),
        ("p=tls-server-end-point", true) => Ok(end_point.unwrap_or(&[])),
        ("n" | "y", true) => Err(malformed(
            "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.",
        )),
        (other, _) if other.starts_with("p=") && plus => Err(Refusal::Told(protocol_violation(format!(
            "unsupported SCRAM channel-binding type \"{}\"",
            &other[2..]
        )))),
        (other, _) if other.starts_with("p=") => Err(malformed(
            "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.",
        )),
        _ => Err(malformed("Unexpected channel-binding flag.")),
    }
}

/// `flag,[a=..],n=user,r=nonce[,..]`
#[derive(Debug, PartialEq, Eq)]
struct ClientFirst<'a> {
    flag: &'a str,
    /// Up to and with the second comma: what is bound first.
    header: &'a str,
    bare: &'a str,
    nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    fn read(text: &'a str) -> Result<ClientFirst<'a>, Refusal> {
        let (flag, rest) = text.split_once(',').ok_or_else(|| malformed("Comma expected, but found the end."))?;
        let (identity, bare) = rest.split_once(',').ok_or_else(|| malformed("Comma expected, but found the end."))?;
        if !identity.is_empty() {
            return Err(Refusal::Told(PgError::unsupported("a SCRAM authorization identity")));
        }
        if bare.starts_with("m=") {
            return Err(Refusal::Told(PgError::unsupported("a mandatory SCRAM extension")));
        }
        let mut attributes = bare.split(',');
        // PostgreSQL too takes the user's name from the startup packet.
        attributes
            .next()
            .filter(|name| name.starts_with("n="))
            .ok_or_else(|| malformed("Attribute \"n\" expected."))?;
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r="));
        let nonce = nonce.filter(|nonce| !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic()));
        let nonce = nonce.ok_or_else(|| malformed("Non-printable characters in SCRAM nonce."))?;
        Ok(ClientFirst { flag, header: &text[..text.len() - bare.len()], bare, nonce })
    }
}

/// `c=binding,r=nonce[,..],p=proof`
struct ClientFinal<'a> {
    binding: &'a str,
    nonce: &'a str,
    without_proof: &'a str,
    proof: Vec<u8>,
}

impl<'a> ClientFinal<'a> {
    fn read(text: &'a str) -> Result<ClientFinal<'a>, Refusal> {
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or_else(|| malformed("Attribute \"p\" expected."))?;
        let mut attributes = without_proof.split(',');
        let mut attribute = |name: &str| {
            let found = attributes.next().and_then(|attribute| attribute.strip_prefix(name)?.strip_prefix('='));
            found.ok_or_else(|| malformed(format!("Attribute \"{name}\" expected.")))
        };
        let (binding, nonce) = (attribute("c")?, attribute("r")?);
        let proof = STANDARD.decode(proof).map_err(|_| malformed("Malformed proof in client-final-message."))?;
        Ok(ClientFinal { binding, nonce, without_proof, proof })
    }
}

fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal::Told(protocol_violation("malformed SCRAM message").with_detail(detail))
}

fn text(bytes: &[u8]) -> Result<String, Refusal> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text.to_string()),
        _ => Err(malformed("The message is not text.")),
    }
}

/// SASLInitialResponse: the mechanism, and the first message unless it is left out.
fn initial_response(body: &[u8]) -> Result<(String, Option<String>), Refusal> {
    let short = || Refusal::from(protocol_violation("insufficient data left in message"));
    let end = body.iter().position(|byte| *byte == 0).ok_or_else(short)?;
    let mechanism = text(&body[..end])?;
    let (length, rest) = body[end + 1..].split_first_chunk::<4>().ok_or_else(short)?;
    match i32::from_be_bytes(*length) {
        -1 if rest.is_empty() => Ok((mechanism, None)),
        length if usize::try_from(length) == Ok(rest.len()) => Ok((mechanism, Some(text(rest)?))),
        _ => Err(short()),
    }
}

/// The next message, which must be the answer to what was asked.
async fn answer(reader: &mut Reader) -> Result<bytes::Bytes, Refusal> {
    match reader.frame().await? {
        Frame::Message { tag: b'p', body } => Ok(body),
        // A client without the password leaves to ask for it.
        Frame::End | Frame::Message { tag: b'X', .. } => Err(Refusal::Vanished),
        Frame::TooLarge { .. } | Frame::Malformed => Err(protocol_violation("invalid message length").into()),
        Frame::Message { tag, .. } => {
            Err(protocol_violation(format!("expected password response, got message type {tag}")).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_trusted() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(AuthPolicy::Trust.method(address(local), false), Method::Trust, "{local}");
            assert_eq!(AuthPolicy::Scram.method(address(local), true), Method::Scram, "{local}");
        }
        for far in ["10.0.0.1", "192.168.1.1", "8.8.8.8", "::ffff:10.0.0.1", "fe80::1", "0.0.0.0"] {
            assert_eq!(AuthPolicy::Trust.method(address(far), false), Method::Scram, "{far}");
            // A password is never sent in the clear.
            assert_eq!(AuthPolicy::Password.method(address(far), false), Method::Scram, "{far}");
            assert_eq!(AuthPolicy::Password.method(address(far), true), Method::Cleartext, "{far}");
        }
    }

    #[test]
    fn a_first_message_is_taken_apart() {
        let first = ClientFirst::read("p=tls-server-end-point,,n=,r=abc,x=1").expect("well-formed");
        let expected = ClientFirst {
            flag: "p=tls-server-end-point",
            header: "p=tls-server-end-point,,",
            bare: "n=,r=abc,x=1",
            nonce: "abc",
        };
        assert_eq!(first, expected);
        for broken in
            ["", "n", "n,", "n,,", "n,,n=", "n,,r=abc", "n,,n=,r=", "n,,n=,r=a b", "n,a=x,n=,r=abc", "n,,m=1,n=,r=a"]
        {
            assert!(ClientFirst::read(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_final_message_is_taken_apart() {
        let last = ClientFinal::read("c=biws,r=abc,p=AAAA").expect("well-formed");
        assert_eq!((last.binding, last.nonce, last.without_proof), ("biws", "abc", "c=biws,r=abc"));
        assert_eq!(last.proof, [0, 0, 0]);
        for broken in ["", "c=biws,r=abc", "c=biws,p=AAAA", "r=abc,c=biws,p=AAAA", "c=biws,r=abc,p=!"] {
            assert!(ClientFinal::read(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_downgrade_is_noticed() {
        assert!(binding("y", false, Some(b"hash")).is_err());
        assert!(binding("y", false, None).is_ok());
        assert!(binding("n", true, Some(b"hash")).is_err());
        assert!(binding("p=tls-server-end-point", false, Some(b"hash")).is_err());
        assert!(binding("p=tls-unique", true, Some(b"hash")).is_err());
        assert_eq!(binding("p=tls-server-end-point", true, Some(b"hash")).ok(), Some(&b"hash"[..]));
    }

    #[test]
    fn initial_responses_end_where_they_say() {
        let read = |bytes: &[u8]| initial_response(bytes).ok();
        assert_eq!(read(b"M\0\0\0\0\x02hi"), Some(("M".to_string(), Some("hi".to_string()))));
        assert_eq!(read(b"M\0\xff\xff\xff\xff"), Some(("M".to_string(), None)));
        for broken in [&b""[..], b"M", b"M\0", b"M\0\0\0\0\x03hi", b"M\0\0\0\0\x01hi", b"M\0\x7f\xff\xff\xffhi"] {
            assert_eq!(read(broken), None, "{broken:?}");
        }
    }
}
