//! `WITH MUTUALLY RECURSIVE [(.. RECURSION LIMIT n)] name (column type, ..) AS (..), ..`, which sqlparser does not know.
//!
//! It becomes WITH RECURSIVE with one more query before the others, whose name says what was said: sqlparser reads types among
//! the columns of any WITH query.

use sqlparser::ast::Cte;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::{is_word, significant};

/// What the name of the added query begins with, which nobody else's does.
const NAME: &str = "mutually recursive\u{1}";

/// When the iterations of WITH MUTUALLY RECURSIVE end at the latest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecursionLimit {
    /// The number, as it was written.
    pub(crate) count: String,
    /// RETURN AT rather than ERROR AT.
    pub(crate) returns: bool,
}

/// Adds the query that tells to each WITH MUTUALLY RECURSIVE.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| is_word(&token.token, "MUTUALLY")) {
        return tokens;
    }
    let mut rewritten: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len() + 8);
    let mut index = 0;
    while index < tokens.len() {
        rewritten.push(tokens[index].clone());
        if let Some(recursive) = introduced(&tokens, index) {
            let span = tokens[recursive].span;
            let push = |token: Token| TokenWithSpan { token, span };
            let (limit, end) = limit(&tokens, recursive + 1);
            let name = Token::make_word(&format!("{NAME}{limit}"), Some('"'));
            rewritten
                .extend([Token::make_keyword("RECURSIVE"), name, Token::make_keyword("AS"), Token::LParen].map(push));
            let query = [Token::make_keyword("VALUES"), Token::LParen, Token::Number("1".into(), false)];
            rewritten.extend(query.map(push));
            rewritten.extend([Token::RParen, Token::RParen, Token::Comma].map(push));
            index = end;
        } else {
            index += 1;
        }
    }
    rewritten
}

/// Where RECURSIVE stands, if `WITH MUTUALLY RECURSIVE` begins at `index`.
fn introduced(tokens: &[TokenWithSpan], index: usize) -> Option<usize> {
    let mutually = significant(tokens, index + 1)?;
    let recursive = significant(tokens, mutually + 1)?;
    let is = |at: usize, word: &str| is_word(&tokens[at].token, word);
    (is(index, "WITH") && is(mutually, "MUTUALLY") && is(recursive, "RECURSIVE")).then_some(recursive)
}

/// `([RETURN AT | ERROR AT] RECURSION LIMIT n)` at `start` in short, and where it ends; nothing and `start` if there is none.
fn limit(tokens: &[TokenWithSpan], start: usize) -> (String, usize) {
    let mut found: Vec<(usize, &Token)> = Vec::new();
    let mut next = start;
    while let Some(at) = significant(tokens, next).filter(|_| found.len() < 7) {
        found.push((at, &tokens[at].token));
        next = at + 1;
        if tokens[at].token == Token::RParen {
            break;
        }
    }
    let words = |from: usize, expected: &[&str]| {
        expected
            .iter()
            .enumerate()
            .all(|(index, word)| found.get(from + index).is_some_and(|(_, token)| is_word(token, word)))
    };
    let (mode, at) = match () {
        _ if words(1, &["RETURN", "AT", "RECURSION", "LIMIT"]) => ("return", 5),
        _ if words(1, &["ERROR", "AT", "RECURSION", "LIMIT"]) => ("error", 5),
        _ if words(1, &["RECURSION", "LIMIT"]) => ("error", 3),
        _ => return (String::new(), start),
    };
    match (found.first(), found.get(at), found.get(at + 1)) {
        (Some((_, Token::LParen)), Some((_, Token::Number(count, _))), Some((end, Token::RParen))) => {
            (format!("{mode} {count}"), end + 1)
        }
        _ => (String::new(), start),
    }
}

/// The queries of WITH MUTUALLY RECURSIVE and their limit; None for any other WITH.
pub(crate) fn of_ctes(ctes: &[Cte]) -> Option<(Option<RecursionLimit>, &[Cte])> {
    let (first, rest) = ctes.split_first()?;
    let limit = first.alias.name.value.strip_prefix(NAME)?;
    let limit = limit
        .split_once(' ')
        .map(|(mode, count)| RecursionLimit { count: count.to_string(), returns: mode == "return" });
    Some((limit, rest))
}
