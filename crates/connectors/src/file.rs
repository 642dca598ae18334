//! Files: one, the files of a folder, or those a glob matches, read in the order of their paths; with FOLLOW what is appended
//! to them and new ones too, for as long as the source lives.
//!
//! A position is the byte after the last whole record, under the path as it was matched. With FOLLOW the last line is held
//! back until its end is there; without, the end of the file ends it.
//!
//! A followed file that became shorter than what was read, or another file under the same path (its inode), is an error row
//! that says so, and is read from its start. Rows read before stay: a file that shrank says nothing of which rows are no
//! longer meant. Overwriting in place with something at least as long cannot be told from appending.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use repr::source::{Positions, SourceDescription};
use repr::{PgError, SqlState};

use crate::format::{Decoder, LINE_BYTES_MAX, decoder};
use crate::options::{OptionDoc, flag, required};
use crate::{Connector, DecodeError, Next, Source, SourceBatch};

pub(crate) const CONNECTOR: Connector = Connector {
    name: "file",
    doc: "Files on the server's disk, read once or followed as they grow.",
    options: &[
        OptionDoc {
            name: "path",
            doc: "A file, a folder (the files directly in it), or a glob such as 'logs/*.json'.",
        },
        OptionDoc { name: "follow", doc: "Go on with what is appended, and with new files of a folder or glob." },
    ],
    open,
    latest,
    validate,
};

/// How often followed files are looked at. A look is a stat a file.
const POLL: Duration = Duration::from_millis(10);
/// How often a folder or glob is listed again.
const LIST: Duration = Duration::from_millis(500);
/// How much is read at once.
const READ_BYTES: usize = 1 << 20;
/// A batch ends after this many bytes even if its rows are few.
const BATCH_BYTES_MAX: u64 = 4 << 20;
/// A followed file that never stops growing lets the others have their turn.
const TURN_BATCHES: usize = 64;

fn validate(description: &SourceDescription) -> Result<(), PgError> {
    decoder(description)?;
    flag(&description.options, "follow")?;
    let path = required("a file source", &description.options, "path")?;
    let files = list(path)?;
    if files.is_empty() && !(flag(&description.options, "follow")? && is_many(path)) {
        return Err(missing(path));
    }
    files.iter().try_for_each(|path| File::open(path).map(drop).map_err(|error| unreadable(path, &error)))
}

fn open(description: &SourceDescription, from: &Positions, to: Option<&Positions>) -> Result<Box<dyn Source>, PgError> {
    let path = required("a file source", &description.options, "path")?.to_string();
    let follow = flag(&description.options, "follow")?;
    if !follow && to.is_none() && list(&path)?.is_empty() {
        return Err(missing(&path));
    }
    let tails = from.iter().map(|(path, offset)| (path.clone(), Tail { offset: *offset, ..Tail::default() }));
    Ok(Box::new(FileSource {
        path,
        follow,
        to: to.cloned(),
        decoder: decoder(description)?,
        tails: tails.collect(),
        current: None,
        last: None,
        replaced: Vec::new(),
        listed: None,
    }))
}

/// The length of each file; of a followed one up to its last line end, because what follows may be half a line.
fn latest(description: &SourceDescription) -> Result<Positions, PgError> {
    let follow = flag(&description.options, "follow")?;
    let mut positions = Positions::new();
    for path in list(required("a file source", &description.options, "path")?)? {
        let length = match follow {
            true => last_line_end(&path),
            false => fs::metadata(&path).map(|metadata| metadata.len()),
        };
        positions.insert(path.clone(), length.map_err(|error| unreadable(&path, &error))?);
    }
    Ok(positions)
}

/// The byte after the last line end of a file.
fn last_line_end(path: &str) -> std::io::Result<u64> {
    let mut file = File::open(path)?;
    let mut end = file.metadata()?.len();
    let mut piece = vec![0; 64 << 10];
    while end > 0 {
        let start = end.saturating_sub(piece.len() as u64);
        let length = (end - start) as usize;
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut piece[..length])?;
        if let Some(at) = memchr::memrchr(b'\n', &piece[..length]) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Whether `path` stands for files that may come and go.
fn is_many(path: &str) -> bool {
    path.contains(['*', '?', '[']) || Path::new(path).is_dir()
}

/// The files that `path` means now, in the order of their paths.
fn list(path: &str) -> Result<Vec<String>, PgError> {
    let pattern = match Path::new(path) {
        folder if folder.is_dir() => {
            let escaped = glob::Pattern::escape(path.trim_end_matches('/'));
            format!("{escaped}/*")
        }
        file if file.exists() => return Ok(vec![path.to_string()]),
        _ if is_many(path) => path.to_string(),
        _ => return Ok(Vec::new()),
    };
    let matches = glob::glob(&pattern).map_err(|error| {
        let message = format!("invalid pattern in path \"{path}\": {}", error.msg);
        PgError::new(SqlState::INVALID_PARAMETER_VALUE, message)
    })?;
    let hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let mut files = Vec::new();
    for entry in matches {
        let entry = entry.map_err(|error| unreadable(&error.path().to_string_lossy(), error.error()))?;
        if entry.is_file() && !hidden(&entry) {
            files.push(entry.to_string_lossy().into_owned());
        }
    }
    files.sort();
    Ok(files)
}

fn missing(path: &str) -> PgError {
    let message = format!("could not open file \"{path}\" for reading: No such file or directory");
    PgError::new(SqlState::UNDEFINED_FILE, message)
}

fn unreadable(path: &str, error: &std::io::Error) -> PgError {
    match error.kind() {
        ErrorKind::NotFound => missing(path),
        _ => PgError::new(SqlState::IO_ERROR, format!("could not read file \"{path}\": {error}")),
    }
}

struct FileSource {
    path: String,
    follow: bool,
    to: Option<Positions>,
    decoder: Box<dyn Decoder>,
    tails: BTreeMap<String, Tail>,
    current: Option<Reading>,
    /// The file that was read last.
    last: Option<String>,
    /// Files that were truncated or replaced, to be told with the next batch.
    replaced: Vec<DecodeError>,
    /// When the files were last listed.
    listed: Option<Instant>,
}

/// A file between two readings.
#[derive(Default)]
struct Tail {
    /// Its position.
    offset: u64,
    /// Device and inode, once it was opened.
    identity: Option<(u64, u64)>,
    /// How long it was when it was last read to its end.
    length: Option<u64>,
}

impl Tail {
    /// What happened to the file if it no longer is the one that was read.
    fn became(&self, metadata: &Metadata) -> Option<&'static str> {
        match self.identity {
            Some(identity) if identity != (metadata.dev(), metadata.ino()) => Some("replaced"),
            _ if metadata.len() < self.offset => Some("truncated"),
            _ => None,
        }
    }
}

/// The file that is being read.
struct Reading {
    path: String,
    file: File,
    /// Read, and from `start` on not decoded yet.
    buffer: Vec<u8>,
    start: usize,
    /// Up to this byte and no further.
    end: Option<u64>,
    /// In the middle of a line that is too long: it is dropped up to its end.
    skipping: bool,
    batch_count: usize,
}

impl Reading {
    /// Reads on behind `offset`, the position of what is in the buffer. Says how many bytes there were.
    fn fill(&mut self, offset: u64) -> Result<usize, PgError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let kept = self.buffer.len();
        let wanted = match self.end {
            None => READ_BYTES,
            Some(end) => (end.saturating_sub(offset + kept as u64)).min(READ_BYTES as u64) as usize,
        };
        self.buffer.resize(kept + wanted, 0);
        let mut filled = kept;
        // A short read is no end of file: only nothing is.
        while filled < self.buffer.len() {
            match self.file.read(&mut self.buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(&self.path, &error)),
            }
        }
        self.buffer.truncate(filled);
        Ok(filled - kept)
    }

    /// Decodes what is in the buffer, whose first byte stands at `offset`. Says how many bytes are done with.
    fn decode(&mut self, decoder: &mut dyn Decoder, offset: u64, at_end: bool) -> u64 {
        let before = self.start;
        if self.skipping {
            match memchr::memchr(b'\n', &self.buffer[self.start..]) {
                Some(length) => {
                    self.start += length + 1;
                    self.skipping = false;
                }
                None => self.start = self.buffer.len(),
            }
        }
        let place = offset + (self.start - before) as u64;
        let done = decoder.decode_stream(&self.buffer[self.start..], place, at_end);
        self.start += done;
        if done == 0 && self.buffer.len() - self.start > LINE_BYTES_MAX {
            let error = PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "the line is too long");
            decoder.rows().fail(&self.buffer[self.start..], place, error);
            self.start = self.buffer.len();
            self.skipping = true;
        }
        (self.start - before) as u64
    }

    fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }
}

impl Source for FileSource {
    fn next(&mut self, timeout: Duration) -> Result<Next, PgError> {
        let deadline = Instant::now() + timeout;
        loop {
            if self.current.is_none() {
                self.current = self.next_file()?;
            }
            if let Some(reading) = self.current.take() {
                if let Some(batch) = self.read(reading)? {
                    return Ok(Next::Batch(batch));
                }
                continue;
            }
            if !self.follow || self.to.is_some() {
                return Ok(Next::End);
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(Next::Idle);
            }
            std::thread::sleep(POLL.min(deadline - now));
        }
    }

    fn read_only(&mut self, columns: &BTreeSet<usize>) {
        self.decoder.rows().read_only(columns);
    }
}

impl FileSource {
    /// Opens the next file that has something to read, if there is one.
    fn next_file(&mut self) -> Result<Option<Reading>, PgError> {
        self.list()?;
        // Behind the file that was read last, so that each has its turn.
        let last = self.last.clone().unwrap_or_default();
        let (before, after): (Vec<String>, Vec<String>) = self.tails.keys().cloned().partition(|path| *path <= last);
        for path in after.into_iter().chain(before) {
            if let Some(reading) = self.open_file(&path)? {
                self.last = Some(path);
                return Ok(Some(reading));
            }
        }
        Ok(None)
    }

    /// Adds files that are new: once, or again and again where they are followed.
    fn list(&mut self) -> Result<(), PgError> {
        let due = match self.listed {
            None => true,
            Some(listed) => self.follow && self.to.is_none() && listed.elapsed() >= LIST,
        };
        if due {
            self.listed = Some(Instant::now());
            for path in list(&self.path)? {
                self.tails.entry(path).or_default();
            }
        }
        Ok(())
    }

    fn open_file(&mut self, path: &str) -> Result<Option<Reading>, PgError> {
        let end = self.to.as_ref().map(|to| to.get(path).copied().unwrap_or(0));
        let Some(tail) = self.tails.get_mut(path) else { return Ok(None) };
        if end.is_some_and(|end| tail.offset >= end) || (!self.follow && tail.length.is_some()) {
            return Ok(None);
        }
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            // It may come back; and a bounded reading of a file that is gone has nothing to read.
            Err(error) if error.kind() == ErrorKind::NotFound && (self.follow || end.is_some()) => return Ok(None),
            Err(error) => return Err(unreadable(path, &error)),
        };
        if let Some(what) = tail.became(&metadata) {
            let message = format!("file \"{path}\" was {what} after {} bytes of it were read", tail.offset);
            self.replaced.push(DecodeError {
                location: location(path, tail.offset),
                input: String::new(),
                error: PgError::new(SqlState::IO_ERROR, message)
                    .with_detail("Reading goes on from the start of what is there now. Rows read before stay."),
            });
            *tail = Tail::default();
        }
        if tail.length == Some(metadata.len()) {
            return Ok(None);
        }
        let mut file = File::open(path).map_err(|error| unreadable(path, &error))?;
        let opened = file.metadata().map_err(|error| unreadable(path, &error))?;
        tail.identity = Some((opened.dev(), opened.ino()));
        file.seek(SeekFrom::Start(tail.offset)).map_err(|error| unreadable(path, &error))?;
        self.decoder.open_file(tail.offset == 0);
        let (path, buffer) = (path.to_string(), Vec::new());
        Ok(Some(Reading { path, file, buffer, start: 0, end, skipping: false, batch_count: 0 }))
    }

    /// Reads a file until a batch is full or the file ends. None where that gave nothing.
    fn read(&mut self, mut reading: Reading) -> Result<Option<SourceBatch>, PgError> {
        let start = self.tails.get(&reading.path).map_or(0, |tail| tail.offset);
        let mut offset = start;
        let mut ended = loop {
            offset += reading.decode(&mut *self.decoder, offset, false);
            if self.decoder.rows().is_full() || offset - start >= BATCH_BYTES_MAX {
                break false;
            }
            if reading.fill(offset)? == 0 {
                break true;
            }
        };
        // The end of the file ends its last line, unless more may be appended to it.
        if ended && (!self.follow || reading.end.is_some()) {
            offset += reading.decode(&mut *self.decoder, offset, true);
            ended = reading.is_empty();
        }
        let tail = self.tails.entry(reading.path.clone()).or_default();
        tail.offset = offset;
        if ended {
            tail.length = Some(offset + (reading.buffer.len() - reading.start) as u64);
        }
        let (columns, row_count, failures) = self.decoder.rows().take();
        let mut errors = std::mem::take(&mut self.replaced);
        errors.extend(failures.into_iter().map(|failure| DecodeError {
            location: location(&reading.path, failure.place),
            input: failure.input,
            error: failure.error,
        }));
        reading.batch_count += 1;
        let path = reading.path.clone();
        if !ended && (!self.follow || reading.batch_count < TURN_BATCHES) {
            self.current = Some(reading);
        }
        if offset == start && errors.is_empty() {
            return Ok(None);
        }
        let positions = self.tails.iter().map(|(path, tail)| (path.clone(), tail.offset)).collect();
        let byte_count = (offset - start) as usize;
        let partitions = vec![(path, row_count)];
        Ok(Some(SourceBatch { columns, row_count, errors, partitions, late_rows: 0, positions, byte_count }))
    }
}

fn location(path: &str, offset: u64) -> String {
    format!("{path}, byte {offset}")
}

#[cfg(test)]
mod tests;
