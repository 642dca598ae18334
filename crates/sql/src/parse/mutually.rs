//! `WITH MUTUALLY RECURSIVE [(.. RECURSION LIMIT n)] name (column type, ..) AS (..), ..`, which sqlparser does not know.
//!
//! It becomes WITH RECURSIVE with one more query before the others, whose name says what was said: sqlparser reads types among
//! the columns of any WITH query.

use sqlparser::ast::Cte;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::{behind_words, is_word, significant};

/// What the name of the added query begins with, which nobody else's does.
const NAME: &str = "mutually recursive\u{1}";

/// What may be said of the limit, and what it means in short.
const FORMS: [(&str, &[&str]); 3] = [
    ("return", &["RETURN", "AT", "RECURSION", "LIMIT"]),
    ("error", &["ERROR", "AT", "RECURSION", "LIMIT"]),
    ("error", &["RECURSION", "LIMIT"]),
];

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
        if is_word(&tokens[index].token, "WITH")
            && let Some(start) = behind_words(&tokens, index + 1, &["MUTUALLY", "RECURSIVE"])
        {
            let span = tokens[start - 1].span;
            let push = |token: Token| TokenWithSpan { token, span };
            let (limit, end) = limit(&tokens, start).unwrap_or((String::new(), start));
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

/// `([RETURN AT | ERROR AT] RECURSION LIMIT n)` at `start` in short, and where it ends.
fn limit(tokens: &[TokenWithSpan], start: usize) -> Option<(String, usize)> {
    let next = |at: usize| significant(tokens, at).map(|index| (&tokens[index].token, index + 1));
    let (Token::LParen, words) = next(start)? else { return None };
    let (mode, number) = FORMS.iter().find_map(|(mode, form)| Some((mode, behind_words(tokens, words, form)?)))?;
    let (Token::Number(count, _), closing) = next(number)? else { return None };
    let (Token::RParen, end) = next(closing)? else { return None };
    Some((format!("{mode} {count}"), end))
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
