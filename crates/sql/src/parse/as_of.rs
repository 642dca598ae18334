//! `SELECT .. AS OF t`, which sqlparser would take for an alias called `of`.
//!
//! Where AS OF stands outside of parentheses and a moment follows it, which cannot follow an alias, the two words become one
//! that is reserved: the query ends before it, and the statement's parser goes on from there. A relation's own
//! `FOR SYSTEM_TIME AS OF` stays what it is.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::is_word;

/// The word in place of AS OF.
pub(super) const MARK: &str = "SETTINGS";

/// Words that a moment may begin with.
const MOMENTS: [&str; 7] = ["TIMESTAMP", "TIMESTAMPTZ", "NOW", "MZ_NOW", "CURRENT_TIMESTAMP", "CAST", "DATE"];

/// Marks AS OF in `tokens`.
pub(super) fn rewrite(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| is_word(&token.token, "OF")) {
        return tokens;
    }
    let mut depth = 0i32;
    // The last three tokens that are not white space.
    let (mut earlier, mut before, mut last) = (None, None, None);
    let mut marks = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth -= 1,
            moment => {
                if let (Some(first), Some(second)) = (before, last)
                    && depth == 0
                    && is_word(&tokens[first as usize].token, "AS")
                    && is_word(&tokens[second as usize].token, "OF")
                    && !earlier.is_some_and(|at: u32| is_word(&tokens[at as usize].token, "SYSTEM_TIME"))
                    && begins_moment(moment)
                {
                    marks.push((first as usize, second as usize));
                }
            }
        }
        (earlier, before, last) = (before, last, Some(index as u32));
    }
    for (first, second) in marks.into_iter().rev() {
        tokens[first].token = Token::make_word(MARK, None);
        tokens.remove(second);
    }
    tokens
}

fn begins_moment(token: &Token) -> bool {
    match token {
        Token::Number(..) | Token::SingleQuotedString(_) => true,
        word => MOMENTS.iter().any(|moment| is_word(word, moment)),
    }
}
