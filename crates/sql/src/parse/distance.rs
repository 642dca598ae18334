//! The distance operators of vectors, `<->`, `<=>`, `<#>` and `<+>`, as PostgreSQL reads them: operators like any other.
//!
//! sqlparser has tokens of their own for two of them, one with the precedence of a comparison, and takes `<+>` apart.

use sqlparser::tokenizer::{Token, TokenWithSpan};

/// Makes each an operator of PostgreSQL's that has no name in sqlparser.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut rewritten: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for mut token in tokens {
        match token.token {
            Token::Spaceship => token.token = Token::CustomBinaryOperator("<=>".to_string()),
            Token::TwoWayArrow => token.token = Token::CustomBinaryOperator("<->".to_string()),
            Token::Gt => {
                if let [.., less, plus] = &rewritten[..]
                    && less.token == Token::Lt
                    && plus.token == Token::Plus
                    && less.span.end == plus.span.start
                    && plus.span.end == token.span.start
                {
                    token.token = Token::CustomBinaryOperator("<+>".to_string());
                    token.span.start = less.span.start;
                    rewritten.truncate(rewritten.len() - 2);
                }
            }
            _ => {}
        }
        rewritten.push(token);
    }
    rewritten
}
