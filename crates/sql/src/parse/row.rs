//! `ROW(a, b)`, which means the same as `(a, b)` and is read as a call: the word is left out.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::is_word;

/// Leaves out each ROW before a parenthesis.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| is_word(&token.token, "ROW")) {
        return tokens;
    }
    let mut before: Option<usize> = None;
    let mut left_out = vec![false; tokens.len()];
    for (index, token) in tokens.iter().enumerate() {
        if matches!(token.token, Token::Whitespace(_)) {
            continue;
        }
        if let (Token::LParen, Some(row)) = (&token.token, before) {
            left_out[row] = is_word(&tokens[row].token, "ROW");
        }
        before = Some(index);
    }
    tokens.into_iter().zip(left_out).filter(|(_, left_out)| !left_out).map(|(token, _)| token).collect()
}
