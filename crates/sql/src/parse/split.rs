//! Splits a text into its statements, and refuses what would cost more to parse than it can be worth.
//!
//! A first pass over the bytes that knows just enough of PostgreSQL's lexical rules (quotes, dollar quotes, comments) to
//! find the semicolons between statements. Each statement is tokenized by itself afterwards, so that its own text and
//! offset are known. The same pass bounds two costs before they are paid: the number of tokens, each of which takes a
//! hundred bytes once tokenized, and the depth of the tree they would make, because a tree is walked by recursion.

use repr::{PgError, SqlState};

/// More tokens than this in one statement are refused: they would take half a gigabyte as tokens, several as a tree.
const TOKEN_COUNT_MAX: usize = 5_000_000;

/// How deep the expression tree of a statement may be: a chain `a + b + c ..` is as deep as it has operators.
const TREE_DEPTH_MAX: u32 = 1_000;

/// Parentheses, brackets and CASEs within each other. The parser's own recursion limit is for what is not counted here.
const NESTING_MAX: usize = 200;

/// One statement of a text, without the semicolon after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The byte where it starts: its first token or comment.
    pub(crate) start: usize,
    /// The byte after its last.
    pub(crate) end: usize,
    /// Upper bound of the depth of its tree.
    pub(crate) depth: u32,
}

/// The statements of `text`, empty ones left out.
///
/// Errors: 42601 for a quote or comment that is not closed, 54000 and 54001 for a statement beyond the limits.
pub(crate) fn split(text: &str) -> Result<Vec<Piece>, PgError> {
    let bytes = text.as_bytes();
    let mut pieces = Vec::new();
    let mut shape = Shape::default();
    let mut start = None;
    let mut end = 0;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte.is_ascii_whitespace() {
            // The tokenizer makes a token of every blank.
            if start.is_some() {
                shape.token().map_err(|error| error.at(position(text, at)))?;
            }
            at += 1;
            continue;
        }
        if bytes[at..].starts_with(b"--") {
            at = memchr(b'\n', bytes, at).unwrap_or(bytes.len());
            continue;
        }
        if bytes[at..].starts_with(b"/*") {
            at = comment_end(bytes, at).ok_or_else(|| unterminated("/* comment", text, at))?;
            continue;
        }
        if byte == b';' {
            if let Some(start) = start.take() {
                pieces.push(Piece { start, end, depth: shape.finish() });
            }
            shape = Shape::default();
            at += 1;
            continue;
        }
        start.get_or_insert(at);
        let token_start = at;
        at = match byte {
            b'\'' => string_end(bytes, at, false).ok_or_else(|| unterminated("quoted string", text, at))?,
            b'"' => string_end(bytes, at, false).ok_or_else(|| unterminated("quoted identifier", text, at))?,
            b'$' => dollar_end(bytes, at).ok_or_else(|| unterminated("dollar-quoted string", text, at))?,
            b'0'..=b'9' => run(bytes, at, |byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.'),
            byte if is_word_start(byte) => {
                let word_end = run(bytes, at, is_word);
                match (&bytes[at..word_end], bytes.get(word_end)) {
                    (b"e" | b"E", Some(b'\'')) => string_end(bytes, word_end, true)
                        .ok_or_else(|| unterminated("quoted string", text, token_start))?,
                    _ => {
                        shape.word(&text[at..word_end]).map_err(|error| error.at(position(text, at)))?;
                        word_end
                    }
                }
            }
            byte if is_operator(byte) => {
                shape.operator();
                // An operator may run into a comment.
                let run_end = run(bytes, at, is_operator);
                (at + 1..run_end)
                    .find(|index| bytes[*index..].starts_with(b"--") || bytes[*index..].starts_with(b"/*"))
                    .unwrap_or(run_end)
            }
            byte => {
                shape.punctuation(byte).map_err(|error| error.at(position(text, at)))?;
                at + 1
            }
        };
        end = at;
        shape.token().map_err(|error| error.at(position(text, token_start)))?;
    }
    if let Some(start) = start {
        pieces.push(Piece { start, end, depth: shape.finish() });
    }
    match pieces.iter().find(|piece| piece.depth > TREE_DEPTH_MAX) {
        Some(piece) => Err(too_deep().at(position(text, piece.start))),
        None => Ok(pieces),
    }
}

/// PostgreSQL's way of pointing: the 1-based count of characters up to the byte `at`.
pub(crate) fn position(text: &str, at: usize) -> u32 {
    text[..at].chars().count() as u32 + 1
}

fn too_deep() -> PgError {
    PgError::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded")
        .with_hint("Split the statement, or turn a long chain of OR into IN.")
}

fn unterminated(what: &str, text: &str, at: usize) -> PgError {
    let rest: String = text[at..].chars().take(80).collect();
    PgError::new(SqlState::SYNTAX_ERROR, format!("unterminated {what} at or near \"{rest}\"")).at(position(text, at))
}

/// What the tokens so far amount to: their number, and a bound on the depth of their tree.
#[derive(Default)]
struct Shape {
    token_count: usize,
    /// The statement itself, then every parenthesis, bracket and CASE that is open.
    levels: Vec<Level>,
    outermost: Level,
}

/// One list between parentheses. A chain of operators makes a tree as deep as it is long; a comma starts another.
#[derive(Default)]
struct Level {
    opened_by: u8,
    chain: u32,
    longest: u32,
    /// UNIONs and their like chain across commas.
    set_operations: u32,
}

impl Level {
    fn depth(&self) -> u32 {
        self.longest.max(self.chain) + self.set_operations
    }
}

const CASE: u8 = b'C';

impl Shape {
    fn level(&mut self) -> &mut Level {
        self.levels.last_mut().unwrap_or(&mut self.outermost)
    }

    fn token(&mut self) -> Result<(), PgError> {
        self.token_count += 1;
        if self.token_count > TOKEN_COUNT_MAX {
            let message = format!("statement has more than {TOKEN_COUNT_MAX} tokens");
            return Err(PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message).with_hint("Load the data with COPY."));
        }
        Ok(())
    }

    fn operator(&mut self) {
        self.level().chain += 1;
    }

    fn next_item(&mut self) {
        let level = self.level();
        level.longest = level.longest.max(level.chain);
        level.chain = 0;
    }

    fn open(&mut self, opened_by: u8) -> Result<(), PgError> {
        if self.levels.len() == NESTING_MAX {
            return Err(too_deep());
        }
        self.levels.push(Level { opened_by, ..Level::default() });
        Ok(())
    }

    fn close(&mut self, opened_by: u8) {
        if self.levels.last().is_some_and(|level| level.opened_by == opened_by) {
            let depth = self.levels.pop().map_or(0, |level| level.depth()) + 1;
            let level = self.level();
            // A subscript applies to what is before it, a parenthesis is an operand.
            level.chain = if opened_by == b'[' { level.chain.max(depth) + 1 } else { level.chain.max(depth) };
        }
    }

    fn punctuation(&mut self, byte: u8) -> Result<(), PgError> {
        match byte {
            b'(' | b'[' => self.open(byte)?,
            b')' => self.close(b'('),
            b']' => self.close(b'['),
            b',' => self.next_item(),
            b':' => self.operator(),
            _ => {}
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), PgError> {
        const CHAINING: [&str; 12] =
            ["AND", "OR", "NOT", "IS", "IN", "LIKE", "ILIKE", "SIMILAR", "BETWEEN", "COLLATE", "AT", "JOIN"];
        if word.len() > 9 {
            return Ok(());
        }
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword);
        if is("CASE") {
            self.open(CASE)?;
        } else if is("END") {
            self.close(CASE);
        } else if is("WHEN") || is("THEN") || is("ELSE") {
            self.next_item();
        } else if is("UNION") || is("EXCEPT") || is("INTERSECT") {
            self.level().set_operations += 1;
        } else if CHAINING.into_iter().any(is) {
            self.operator();
        }
        Ok(())
    }

    fn finish(&mut self) -> u32 {
        while let Some(level) = self.levels.pop() {
            let depth = level.depth() + 1;
            let outer = self.level();
            outer.chain = outer.chain.max(depth);
        }
        self.outermost.depth()
    }
}

fn memchr(needle: u8, bytes: &[u8], from: usize) -> Option<usize> {
    bytes[from..].iter().position(|byte| *byte == needle).map(|index| from + index)
}

fn run(bytes: &[u8], from: usize, belongs: impl Fn(u8) -> bool) -> usize {
    from + bytes[from..].iter().take_while(|byte| belongs(**byte)).count()
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_word(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn is_operator(byte: u8) -> bool {
    matches!(
        byte,
        b'+' | b'-'
            | b'*'
            | b'/'
            | b'<'
            | b'>'
            | b'='
            | b'~'
            | b'!'
            | b'@'
            | b'#'
            | b'%'
            | b'^'
            | b'&'
            | b'|'
            | b'`'
            | b'?'
    )
}

/// The byte after a quoted string or identifier that starts at `from`; a doubled quote is two strings in a row to us.
fn string_end(bytes: &[u8], from: usize, backslash_escapes: bool) -> Option<usize> {
    let quote = bytes[from];
    let mut at = from + 1;
    loop {
        match *bytes.get(at)? {
            b'\\' if backslash_escapes => at += 2,
            byte if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// The byte after `$tag$ .. $tag$`, or after the `$` where no such string starts.
fn dollar_end(bytes: &[u8], from: usize) -> Option<usize> {
    let tag_end = run(bytes, from + 1, |byte| is_word_start(byte) || byte.is_ascii_digit());
    let starts_with_digit = bytes.get(from + 1).is_some_and(|byte| byte.is_ascii_digit());
    if starts_with_digit || bytes.get(tag_end) != Some(&b'$') {
        return Some(tag_end);
    }
    let tag = &bytes[from..=tag_end];
    let mut at = tag_end + 1;
    loop {
        at = memchr(b'$', bytes, at.min(bytes.len()))?;
        if bytes[at..].starts_with(tag) {
            return Some(at + tag.len());
        }
        at += 1;
    }
}

/// The byte after a comment that starts at `from`; comments nest.
fn comment_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = from;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        split(text).unwrap().into_iter().map(|piece| &text[piece.start..piece.end]).collect()
    }

    #[test]
    fn semicolons_inside_quotes_and_comments_do_not_split() {
        assert_eq!(
            texts("select ';' ; select \";\"; -- ;\n select /* ; /* ; */ */ 1"),
            ["select ';'", "select \";\"", "select /* ; /* ; */ */ 1"]
        );
        assert_eq!(texts("do $a$ ; $$ ; $a$; select E'\\';', $1; x"), ["do $a$ ; $$ ; $a$", "select E'\\';', $1", "x"]);
        assert_eq!(texts(" ;; /* */ ; "), Vec::<&str>::new());
        assert_eq!(texts("select 1--;\n+1"), ["select 1--;\n+1"]);
    }

    #[test]
    fn an_open_quote_points_at_its_start() {
        let error = split("select ä, 'abc").unwrap_err();
        assert_eq!(error.message, "unterminated quoted string at or near \"'abc\"");
        assert_eq!(error.position, Some(11));
        assert!(split("select \"abc").is_err() && split("select $$ abc").is_err() && split("/* /* */").is_err());
    }

    #[test]
    fn depth_follows_chains_not_lists() {
        let depth = |text: &str| split(text).unwrap()[0].depth;
        assert_eq!(depth("select 1 + 2 + 3"), 2);
        assert_eq!(depth(&format!("select {}", vec!["1"; 5000].join(","))), 0);
        assert!(split(&format!("select {}", vec!["1"; 2000].join("+"))).is_err());
        assert!(split(&format!("select {}", vec!["case when a then b end"; 2000].join("+"))).is_err());
        assert!(split(&format!("select {}", vec!["1,2"; 2000].join(" union select "))).is_err());
        assert!(split(&format!("select case {} end", "when a = 1 then 2 ".repeat(5000))).is_ok());
        assert!(split(&format!("select {}", "(".repeat(100_000))).is_err());
    }

    #[test]
    fn too_many_tokens_are_refused_before_they_are_made() {
        for (piece, after) in [("1,", "1"), (" ", "1"), ("\n", "1")] {
            let error = split(&format!("select {}{after}", piece.repeat(TOKEN_COUNT_MAX))).unwrap_err();
            assert_eq!(error.state, SqlState::PROGRAM_LIMIT_EXCEEDED);
        }
        assert!(split(&format!("select 1{};", " ".repeat(1_000))).is_ok());
    }

    #[test]
    fn any_bytes_split_without_a_panic() {
        let alphabet: Vec<char> = "a'\"$;-/*(){}[]\\eE1é\n:,+".chars().collect();
        let mut state = 7u64;
        for _ in 0..20_000 {
            let text: String = (0..12)
                .map(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    alphabet[(state >> 33) as usize % alphabet.len()]
                })
                .collect();
            if let Ok(pieces) = split(&text) {
                assert!(pieces.iter().all(|piece| text.get(piece.start..piece.end).is_some()), "{text}");
            }
        }
    }
}
