//! What sqlparser does not know of a window's frame: EXCLUDE at its end, and offsets that begin with a string.
//!
//! `RANGE BETWEEN '1'::interval PRECEDING AND ..` becomes `RANGE BETWEEN ('1'::interval) PRECEDING AND ..`, and
//! `OVER (w ORDER BY x ROWS .. EXCLUDE TIES)` becomes `OVER ("exclude ties of w" ORDER BY x ROWS ..)`: the window that is
//! built on carries the mark, as a name that nobody would choose.

use sqlparser::ast;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::{behind_words, is_word, significant};

const MARK: &str = "\u{1}exclude ";

/// The forms of EXCLUDE, and the words after it.
const FORMS: [(&str, &[&str]); 4] = [
    ("current row", &["CURRENT", "ROW"]),
    ("group", &["GROUP"]),
    ("ties", &["TIES"]),
    ("no others", &["NO", "OTHERS"]),
];

/// Marks each window whose frame has an EXCLUDE, and puts parentheses around offsets that begin with a string.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    exclusions(offsets(tokens))
}

fn offsets(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| is_end(&token.token)) {
        return tokens;
    }
    let mut rewritten = Vec::with_capacity(tokens.len() + 4);
    let (mut offset_may_start, mut closing) = (false, None);
    for (index, token) in tokens.iter().enumerate() {
        let sign = |sign: Token| TokenWithSpan { token: sign, span: token.span };
        if closing == Some(index) {
            rewritten.push(sign(Token::RParen));
        }
        if offset_may_start && matches!(token.token, Token::SingleQuotedString(_)) {
            closing = end_of_offset(&tokens, index);
            if closing.is_some() {
                rewritten.push(sign(Token::LParen));
            }
        }
        rewritten.push(token.clone());
        if !matches!(token.token, Token::Whitespace(_)) {
            let before = ["BETWEEN", "AND", "RANGE", "ROWS", "GROUPS"];
            offset_may_start = before.iter().any(|word| is_word(&token.token, word));
        }
    }
    rewritten
}

fn is_end(token: &Token) -> bool {
    is_word(token, "PRECEDING") || is_word(token, "FOLLOWING")
}

/// The word that ends an offset that starts at `start`.
fn end_of_offset(tokens: &[TokenWithSpan], start: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(start) {
        match &token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.checked_sub(1)?,
            word if depth == 0 && is_end(word) => return Some(index),
            word if depth == 0 && is_word(word, "AND") => return None,
            _ => {}
        }
    }
    None
}

fn exclusions(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| is_word(&token.token, "EXCLUDE")) {
        return tokens;
    }
    let mut rewritten: Vec<TokenWithSpan> = tokens;
    let mut at = 0;
    while at < rewritten.len() {
        if is_word(&rewritten[at].token, "EXCLUDE")
            && let Some((form, end)) = form_at(&rewritten, at + 1)
            && let Some(open) = opening(&rewritten, at)
        {
            let base = significant(&rewritten, open + 1).filter(
                |index| matches!(&rewritten[*index].token, Token::Word(word) if word.keyword == Keyword::NoKeyword),
            );
            let name = base.map_or(String::new(), |index| match &rewritten[index].token {
                Token::Word(word) if word.quote_style.is_none() => word.value.to_lowercase(),
                Token::Word(word) => word.value.clone(),
                _ => String::new(),
            });
            let span = rewritten[at].span;
            rewritten.drain(at..end);
            let mark =
                Word { value: format!("{MARK}{form} of {name}"), quote_style: Some('"'), keyword: Keyword::NoKeyword };
            let mark = TokenWithSpan { token: Token::Word(mark), span };
            match base {
                Some(index) => rewritten[index] = mark,
                None => rewritten.insert(open + 1, mark),
            }
        }
        at += 1;
    }
    rewritten
}

/// The form whose words stand at `from`, before the parenthesis that ends the window, and that parenthesis.
fn form_at(tokens: &[TokenWithSpan], from: usize) -> Option<(&'static str, usize)> {
    FORMS.iter().find_map(|(form, words)| {
        let end = significant(tokens, behind_words(tokens, from, words)?)
            .filter(|index| tokens[*index].token == Token::RParen)?;
        Some((*form, end))
    })
}

/// The parenthesis that is open at `at`.
fn opening(tokens: &[TokenWithSpan], at: usize) -> Option<usize> {
    let mut depth = 0usize;
    for index in (0..at).rev() {
        match tokens[index].token {
            Token::RParen => depth += 1,
            Token::LParen if depth == 0 => return Some(index),
            Token::LParen => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The window that a specification builds on, as it was written, and what its frame excludes.
pub(crate) fn excluded(spec: &ast::WindowSpec) -> (Option<ast::Ident>, Option<String>) {
    let Some(name) = &spec.window_name else { return (None, None) };
    let Some((form, base)) = name.value.strip_prefix(MARK).and_then(|mark| mark.split_once(" of ")) else {
        return (Some(name.clone()), None);
    };
    let base = (!base.is_empty()).then(|| ast::Ident { value: base.to_string(), ..name.clone() });
    (base, Some(form.to_string()))
}
