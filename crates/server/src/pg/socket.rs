//! A connection's two halves, in the clear or in TLS: frames cut from what the client sends, and a buffer for what it is sent.
//!
//! The read half can also be watched while a statement runs ([`Reader::gone`]): what arrives meanwhile is kept, so a
//! client may send ahead, and an end of file tells that nobody waits for the answer any more.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::server::TlsStream;

use crate::pg::message::{MESSAGE_BYTES_MAX, PASSWORD_BYTES_MAX, STARTUP_BYTES_MAX, STATEMENT_BYTES_MAX};

/// How far a client may send ahead of a running statement before it is no longer watched.
const READ_AHEAD_BYTES: usize = 1 << 20;

/// What an output keeps of its memory while its client is idle.
const IDLE_BYTES: usize = 4 << 10;

/// How much is read at once.
const READ_BYTES_MIN: usize = 8 << 10;
const READ_BYTES_MAX: usize = 256 << 10;

/// Output beyond this is sent before more is made.
const FLUSH_BYTES: usize = 64 << 10;

/// A connection in the clear.
pub(crate) fn plain(socket: TcpStream) -> (Reader, Output) {
    let (read, write) = socket.into_split();
    (Reader::new(Source::Plain(read)), Output::new(Sink::Plain(write)))
}

/// A connection in TLS.
pub(crate) fn encrypted(stream: TlsStream<TcpStream>) -> (Reader, Output) {
    let (read, write) = split(stream);
    (Reader::new(Source::Tls(read)), Output::new(Sink::Tls(write)))
}

/// Whether the client begins with TLS at once. Waits for its first byte, and leaves it there.
pub(crate) async fn begins_with_tls(socket: &TcpStream) -> io::Result<bool> {
    const HANDSHAKE: u8 = 0x16;
    let mut first = [0];
    Ok(socket.peek(&mut first).await? == 1 && first[0] == HANDSHAKE)
}

/// The socket again, to speak TLS on it; None if it does already. What was read ahead is gone: there must be nothing.
pub(crate) fn reunite(reader: Reader, output: Output) -> Option<TcpStream> {
    match (reader.source, output.sink) {
        (Source::Plain(read), Sink::Plain(write)) => read.reunite(write).ok(),
        _ => None,
    }
}

enum Source {
    Plain(OwnedReadHalf),
    Tls(ReadHalf<TlsStream<TcpStream>>),
}

enum Sink {
    Plain(OwnedWriteHalf),
    Tls(WriteHalf<TlsStream<TcpStream>>),
}

/// What comes next from a client.
#[derive(Debug)]
pub(crate) enum Frame {
    Message {
        tag: u8,
        body: Bytes,
    },
    /// A message longer than we take. It has been skipped.
    TooLarge {
        tag: u8,
        bytes: usize,
    },
    /// A length that cannot be.
    Malformed,
    /// The client has closed its side; a message cut short ends here too.
    End,
}

pub(crate) struct Reader {
    source: Source,
    buffer: BytesMut,
    ended: bool,
    /// A message that is too long, and how much of it is yet to be skipped.
    skipping: Option<(u8, usize, usize)>,
}

impl Reader {
    fn new(source: Source) -> Reader {
        Reader { source, buffer: BytesMut::new(), ended: false, skipping: None }
    }

    /// The startup packet's body, without a tag. Cancel-safe, as is [`Reader::frame`].
    pub(crate) async fn startup(&mut self) -> io::Result<Frame> {
        if !self.fill(4).await? {
            return Ok(Frame::End);
        }
        let length = self.length_at(0);
        // A version or code is the least there is.
        if !(8..=STARTUP_BYTES_MAX).contains(&length) {
            return Ok(Frame::Malformed);
        }
        if !self.fill(length).await? {
            return Ok(Frame::End);
        }
        self.buffer.advance(4);
        Ok(Frame::Message { tag: 0, body: self.buffer.split_to(length - 4).freeze() })
    }

    /// The next message.
    pub(crate) async fn frame(&mut self) -> io::Result<Frame> {
        if self.skipping.is_some() {
            return self.skip().await;
        }
        if !self.fill(5).await? {
            return Ok(Frame::End);
        }
        let (tag, length) = (self.buffer[0], self.length_at(1));
        if !(4..=i32::MAX as usize).contains(&length) {
            return Ok(Frame::Malformed);
        }
        let limit = match tag {
            b'Q' | b'P' => STATEMENT_BYTES_MAX,
            b'p' => PASSWORD_BYTES_MAX,
            _ => MESSAGE_BYTES_MAX,
        };
        if length > limit {
            self.skipping = Some((tag, length + 1, length + 1));
            return self.skip().await;
        }
        if !self.fill(length + 1).await? {
            return Ok(Frame::End);
        }
        self.buffer.advance(5);
        Ok(Frame::Message { tag, body: self.buffer.split_to(length - 4).freeze() })
    }

    /// The tag of a message that has arrived already, if there is one.
    pub(crate) fn arrived(&self) -> Option<u8> {
        self.buffer.first().copied()
    }

    /// Waits until the client has closed its side. Never, if it has sent more ahead than we keep.
    pub(crate) async fn gone(&mut self) {
        while self.buffer.len() < READ_AHEAD_BYTES && !self.ended {
            if self.read().await.is_err() {
                self.ended = true;
            }
        }
        if !self.ended {
            std::future::pending::<()>().await;
        }
    }

    /// Goes on to skip, from wherever it was stopped.
    async fn skip(&mut self) -> io::Result<Frame> {
        while let Some((tag, bytes, rest)) = self.skipping {
            let skipped = rest.min(self.buffer.len());
            self.buffer.advance(skipped);
            if rest == skipped {
                self.skipping = None;
                return Ok(Frame::TooLarge { tag, bytes });
            }
            self.skipping = Some((tag, bytes, rest - skipped));
            if self.ended {
                break;
            }
            self.read().await?;
        }
        Ok(Frame::End)
    }

    /// Reads until `count` bytes are there; false if the client ends before.
    async fn fill(&mut self, count: usize) -> io::Result<bool> {
        while self.buffer.len() < count {
            if self.ended {
                return Ok(false);
            }
            self.read().await?;
        }
        Ok(true)
    }

    async fn read(&mut self) -> io::Result<()> {
        if let (true, Source::Plain(source)) = (self.buffer.is_empty(), &self.source) {
            // A client that says nothing costs no buffer.
            self.buffer = BytesMut::new();
            source.readable().await?;
        }
        // What a length promises is not allocated before it arrives, but the more has come the more is read at once.
        self.buffer.reserve(self.buffer.len().clamp(READ_BYTES_MIN, READ_BYTES_MAX));
        let read = match &mut self.source {
            Source::Plain(source) => source.read_buf(&mut self.buffer).await,
            Source::Tls(source) => source.read_buf(&mut self.buffer).await,
        };
        self.ended = match read {
            // A client that leaves without TLS's goodbye has left all the same.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => true,
            read => read? == 0,
        };
        Ok(())
    }

    fn length_at(&self, offset: usize) -> usize {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.buffer[offset..offset + 4]);
        u32::from_be_bytes(bytes) as usize
    }
}

/// Messages wait in `buffer` until [`Output::flush`].
pub(crate) struct Output {
    sink: Sink,
    pub(crate) buffer: Vec<u8>,
}

impl Output {
    fn new(sink: Sink) -> Output {
        Output { sink, buffer: Vec::new() }
    }

    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        match &mut self.sink {
            Sink::Plain(sink) => sink.write_all(&self.buffer).await?,
            Sink::Tls(sink) => {
                sink.write_all(&self.buffer).await?;
                sink.flush().await?;
            }
        }
        self.buffer.clear();
        // A huge row is no reason to keep its memory for the connection's life.
        self.buffer.shrink_to(4 * FLUSH_BYTES);
        Ok(())
    }

    /// Gives memory back before a wait of unknown length.
    pub(crate) fn shrink(&mut self) {
        self.buffer.shrink_to(IDLE_BYTES);
    }

    /// Flushes once enough has gathered to be worth a write.
    pub(crate) async fn flush_if_full(&mut self) -> io::Result<()> {
        match self.buffer.len() >= FLUSH_BYTES {
            true => self.flush().await,
            false => Ok(()),
        }
    }
}
