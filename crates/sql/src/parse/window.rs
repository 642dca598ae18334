//! The SQL standard's way of calling a window table function, rewritten to the plain call before parsing.
//!
//! `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), size))` becomes `TUMBLE(t, ts, size)`: sqlparser knows neither `TABLE t` as an
//! argument nor DESCRIPTOR as anything but a function. Tokens are only taken away, so those that stay keep their place.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::is_word;

/// The functions that may be called this way.
const FUNCTIONS: [&str; 4] = ["TUMBLE", "HOP", "CUMULATE", "SESSION"];

/// Takes the standard's decoration of [`FUNCTIONS`] out of `tokens`.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is_window = |token: &TokenWithSpan| FUNCTIONS.iter().any(|function| is_word(&token.token, function));
    if !tokens.iter().any(is_window) {
        return tokens;
    }
    // Indexes of what is not white space, so that neighbours are neighbours.
    let significant: Vec<usize> =
        (0..tokens.len()).filter(|index| !matches!(tokens[*index].token, Token::Whitespace(_))).collect();
    let token = |at: usize| significant.get(at).map(|index| &tokens[*index].token);
    let closings = closings(significant.len(), &token);
    let mut removed = vec![false; tokens.len()];
    let mut remove = |at: usize| removed[significant[at]] = true;

    for at in 0..significant.len() {
        if !is_window(&tokens[significant[at]]) || token(at + 1) != Some(&Token::LParen) {
            continue;
        }
        let Some(end) = closings[at + 1] else { continue };
        let wrapped = at >= 2
            && token(at - 1) == Some(&Token::LParen)
            && token(at - 2).is_some_and(|token| is_word(token, "TABLE"))
            && closings[at - 1] == Some(end + 1);
        if wrapped {
            remove(at - 2);
            remove(at - 1);
            remove(end + 1);
        }
        let mut argument = at + 2;
        while argument < end {
            match (token(argument), token(argument + 1)) {
                (Some(word), Some(Token::Word(_))) if is_word(word, "TABLE") => remove(argument),
                (Some(word), Some(Token::LParen)) if is_word(word, "DESCRIPTOR") => {
                    if let Some(close) = closings[argument + 1] {
                        remove(argument);
                        remove(argument + 1);
                        remove(close);
                    }
                }
                _ => {}
            }
            argument = closings[argument].unwrap_or(argument) + 1;
        }
    }
    tokens.into_iter().zip(removed).filter(|(_, removed)| !removed).map(|(token, _)| token).collect()
}

/// For each opening parenthesis where its closing one stands.
fn closings<'a>(len: usize, token: &dyn Fn(usize) -> Option<&'a Token>) -> Vec<Option<usize>> {
    let mut closings = vec![None; len];
    let mut open = Vec::new();
    for at in 0..len {
        match token(at) {
            Some(Token::LParen) => open.push(at),
            Some(Token::RParen) => {
                if let Some(start) = open.pop() {
                    closings[start] = Some(at);
                }
            }
            _ => {}
        }
    }
    closings
}
