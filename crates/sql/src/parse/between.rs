//! `BETWEEN SYMMETRIC low AND high`, which sqlparser does not know, as `BETWEEN` with a marked lower bound.
//!
//! `x BETWEEN SYMMETRIC a AND b` becomes `x BETWEEN tw_symmetric(a) AND b`. The bound ends at its AND: PostgreSQL's grammar has
//! none inside, but within parentheses, brackets or CASE.

use sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::is_word;

const MARK: &str = "tw_symmetric";

/// Marks the lower bounds of `BETWEEN SYMMETRIC` in `tokens`. What has no AND is left for the parser to refuse.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| is_word(&token.token, "SYMMETRIC")) {
        return tokens;
    }
    let mut rewritten: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len() + 2);
    let mut closings = Vec::new();
    let mut after_between = false;
    for (index, token) in tokens.iter().enumerate() {
        if closings.last() == Some(&index) {
            closings.pop();
            rewritten.push(TokenWithSpan { token: Token::RParen, span: token.span });
        }
        if after_between
            && is_word(&token.token, "SYMMETRIC")
            && let Some(end) = end_of_bound(&tokens, index + 1)
        {
            closings.push(end);
            rewritten.push(TokenWithSpan { token: Token::make_word(MARK, None), span: token.span });
            rewritten.push(TokenWithSpan { token: Token::LParen, span: token.span });
        } else {
            rewritten.push(token.clone());
        }
        if !matches!(token.token, Token::Whitespace(_)) {
            after_between = is_word(&token.token, "BETWEEN");
        }
    }
    rewritten
}

/// The AND that ends a bound that starts at `start`.
fn end_of_bound(tokens: &[TokenWithSpan], start: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(start) {
        match &token.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth = depth.checked_sub(1)?,
            word if is_word(word, "CASE") => depth += 1,
            word if is_word(word, "END") => depth = depth.checked_sub(1)?,
            word if depth == 0 && is_word(word, "AND") => return Some(index),
            _ => {}
        }
    }
    None
}

/// The lower bound of `BETWEEN SYMMETRIC`, if `low` is one that was marked.
pub(crate) fn symmetric(low: &Expr) -> Option<&Expr> {
    let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = low else { return None };
    match (list.args.as_slice(), name.to_string() == MARK) {
        ([FunctionArg::Unnamed(FunctionArgExpr::Expr(bound))], true) => Some(bound),
        _ => None,
    }
}
