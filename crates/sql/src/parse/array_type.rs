//! `integer ARRAY`, which means the same as `integer[]` and is written so by some tools.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::{is_word, significant};

/// Writes each ARRAY that nothing is the array of, neither elements nor a query, as brackets.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| is_word(&token.token, "ARRAY")) {
        return tokens;
    }
    let constructs = |index: usize| {
        let next = significant(&tokens, index + 1).map(|next| &tokens[next].token);
        matches!(next, Some(Token::LBracket | Token::LParen))
    };
    let mut rewritten = Vec::with_capacity(tokens.len() + 1);
    for (index, token) in tokens.iter().enumerate() {
        match is_word(&token.token, "ARRAY") && !constructs(index) {
            true => rewritten
                .extend([Token::LBracket, Token::RBracket].map(|bracket| TokenWithSpan::new(bracket, token.span))),
            false => rewritten.push(token.clone()),
        }
    }
    rewritten
}
