//! `ROWS FROM (f(..), g(..))`, which sqlparser does not know: a call of a function of a name that nobody would choose.

use sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::is_word;

/// The name of the function, whose arguments are the calls.
pub(crate) const ROWS_FROM: &str = "rows from";

/// Words and signs that an item of FROM may follow.
const BEFORE: [&str; 3] = ["FROM", "JOIN", "LATERAL"];

/// Writes each ROWS FROM as a call.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| is_word(&token.token, "ROWS")) {
        return tokens;
    }
    let significant: Vec<usize> =
        (0..tokens.len()).filter(|index| !matches!(tokens[*index].token, Token::Whitespace(_))).collect();
    let token = |at: usize| significant.get(at).map(|index| &tokens[*index].token);
    let mut calls = Vec::new();
    for at in 1..significant.len() {
        let item_may_start = token(at - 1).is_some_and(|before| {
            matches!(before, Token::Comma | Token::LParen) || BEFORE.iter().any(|word| is_word(before, word))
        });
        let word = |at: usize, word: &str| token(at).is_some_and(|token| is_word(token, word));
        // A column called rows, before a FROM of its own, has no call right behind the parenthesis.
        let calls_follow = token(at + 2) == Some(&Token::LParen)
            && matches!(token(at + 3), Some(Token::Word(_)))
            && matches!(token(at + 4), Some(Token::LParen | Token::Period));
        if item_may_start && word(at, "ROWS") && word(at + 1, "FROM") && calls_follow {
            calls.push((significant[at], significant[at + 1]));
        }
    }
    let mut rewritten = tokens;
    for (rows, from) in calls.into_iter().rev() {
        let name = Word {
            value: ROWS_FROM.to_string(),
            quote_style: Some('"'),
            keyword: sqlparser::keywords::Keyword::NoKeyword,
        };
        rewritten[rows].token = Token::Word(name);
        rewritten.remove(from);
    }
    rewritten
}
