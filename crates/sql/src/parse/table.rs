//! `TABLE t`, PostgreSQL's short form of `SELECT * FROM t`, which sqlparser reads as far as the first clause after it.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::is_word;

/// Words that a query may follow.
const BEFORE: [&str; 7] = ["AS", "UNION", "EXCEPT", "INTERSECT", "ALL", "DISTINCT", "EXPLAIN"];
/// Words that a query in parentheses may follow. An option list may begin with TABLE too: `NEXMARK (TABLE bid)`.
const BEFORE_PARENTHESIS: [&str; 11] =
    ["AS", "FROM", "JOIN", "LATERAL", "IN", "EXISTS", "ANY", "SOME", "COPY", "UNION", "ALL"];

/// Writes out each `TABLE t` that stands where a query can start.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| is_word(&token.token, "TABLE")) {
        return tokens;
    }
    let mut rewritten = Vec::with_capacity(tokens.len());
    let (mut query_may_start, mut parenthesis_may_hold_query) = (true, true);
    for (index, token) in tokens.iter().enumerate() {
        if query_may_start && is_word(&token.token, "TABLE") && names_a_relation(&tokens[index + 1..]) {
            let with = |token_written: Token| TokenWithSpan { token: token_written, span: token.span };
            rewritten.extend([
                with(Token::make_keyword("SELECT")),
                with(Token::Mul),
                with(Token::make_keyword("FROM")),
            ]);
        } else {
            rewritten.push(token.clone());
        }
        match &token.token {
            Token::Whitespace(_) => {}
            Token::LParen => query_may_start = parenthesis_may_hold_query,
            word => {
                query_may_start = BEFORE.iter().any(|before| is_word(word, before));
                parenthesis_may_hold_query = BEFORE_PARENTHESIS.iter().any(|before| is_word(word, before));
            }
        }
    }
    rewritten
}

/// Whether a name comes next, and not the call that `FROM TABLE(f(..))` has.
fn names_a_relation(rest: &[TokenWithSpan]) -> bool {
    let next = rest.iter().find(|token| !matches!(token.token, Token::Whitespace(_)));
    next.is_some_and(|token| matches!(token.token, Token::Word(_)))
}
