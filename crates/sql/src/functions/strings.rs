//! Functions of text. Positions and lengths count characters; case follows Unicode.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, StringBuilder};
use arrow::datatypes::Int32Type;
use regex::Regex;
use repr::text::push_hex;
use repr::{PgError, SqlState};

use super::conversion::Cache;
use super::kernel::Call;

fn invalid(message: impl Into<String>) -> PgError {
    PgError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// The byte of a character's start, or the text's length.
fn byte_of(text: &str, character: usize) -> usize {
    if text.is_ascii() {
        character.min(text.len())
    } else {
        text.char_indices().nth(character).map_or(text.len(), |(at, _)| at)
    }
}

fn char_count(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().count() }
}

pub(crate) fn concatenate(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.text(0), call.text(1));
    call.map_text(|row, out| {
        out.push_str(left.get(row));
        out.push_str(right.get(row));
        Ok(())
    })
}

pub(crate) fn concatenate_bytes(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.bytes(0), call.bytes(1));
    call.map_bytes(|row, out| {
        out.extend_from_slice(left.get(row));
        out.extend_from_slice(right.get(row));
        Ok(())
    })
}

/// concat(): NULLs are skipped. All arguments are text.
pub(crate) fn concat(call: &Call) -> Result<ArrayRef, PgError> {
    call.map_text(|row, out| {
        for argument in 0..call.argument_count() {
            if !call.is_null(argument, row) {
                out.push_str(call.text(argument).get(row));
            }
        }
        Ok(())
    })
}

/// concat_ws(): the first argument separates; NULL there is NULL.
pub(crate) fn concat_ws(call: &Call) -> Result<ArrayRef, PgError> {
    call.map_text_nullable(|row, out| {
        if call.is_null(0, row) {
            return Ok(false);
        }
        let mut first = true;
        for argument in 1..call.argument_count() {
            if call.is_null(argument, row) {
                continue;
            }
            if !first {
                out.push_str(call.text(0).get(row));
            }
            first = false;
            out.push_str(call.text(argument).get(row));
        }
        Ok(true)
    })
}

pub(crate) fn length(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.text(0);
    call.map::<Int32Type>(|row| Ok(char_count(values.get(row)) as i32))
}

/// length(char(n)): the blanks at the end do not count.
pub(crate) fn bpchar_length(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.text(0);
    call.map::<Int32Type>(|row| Ok(char_count(values.get(row).trim_end_matches(' ')) as i32))
}

pub(crate) fn octet_length(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.text(0);
    call.map::<Int32Type>(|row| Ok(values.get(row).len() as i32))
}

pub(crate) fn bit_length(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.text(0);
    call.map::<Int32Type>(|row| Ok(values.get(row).len() as i32 * 8))
}

pub(crate) fn bytea_length(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.bytes(0);
    call.map::<Int32Type>(|row| Ok(values.get(row).len() as i32))
}

pub(crate) fn lower(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.text(0);
    call.map_text(|row, out| {
        let text = values.get(row);
        if text.is_ascii() {
            out.push_str(text);
            out.make_ascii_lowercase();
        } else {
            // Character by character, as PostgreSQL: a final sigma is no special case.
            out.extend(text.chars().map(|c| single(c, c.to_lowercase())));
        }
        Ok(())
    })
}

pub(crate) fn upper(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.text(0);
    call.map_text(|row, out| {
        let text = values.get(row);
        if text.is_ascii() {
            out.push_str(text);
            out.make_ascii_uppercase();
        } else {
            out.extend(text.chars().map(|c| single(c, c.to_uppercase())));
        }
        Ok(())
    })
}

/// A case mapping that keeps the number of characters.
fn single(original: char, mut mapped: impl Iterator<Item = char>) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(only), None) => only,
        _ => original,
    }
}

pub(crate) fn initcap(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.text(0);
    call.map_text(|row, out| {
        let mut inside = false;
        for c in values.get(row).chars() {
            out.push(if inside { single(c, c.to_lowercase()) } else { single(c, c.to_uppercase()) });
            inside = c.is_alphanumeric();
        }
        Ok(())
    })
}

/// Which characters trim() takes: the second argument's, or blanks.
fn trimmed<'a>(call: &'a Call, trim: fn(&'a str, &dyn Fn(char) -> bool) -> &'a str) -> Result<ArrayRef, PgError> {
    let values = call.text(0);
    if call.argument_count() == 1 {
        return call.map_str(|row| Ok(Some(trim(values.get(row), &|c| c == ' '))));
    }
    let sets = call.text(1);
    call.map_str(|row| {
        let set = sets.get(row);
        Ok(Some(trim(values.get(row), &|c| set.contains(c))))
    })
}

pub(crate) fn btrim(call: &Call) -> Result<ArrayRef, PgError> {
    trimmed(call, |text, accept| text.trim_matches(accept))
}

pub(crate) fn ltrim(call: &Call) -> Result<ArrayRef, PgError> {
    trimmed(call, |text, accept| text.trim_start_matches(accept))
}

pub(crate) fn rtrim(call: &Call) -> Result<ArrayRef, PgError> {
    trimmed(call, |text, accept| text.trim_end_matches(accept))
}

/// The range of `length` items from the 1-based `start`, which may lie before the first.
fn window(start: i32, length: Option<i32>) -> Result<(usize, usize), PgError> {
    let from = (start as i64 - 1).max(0);
    let to = match length {
        None => i64::MAX,
        Some(length) if length < 0 => {
            return Err(PgError::new(SqlState::SUBSTRING_ERROR, "negative substring length not allowed"));
        }
        Some(length) => (start as i64 - 1 + length as i64).max(0),
    };
    Ok((from as usize, to.max(from) as usize))
}

pub(crate) fn substring(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, starts) = (call.text(0), call.int4(1));
    let lengths = (call.argument_count() == 3).then(|| call.int4(2));
    call.map_str(|row| {
        let text = values.get(row);
        let (from, to) = window(starts.get(row), lengths.map(|lengths| lengths.get(row)))?;
        let from = byte_of(text, from);
        let rest = &text[from..];
        let skipped = (starts.get(row) as i64 - 1).max(0) as usize;
        Ok(Some(&rest[..byte_of(rest, to.saturating_sub(skipped))]))
    })
}

pub(crate) fn bytea_substring(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, starts) = (call.bytes(0), call.int4(1));
    let lengths = (call.argument_count() == 3).then(|| call.int4(2));
    call.map_bytes(|row, out| {
        let bytes = values.get(row);
        let (from, to) = window(starts.get(row), lengths.map(|lengths| lengths.get(row)))?;
        out.extend_from_slice(&bytes[from.min(bytes.len())..to.min(bytes.len())]);
        Ok(())
    })
}

pub(crate) fn left(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, counts) = (call.text(0), call.int4(1));
    call.map_str(|row| {
        let (text, count) = (values.get(row), counts.get(row) as i64);
        let keep = if count >= 0 { count as usize } else { (char_count(text) as i64 + count).max(0) as usize };
        Ok(Some(&text[..byte_of(text, keep)]))
    })
}

pub(crate) fn right(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, counts) = (call.text(0), call.int4(1));
    call.map_str(|row| {
        let (text, count) = (values.get(row), counts.get(row) as i64);
        let skip = if count >= 0 { (char_count(text) as i64 - count).max(0) } else { -count };
        Ok(Some(&text[byte_of(text, skip as usize)..]))
    })
}

fn pad(call: &Call, at_start: bool) -> Result<ArrayRef, PgError> {
    let (values, lengths) = (call.text(0), call.int4(1));
    let fills = (call.argument_count() == 3).then(|| call.text(2));
    call.map_text(|row, out| {
        let text = values.get(row);
        let length = lengths.get(row).max(0) as usize;
        if length > 250_000_000 {
            return Err(PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "requested length too large"));
        }
        let fill = fills.map_or(" ", |fills| fills.get(row));
        let present = char_count(text);
        let padding = || fill.chars().cycle().take(if fill.is_empty() { 0 } else { length.saturating_sub(present) });
        let kept = &text[..byte_of(text, length)];
        if at_start {
            out.extend(padding());
            out.push_str(kept);
        } else {
            out.push_str(kept);
            out.extend(padding());
        }
        Ok(())
    })
}

pub(crate) fn lpad(call: &Call) -> Result<ArrayRef, PgError> {
    pad(call, true)
}

pub(crate) fn rpad(call: &Call) -> Result<ArrayRef, PgError> {
    pad(call, false)
}

pub(crate) fn replace(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, from, to) = (call.text(0), call.text(1), call.text(2));
    call.map_text(|row, out| {
        match from.get(row) {
            "" => out.push_str(values.get(row)),
            from => {
                for (index, part) in values.get(row).split(from).enumerate() {
                    if index > 0 {
                        out.push_str(to.get(row));
                    }
                    out.push_str(part);
                }
            }
        }
        Ok(())
    })
}

pub(crate) fn translate(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, from, to) = (call.text(0), call.text(1), call.text(2));
    call.map_text(|row, out| {
        let from: Vec<char> = from.get(row).chars().collect();
        let to: Vec<char> = to.get(row).chars().collect();
        for c in values.get(row).chars() {
            match from.iter().position(|other| *other == c) {
                None => out.push(c),
                Some(index) => out.extend(to.get(index)),
            }
        }
        Ok(())
    })
}

pub(crate) fn position(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, parts) = (call.text(0), call.text(1));
    call.map::<Int32Type>(|row| {
        let text = values.get(row);
        Ok(text.find(parts.get(row)).map_or(0, |at| char_count(&text[..at]) as i32 + 1))
    })
}

pub(crate) fn starts_with(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, prefixes) = (call.text(0), call.text(1));
    call.map_bool(|row| Ok(values.get(row).starts_with(prefixes.get(row))))
}

pub(crate) fn split_part(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, separators, fields) = (call.text(0), call.text(1), call.int4(2));
    call.map_str(|row| {
        let (text, separator, field) = (values.get(row), separators.get(row), fields.get(row));
        if field == 0 {
            return Err(invalid("field position must not be zero"));
        }
        if separator.is_empty() {
            return Ok(Some(if matches!(field, 1 | -1) { text } else { "" }));
        }
        let index = field.unsigned_abs() as usize - 1;
        let found = if field > 0 { text.split(separator).nth(index) } else { text.rsplit(separator).nth(index) };
        Ok(Some(found.unwrap_or("")))
    })
}

pub(crate) fn repeat(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, counts) = (call.text(0), call.int4(1));
    call.map_text(|row, out| {
        let (text, count) = (values.get(row), counts.get(row).max(0) as usize);
        if text.len().saturating_mul(count) > 1_000_000_000 {
            return Err(PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "requested length too large"));
        }
        for _ in 0..count {
            out.push_str(text);
        }
        Ok(())
    })
}

pub(crate) fn reverse(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.text(0);
    call.map_text(|row, out| {
        out.extend(values.get(row).chars().rev());
        Ok(())
    })
}

pub(crate) fn ascii(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.text(0);
    call.map::<Int32Type>(|row| Ok(values.get(row).chars().next().map_or(0, |c| c as i32)))
}

pub(crate) fn chr(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.int4(0);
    call.map_text(|row, out| {
        let code = values.get(row);
        match u32::try_from(code).ok().and_then(char::from_u32) {
            Some('\0') => Err(PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "null character not permitted")),
            Some(c) => {
                out.push(c);
                Ok(())
            }
            None if code < 0 => {
                Err(PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "character number must be positive"))
            }
            None => Err(PgError::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("requested character too large for encoding: {code}"),
            )),
        }
    })
}

pub(crate) fn to_hex_int4(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.int4(0);
    call.map_text(|row, out| {
        out.push_str(&format!("{:x}", values.get(row)));
        Ok(())
    })
}

pub(crate) fn to_hex_int8(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.int8(0);
    call.map_text(|row, out| {
        out.push_str(&format!("{:x}", values.get(row)));
        Ok(())
    })
}

pub(crate) fn overlay(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, news, starts) = (call.text(0), call.text(1), call.int4(2));
    let lengths = (call.argument_count() == 4).then(|| call.int4(3));
    call.map_text(|row, out| {
        let (text, new, start) = (values.get(row), news.get(row), starts.get(row));
        if start <= 0 {
            return Err(PgError::new(SqlState::SUBSTRING_ERROR, "negative substring length not allowed"));
        }
        let length = lengths.map_or(char_count(new) as i64, |lengths| lengths.get(row) as i64);
        out.push_str(&text[..byte_of(text, start as usize - 1)]);
        out.push_str(new);
        let resume = (start as i64 - 1 + length).max(0) as usize;
        out.push_str(&text[byte_of(text, resume)..]);
        Ok(())
    })
}

pub(crate) fn quote_ident(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.text(0);
    call.map_text(|row, out| {
        out.push_str(&catalog::system::quote_identifier(values.get(row)));
        Ok(())
    })
}

pub(crate) fn quote_literal(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.text(0);
    call.map_text(|row, out| {
        let text = values.get(row);
        if text.contains('\\') {
            out.push('E');
        }
        out.push('\'');
        out.push_str(&text.replace('\\', "\\\\").replace('\'', "''"));
        out.push('\'');
        Ok(())
    })
}

pub(crate) fn string_to_array(call: &Call) -> Result<ArrayRef, PgError> {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for row in 0..call.rows() {
        if call.is_null(0, row) {
            builder.append(false);
            continue;
        }
        let text = call.text(0).get(row);
        let null = (call.argument_count() == 3 && !call.is_null(2, row)).then(|| call.text(2).get(row));
        let mut push = |part: &str| builder.values().append_option((Some(part) != null).then_some(part));
        if call.is_null(1, row) {
            let mut scratch = [0u8; 4];
            text.chars().for_each(|c| push(c.encode_utf8(&mut scratch)));
        } else if !text.is_empty() {
            match call.text(1).get(row) {
                "" => push(text),
                separator => text.split(separator).for_each(push),
            }
        }
        builder.append(true);
    }
    Ok(Arc::new(builder.finish()))
}

/// MD5 of bytes, written out because nothing else here needs a digest.
fn md5_digest(input: &[u8]) -> [u8; 16] {
    const SHIFTS: [u32; 64] = [
        7, 12, 17, 22, 7, 12, 17, 22, 7, 12, 17, 22, 7, 12, 17, 22, 5, 9, 14, 20, 5, 9, 14, 20, 5, 9, 14, 20, 5, 9, 14,
        20, 4, 11, 16, 23, 4, 11, 16, 23, 4, 11, 16, 23, 4, 11, 16, 23, 6, 10, 15, 21, 6, 10, 15, 21, 6, 10, 15, 21, 6,
        10, 15, 21,
    ];
    let constant = |index: usize| ((index as f64 + 1.0).sin().abs() * 4_294_967_296.0) as u32;
    let mut state = [0x6745_2301u32, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476];
    let mut padded = input.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend_from_slice(&((input.len() as u64).wrapping_mul(8)).to_le_bytes());
    for block in padded.chunks_exact(64) {
        let mut words = [0u32; 16];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        let [mut a, mut b, mut c, mut d] = state;
        for (index, shift) in SHIFTS.iter().enumerate() {
            let (mixed, word) = match index / 16 {
                0 => ((b & c) | (!b & d), index),
                1 => ((d & b) | (!d & c), (5 * index + 1) % 16),
                2 => (b ^ c ^ d, (3 * index + 5) % 16),
                _ => (c ^ (b | !d), (7 * index) % 16),
            };
            let sum = mixed.wrapping_add(a).wrapping_add(constant(index)).wrapping_add(words[word]);
            (a, d, c) = (d, c, b);
            b = b.wrapping_add(sum.rotate_left(*shift));
        }
        for (total, part) in state.iter_mut().zip([a, b, c, d]) {
            *total = total.wrapping_add(part);
        }
    }
    let mut digest = [0u8; 16];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    digest
}

pub(crate) fn md5(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.text(0);
    call.map_text(|row, out| {
        push_hex(&md5_digest(values.get(row).as_bytes()), out);
        Ok(())
    })
}

pub(crate) fn md5_bytea(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.bytes(0);
    call.map_text(|row, out| {
        push_hex(&md5_digest(values.get(row)), out);
        Ok(())
    })
}

pub(crate) fn encode(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, formats) = (call.bytes(0), call.text(1));
    call.map_text(|row, out| {
        match formats.get(row).to_ascii_lowercase().as_str() {
            "hex" => push_hex(values.get(row), out),
            "base64" => push_base64(values.get(row), out),
            "escape" => {
                for byte in values.get(row) {
                    match byte {
                        0 | 0x80.. => out.push_str(&format!("\\{byte:03o}")),
                        b'\\' => out.push_str("\\\\"),
                        byte => out.push(*byte as char),
                    }
                }
            }
            other => return Err(invalid(format!("unrecognized encoding: \"{other}\""))),
        }
        Ok(())
    })
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn push_base64(bytes: &[u8], out: &mut String) {
    for (index, chunk) in bytes.chunks(3).enumerate() {
        // PostgreSQL breaks lines after 76 characters.
        if index > 0 && index % 19 == 0 {
            out.push('\n');
        }
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | *byte as u32) << (8 * (3 - chunk.len()));
        for position in 0..4 {
            if position <= chunk.len() {
                out.push(BASE64[(word >> (18 - 6 * position) & 63) as usize] as char);
            } else {
                out.push('=');
            }
        }
    }
}

pub(crate) fn decode(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, formats) = (call.text(0), call.text(1));
    call.map_bytes(|row, out| {
        let text = values.get(row);
        let bytea = |text: String| -> Result<Vec<u8>, PgError> {
            let array = repr::text::parse_scalar(&repr::SqlType::Bytea, -1, &text)?;
            Ok(arrow::array::AsArray::as_binary::<i32>(&array).value(0).to_vec())
        };
        match formats.get(row).to_ascii_lowercase().as_str() {
            "hex" => out.extend(bytea(format!("\\x{text}"))?),
            "escape" => out.extend(bytea(text.to_string())?),
            "base64" => {
                let (mut word, mut bits) = (0u32, 0);
                for c in text.bytes().filter(|c| !c.is_ascii_whitespace() && *c != b'=') {
                    let Some(value) = BASE64.iter().position(|other| *other == c) else {
                        let message = format!("invalid symbol \"{}\" found while decoding base64 sequence", c as char);
                        return Err(invalid(message));
                    };
                    word = word << 6 | value as u32;
                    bits += 6;
                    if bits >= 8 {
                        bits -= 8;
                        out.push((word >> bits) as u8);
                    }
                }
            }
            other => return Err(invalid(format!("unrecognized encoding: \"{other}\""))),
        }
        Ok(())
    })
}

/// A regular expression of PostgreSQL's advanced kind, as far as the engines agree.
fn regex(pattern: &str, flags: &str) -> Result<Regex, PgError> {
    let mut prefix = String::new();
    for flag in flags.chars() {
        match flag {
            'i' => prefix.push_str("(?i)"),
            'c' => prefix = prefix.replace("(?i)", ""),
            'n' | 'm' => prefix.push_str("(?m)"),
            'x' => prefix.push_str("(?x)"),
            'g' | 's' => {}
            other => return Err(invalid(format!("invalid regular expression option: \"{other}\""))),
        }
    }
    // A newline is a character like others, unless flag n says otherwise.
    let dot = if flags.contains(['n', 'm']) { "" } else { "(?s)" };
    // PostgreSQL's \m, \M, \y and \Y are word boundaries, \A and \Z the ends.
    let mut body = String::with_capacity(pattern.len());
    let mut chars = pattern.strip_prefix("***:").unwrap_or(pattern).chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            body.push(c);
            continue;
        }
        match chars.next() {
            Some('m') => body.push_str("\\b{start}"),
            Some('M') => body.push_str("\\b{end}"),
            Some('y') => body.push_str("\\b"),
            Some('Y') => body.push_str("\\B"),
            Some('Z') => body.push_str("\\z"),
            Some(other) => {
                body.push('\\');
                body.push(other);
            }
            None => body.push('\\'),
        }
    }
    Regex::new(&format!("{dot}{prefix}{body}")).map_err(|error| {
        let text = error.to_string();
        let reason = match text.lines().last().unwrap_or_default().trim_start_matches("error: ") {
            "unclosed group" | "unopened group" => "parentheses () not balanced",
            "unclosed character class" => "brackets [] not balanced",
            "repetition operator missing expression" => "quantifier operand invalid",
            other => other,
        };
        PgError::new(SqlState::INVALID_REGULAR_EXPRESSION, format!("invalid regular expression: {reason}"))
    })
}

fn matches(call: &Call, flags: &str, negated: bool) -> Result<ArrayRef, PgError> {
    let (values, patterns) = (call.text(0), call.text(1));
    let mut cache = Cache::new();
    call.map_bool(|row| {
        let regex = cache.get(patterns.get(row), |pattern| regex(pattern, flags))?;
        Ok(regex.is_match(values.get(row)) != negated)
    })
}

pub(crate) fn regex_match(call: &Call) -> Result<ArrayRef, PgError> {
    matches(call, "", false)
}

pub(crate) fn regex_not_match(call: &Call) -> Result<ArrayRef, PgError> {
    matches(call, "", true)
}

pub(crate) fn regex_match_insensitive(call: &Call) -> Result<ArrayRef, PgError> {
    matches(call, "i", false)
}

pub(crate) fn regex_not_match_insensitive(call: &Call) -> Result<ArrayRef, PgError> {
    matches(call, "i", true)
}

/// substring(text from pattern): the first group, or the whole match.
pub(crate) fn substring_regex(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, patterns) = (call.text(0), call.text(1));
    let mut cache = Cache::new();
    call.map_text_nullable(|row, out| {
        let regex = cache.get(patterns.get(row), |pattern| regex(pattern, ""))?;
        let Some(found) = regex.captures(values.get(row)) else { return Ok(false) };
        let group = if regex.captures_len() > 1 { found.get(1) } else { found.get(0) };
        Ok(group.inspect(|group| out.push_str(group.as_str())).is_some())
    })
}

/// regexp_replace(text, pattern, replacement [, flags]).
pub(crate) fn regexp_replace(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, patterns, replacements) = (call.text(0), call.text(1), call.text(2));
    let flags = (call.argument_count() == 4).then(|| call.text(3));
    let mut cache = Cache::new();
    call.map_text(|row, out| {
        let flags = flags.map_or("", |flags| flags.get(row));
        let key = format!("{flags}/{}", patterns.get(row));
        let regex = cache.get(&key, |_| regex(patterns.get(row), flags))?;
        let text = values.get(row);
        let mut end = 0;
        for found in regex.captures_iter(text) {
            let Some(whole) = found.get(0) else { continue };
            out.push_str(&text[end..whole.start()]);
            push_replacement(replacements.get(row), &found, out);
            end = whole.end();
            if !flags.contains('g') {
                break;
            }
        }
        out.push_str(&text[end..]);
        Ok(())
    })
}

/// `\1` to `\9` are groups, `\&` is the match, `\\` a backslash.
fn push_replacement(replacement: &str, found: &regex::Captures, out: &mut String) {
    let mut chars = replacement.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some(digit @ '1'..='9') => {
                let group = found.get(digit as usize - '0' as usize);
                out.push_str(group.map_or("", |group| group.as_str()));
            }
            Some('&') => out.push_str(&found[0]),
            Some('\\') | None => out.push('\\'),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
        }
    }
}

/// regexp_match(text, pattern [, flags]): the groups of the first match, or the match.
pub(crate) fn regexp_match(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, patterns) = (call.text(0), call.text(1));
    let flags = (call.argument_count() == 3).then(|| call.text(2));
    let mut cache = Cache::new();
    let mut builder = ListBuilder::new(StringBuilder::new());
    for row in 0..call.rows() {
        if !call.is_valid(row) {
            builder.append(false);
            continue;
        }
        let flags = flags.map_or("", |flags| flags.get(row));
        let key = format!("{flags}/{}", patterns.get(row));
        let regex = cache.get(&key, |_| regex(patterns.get(row), flags))?;
        let found = regex.captures(values.get(row));
        if let Some(found) = &found {
            let first = (regex.captures_len() > 1) as usize;
            for group in first..regex.captures_len() {
                builder.values().append_option(found.get(group).map(|group| group.as_str()));
            }
        }
        builder.append(found.is_some());
    }
    Ok(Arc::new(builder.finish()))
}

/// regexp_matches(text, pattern [, flags]): the groups of each match, or the match, as a list of lists. Without the flag g
/// only of the first.
pub(crate) fn regexp_matches(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, patterns) = (call.text(0), call.text(1));
    let flags = (call.argument_count() == 3).then(|| call.text(2));
    let mut cache = Cache::new();
    let mut builder = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
    for row in 0..call.rows() {
        if !call.is_valid(row) {
            builder.append(false);
            continue;
        }
        let flags = flags.map_or("", |flags| flags.get(row));
        let key = format!("{flags}/{}", patterns.get(row));
        let regex = cache.get(&key, |_| regex(patterns.get(row), flags))?;
        let first = (regex.captures_len() > 1) as usize;
        let count = if flags.contains('g') { usize::MAX } else { 1 };
        for found in regex.captures_iter(values.get(row)).take(count) {
            let groups = builder.values();
            for group in first..regex.captures_len() {
                groups.values().append_option(found.get(group).map(|group| group.as_str()));
            }
            groups.append(true);
        }
        builder.append(true);
    }
    Ok(Arc::new(builder.finish()))
}

/// regexp_split_to_array(text, pattern [, flags]). Matches of nothing at an end or right behind another match do not split.
pub(crate) fn regexp_split_to_array(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, patterns) = (call.text(0), call.text(1));
    let flags = (call.argument_count() == 3).then(|| call.text(2));
    let mut cache = Cache::new();
    let mut builder = ListBuilder::new(StringBuilder::new());
    for row in 0..call.rows() {
        if call.is_valid(row) {
            let (text, flags) = (values.get(row), flags.map_or("", |flags| flags.get(row)));
            if flags.contains('g') {
                return Err(invalid("regexp_split_to_array() does not support the \"global\" option"));
            }
            let key = format!("{flags}/{}", patterns.get(row));
            let regex = cache.get(&key, |_| regex(patterns.get(row), flags))?;
            let mut start = 0;
            for found in regex.find_iter(text) {
                if found.is_empty() && (found.start() == start || found.end() == text.len()) {
                    continue;
                }
                builder.values().append_value(&text[start..found.start()]);
                start = found.end();
            }
            builder.values().append_value(&text[start..]);
        }
        builder.append(call.is_valid(row));
    }
    Ok(Arc::new(builder.finish()))
}

/// A LIKE pattern with its own escape character, as one with a backslash.
pub(crate) fn like_escape(call: &Call) -> Result<ArrayRef, PgError> {
    let (patterns, escapes) = (call.text(0), call.text(1));
    call.map_text(|row, out| {
        let mut escape = escapes.get(row).chars();
        let (escape, more) = (escape.next(), escape.next());
        if more.is_some() {
            return Err(PgError::new(SqlState("22025"), "invalid escape string")
                .with_hint("Escape string must be empty or one character."));
        }
        let mut chars = patterns.get(row).chars();
        while let Some(c) = chars.next() {
            if Some(c) == escape {
                out.push('\\');
                match chars.next() {
                    Some(next) => out.push(next),
                    None => {
                        return Err(PgError::new(SqlState("22025"), "LIKE pattern must not end with escape character"));
                    }
                }
            } else {
                if c == '\\' {
                    out.push('\\');
                }
                out.push(c);
            }
        }
        Ok(())
    })
}

/// A SIMILAR TO pattern as a regular expression.
pub(crate) fn similar_to_escape(call: &Call) -> Result<ArrayRef, PgError> {
    let patterns = call.text(0);
    let escapes = (call.argument_count() == 2).then(|| call.text(1));
    call.map_text(|row, out| {
        let escape = match escapes {
            Some(escapes) => escapes.get(row).chars().next(),
            None => Some('\\'),
        };
        out.push_str("^(?:");
        let mut in_set = false;
        let mut chars = patterns.get(row).chars();
        while let Some(c) = chars.next() {
            if Some(c) == escape {
                if let Some(next) = chars.next() {
                    out.push_str(&regex::escape(&next.to_string()));
                }
            } else if in_set {
                in_set = c != ']';
                if c == '\\' {
                    out.push('\\');
                }
                out.push(c);
            } else {
                match c {
                    '[' => {
                        in_set = true;
                        out.push('[');
                    }
                    '%' => out.push_str(".*"),
                    '_' => out.push('.'),
                    '(' => out.push_str("(?:"),
                    '.' | '^' | '$' | '\\' => {
                        out.push('\\');
                        out.push(c);
                    }
                    c => out.push(c),
                }
            }
        }
        out.push_str(")$");
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_md5() {
        let hex = |text: &str| {
            let mut out = String::new();
            push_hex(&md5_digest(text.as_bytes()), &mut out);
            out
        };
        assert_eq!(hex(""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(hex("abc"), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(
            hex("12345678901234567890123456789012345678901234567890123456789012345678901234567890"),
            "57edf4a22be3c955ac49da2e2107b67a"
        );
    }
}
