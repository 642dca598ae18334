//! A connection's two halves: frames cut from what the client sends, and a buffer for what it is sent.
//!
//! The read half can also be watched while a statement runs ([`Reader::gone`]): what arrives meanwhile is kept, so a
//! client may send ahead, and an end of file tells that nobody waits for the answer any more.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::pg::message::{MESSAGE_BYTES_MAX, STARTUP_BYTES_MAX, STATEMENT_BYTES_MAX};

/// How far a client may send ahead of a running statement before it is no longer watched.
const READ_AHEAD_BYTES: usize = 1 << 20;

/// Output beyond this is sent before more is made.
const FLUSH_BYTES: usize = 64 << 10;

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
    socket: OwnedReadHalf,
    buffer: BytesMut,
    ended: bool,
}

impl Reader {
    pub(crate) fn new(socket: OwnedReadHalf) -> Reader {
        Reader { socket, buffer: BytesMut::new(), ended: false }
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
        if !self.fill(5).await? {
            return Ok(Frame::End);
        }
        let (tag, length) = (self.buffer[0], self.length_at(1));
        if !(4..=i32::MAX as usize).contains(&length) {
            return Ok(Frame::Malformed);
        }
        let limit = match tag {
            b'Q' | b'P' => STATEMENT_BYTES_MAX,
            _ => MESSAGE_BYTES_MAX,
        };
        if length > limit {
            return self.skip(tag, length + 1).await;
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

    async fn skip(&mut self, tag: u8, bytes: usize) -> io::Result<Frame> {
        let mut rest = bytes;
        loop {
            let skipped = rest.min(self.buffer.len());
            self.buffer.advance(skipped);
            rest -= skipped;
            if rest == 0 {
                return Ok(Frame::TooLarge { tag, bytes });
            }
            if self.ended {
                return Ok(Frame::End);
            }
            self.read().await?;
        }
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
        // What a length promises is not allocated before it arrives.
        self.buffer.reserve(8 << 10);
        self.ended = self.socket.read_buf(&mut self.buffer).await? == 0;
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
    socket: OwnedWriteHalf,
    pub(crate) buffer: Vec<u8>,
}

impl Output {
    pub(crate) fn new(socket: OwnedWriteHalf) -> Output {
        Output { socket, buffer: Vec::new() }
    }

    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.socket.write_all(&self.buffer).await?;
        self.buffer.clear();
        // A huge row is no reason to keep its memory for the connection's life.
        self.buffer.shrink_to(4 * FLUSH_BYTES);
        Ok(())
    }

    /// Flushes once enough has gathered to be worth a write.
    pub(crate) async fn flush_if_full(&mut self) -> io::Result<()> {
        match self.buffer.len() >= FLUSH_BYTES {
            true => self.flush().await,
            false => Ok(()),
        }
    }
}
