//! The Postgres wire spoken by hand, for what no driver would say.

#![allow(dead_code, reason = "each test that includes this uses a part of it")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// A raw connection.
pub(crate) struct Wire(TcpStream);

/// A message from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) tag: char,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// A field of an ErrorResponse or NoticeResponse, such as `C`, the SQLSTATE.
    pub(crate) fn field(&self, code: char) -> Option<String> {
        let fields = self.body.split(|byte| *byte == 0);
        let field = fields.into_iter().find(|field| field.first() == Some(&(code as u8)))?;
        Some(String::from_utf8_lossy(&field[1..]).into_owned())
    }

    /// The text of a CommandComplete.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(self.body.strip_suffix(b"\0").unwrap_or(&self.body)).into_owned()
    }
}

/// A frontend message.
pub(crate) fn message(tag: char, body: &[u8]) -> Vec<u8> {
    [&[tag as u8][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// A Query message.
pub(crate) fn query(sql: &str) -> Vec<u8> {
    message('Q', &[sql.as_bytes(), b"\0"].concat())
}

/// A Parse message without parameter types.
pub(crate) fn parse(name: &str, sql: &str) -> Vec<u8> {
    message('P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

/// A Bind message of text parameters to the portal of the same name as the statement; results in text.
pub(crate) fn bind(name: &str, parameters: &[&str]) -> Vec<u8> {
    let mut body = [name.as_bytes(), b"\0", name.as_bytes(), b"\0\0\0"].concat();
    body.extend((parameters.len() as u16).to_be_bytes());
    for parameter in parameters {
        body.extend((parameter.len() as u32).to_be_bytes());
        body.extend(parameter.as_bytes());
    }
    body.extend([0, 0]);
    message('B', &body)
}

/// An Execute message.
pub(crate) fn execute(name: &str, max_rows: u32) -> Vec<u8> {
    message('E', &[name.as_bytes(), b"\0", &max_rows.to_be_bytes()].concat())
}

/// A Sync message.
pub(crate) fn sync() -> Vec<u8> {
    message('S', &[])
}

impl Wire {
    /// Connected, nothing said.
    pub(crate) fn open(port: u16) -> Wire {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        Wire(socket)
    }

    /// A session in protocol 3.0, up to its first ReadyForQuery.
    pub(crate) fn session(port: u16) -> Wire {
        let mut wire = Wire::open(port);
        wire.send(&startup(3 << 16, &[("user", "test")]));
        wire.until('Z');
        wire
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the server reads");
    }

    /// Sends what may find the server gone already.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// Says that no more will come.
    pub(crate) fn finish(&mut self) {
        // The server may have closed first.
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Reads to the end, whatever comes.
    pub(crate) fn drain(&mut self) {
        // A reset is an end too.
        let _ = self.0.read_to_end(&mut Vec::new());
    }

    /// One byte, the answer to a request for encryption.
    pub(crate) fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.0.read_exact(&mut byte).expect("an answer");
        byte[0]
    }

    /// The next message; `None` at the end.
    pub(crate) fn reply(&mut self) -> Option<Reply> {
        let mut head = [0; 5];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length - 4];
        self.0.read_exact(&mut body).expect("a whole message");
        Some(Reply { tag: head[0] as char, body })
    }

    /// Messages up to and with the next one of this tag.
    pub(crate) fn until(&mut self, tag: char) -> Vec<Reply> {
        let mut replies = Vec::new();
        loop {
            let reply = self.reply().unwrap_or_else(|| panic!("closed before {tag}; got {replies:?}"));
            let last = reply.tag == tag;
            replies.push(reply);
            if last {
                return replies;
            }
        }
    }

    /// How long the next bytes may take.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.0.set_read_timeout(Some(timeout)).expect("a timeout");
    }

    /// As [`Wire::rest`], whatever the server says. Errors: it has not closed in time.
    pub(crate) fn rest_within(&mut self, limit: Duration) -> Result<Vec<Reply>, String> {
        let deadline = std::time::Instant::now() + limit;
        let (mut bytes, mut piece) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            match self.0.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(&piece[..count]),
                // A server that closes while something is still on its way to it resets the connection.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => return Err(format!("the server neither answers nor closes: {error}")),
            }
            if std::time::Instant::now() > deadline {
                return Err("the server does not stop answering".to_string());
            }
        }
        let mut replies = Vec::new();
        let mut rest = bytes.as_slice();
        while rest.len() >= 5 {
            let length = u32::from_be_bytes([rest[1], rest[2], rest[3], rest[4]]) as usize;
            let Some(body) = rest.get(5..length + 1) else { break };
            replies.push(Reply { tag: rest[0] as char, body: body.to_vec() });
            rest = &rest[length + 1..];
        }
        Ok(replies)
    }

    /// All messages up to the end of the connection.
    pub(crate) fn rest(&mut self) -> Vec<Reply> {
        std::iter::from_fn(|| self.reply()).collect()
    }
}

/// A startup packet.
pub(crate) fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    body.push(0);
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

/// The tags of some messages as one word.
pub(crate) fn tags(replies: &[Reply]) -> String {
    replies.iter().map(|reply| reply.tag).collect()
}
