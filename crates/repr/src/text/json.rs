//! JSON as text: checks it, brings it into jsonb's form, and finds fields and elements without building a tree.
//!
//! Values stay slices of the text they came from, so numbers keep every digit and `->` costs one scan and no copy.

use std::collections::BTreeMap;

/// Deeper nesting than this is refused rather than risking the stack.
const DEPTH_MAX: usize = 512;

/// Whether `text` is one JSON value and nothing else.
pub fn is_valid(text: &str) -> bool {
    let mut scanner = Scanner { text, at: 0 };
    scanner.value(0).is_some() && scanner.rest().is_empty()
}

/// jsonb's text form: a space after `:` and `,`, object keys once each (the last wins), shorter keys first, then by bytes.
/// None if `text` is not JSON.
pub fn canonical(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 8);
    write_canonical(text, 0, &mut out)?;
    Some(out)
}

/// What kind of value a JSON text is, as `json_typeof` names it.
pub fn type_name(text: &str) -> &'static str {
    match text.trim_start().as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}

/// The raw value under `name` of an object; the last one, as PostgreSQL picks. None if there is none or it is no object.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut found = None;
    for (key, value) in members(text)? {
        let matches = match key.contains('\\') {
            true => unescape(key) == name,
            false => &key[1..key.len() - 1] == name,
        };
        if matches {
            found = Some(value);
        }
    }
    found
}

/// The raw value at `index` of an array, counted from the end if negative.
pub fn element(text: &str, index: i64) -> Option<&str> {
    let elements = elements(text)?;
    let index = if index < 0 { index + elements.len() as i64 } else { index };
    usize::try_from(index).ok().and_then(|index| elements.get(index).copied())
}

/// An object's members in order: the quoted key and the raw value. None if it is no object.
pub fn members(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.skip_blanks();
    scanner.take(b'{')?;
    let mut members = Vec::new();
    scanner.skip_blanks();
    if scanner.take(b'}').is_some() {
        return Some(members);
    }
    loop {
        scanner.skip_blanks();
        let key = scanner.string()?;
        scanner.skip_blanks();
        scanner.take(b':')?;
        members.push((key, scanner.value(1)?));
        scanner.skip_blanks();
        if scanner.take(b',').is_none() {
            scanner.take(b'}')?;
            return Some(members);
        }
    }
}

/// An array's raw elements in order. None if it is no array.
pub fn elements(text: &str) -> Option<Vec<&str>> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.skip_blanks();
    scanner.take(b'[')?;
    let mut elements = Vec::new();
    scanner.skip_blanks();
    if scanner.take(b']').is_some() {
        return Some(elements);
    }
    loop {
        elements.push(scanner.value(1)?);
        scanner.skip_blanks();
        if scanner.take(b',').is_none() {
            scanner.take(b']')?;
            return Some(elements);
        }
    }
}

/// A value as `->>` gives it: a string without quotes and escapes, JSON null as None, anything else as it is.
pub fn as_text(raw: &str) -> Option<std::borrow::Cow<'_, str>> {
    let raw = raw.trim();
    match raw.as_bytes().first() {
        Some(b'n') => None,
        Some(b'"') if raw.contains('\\') => Some(unescape(raw).into()),
        Some(b'"') => Some(raw[1..raw.len() - 1].into()),
        _ => Some(raw.into()),
    }
}

/// Appends `text` as a JSON string with its quotes.
pub fn push_quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn unescape(quoted: &str) -> String {
    serde_json::from_str(quoted).unwrap_or_else(|_| quoted.trim_matches('"').to_string())
}

fn write_canonical(text: &str, depth: usize, out: &mut String) -> Option<()> {
    let mut scanner = Scanner { text, at: 0 };
    let raw = scanner.value(depth)?;
    if !scanner.rest().is_empty() {
        return None;
    }
    match raw.as_bytes().first()? {
        b'{' => {
            let mut sorted: BTreeMap<(usize, String), &str> = BTreeMap::new();
            for (key, value) in members(raw)? {
                let key = unescape(key);
                sorted.insert((key.len(), key), value);
            }
            out.push('{');
            for (index, ((_, key), value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                push_quoted(&key, out);
                out.push_str(": ");
                write_canonical(value, depth + 1, out)?;
            }
            out.push('}');
        }
        b'[' => {
            out.push('[');
            for (index, element) in elements(raw)?.into_iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_canonical(element, depth + 1, out)?;
            }
            out.push(']');
        }
        b'"' => push_quoted(&unescape(raw), out),
        b't' | b'f' | b'n' => out.push_str(raw),
        _ => out.push_str(&crate::numeric::Numeric::parse(raw).ok()?.to_string()),
    }
    Some(())
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn rest(&mut self) -> &'a str {
        self.skip_blanks();
        &self.text[self.at..]
    }

    /// One value, as the slice it occupies.
    fn value(&mut self, depth: usize) -> Option<&'a str> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.skip_blanks();
        let start = self.at;
        match self.peek()? {
            b'"' => {
                self.string()?;
            }
            b'{' => {
                self.at += 1;
                self.skip_blanks();
                if self.take(b'}').is_none() {
                    loop {
                        self.skip_blanks();
                        self.string()?;
                        self.skip_blanks();
                        self.take(b':')?;
                        self.value(depth + 1)?;
                        self.skip_blanks();
                        if self.take(b',').is_none() {
                            self.take(b'}')?;
                            break;
                        }
                    }
                }
            }
            b'[' => {
                self.at += 1;
                self.skip_blanks();
                if self.take(b']').is_none() {
                    loop {
                        self.value(depth + 1)?;
                        self.skip_blanks();
                        if self.take(b',').is_none() {
                            self.take(b']')?;
                            break;
                        }
                    }
                }
            }
            b't' => self.word("true")?,
            b'f' => self.word("false")?,
            b'n' => self.word("null")?,
            _ => self.number()?,
        }
        Some(&self.text[start..self.at])
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.text[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.take(b'-');
        let integer = self.digits();
        if integer == 0 || (integer > 1 && self.text.as_bytes()[self.at - integer] == b'0') {
            return None;
        }
        if self.take(b'.').is_some() && self.digits() == 0 {
            return None;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return None;
            }
        }
        Some(())
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    /// A string with its quotes.
    fn string(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.take(b'"')?;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    self.at += 1;
                    match self.peek()? {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
                        b'u' => {
                            let hex = self.text.as_bytes().get(self.at + 1..self.at + 5)?;
                            if !hex.iter().all(u8::is_ascii_hexdigit) {
                                return None;
                            }
                            self.at += 5;
                        }
                        _ => return None,
                    }
                }
                0..=0x1F => return None,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(&self.text[start..self.at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_what_postgres_checks() {
        for text in ["1", "-0.5e+3", " [1, {\"a\" : null}] ", "\"\\u00e9\\n\"", "{}", "[]", "true"] {
            assert!(is_valid(text), "{text}");
        }
        for text in ["", "01", "1.", "{a: 1}", "[1,]", "\"\n\"", "nul", "1 2", "{\"a\"}", "'a'", "-", "1e"] {
            assert!(!is_valid(text), "{text}");
        }
        assert!(!is_valid(&"[".repeat(100_000)));
    }

    #[test]
    fn jsonb_orders_and_spaces() {
        let text = r#"{"bb":1,"a":[1,2.50,{"z":null}],"c":"x\u0041","a":2}"#;
        assert_eq!(canonical(text).unwrap(), r#"{"a": 2, "c": "xA", "bb": 1}"#);
        assert_eq!(canonical("[1,2.50, 1e2 ]").unwrap(), "[1, 2.50, 100]");
    }

    #[test]
    fn finds_fields_and_elements() {
        let text = r#"{"a": {"b": [10, "x\"y", null]}, "n": 1.10}"#;
        assert_eq!(field(text, "n"), Some("1.10"));
        let array = field(field(text, "a").unwrap(), "b").unwrap();
        assert_eq!(element(array, 0), Some("10"));
        assert_eq!(as_text(element(array, 1).unwrap()).unwrap(), "x\"y");
        assert_eq!(as_text(element(array, -1).unwrap()), None);
        assert_eq!(element(array, 3), None);
        assert_eq!(field("[1]", "a"), None);
    }
}
