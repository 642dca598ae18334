//! `WATERMARK FOR column AS expression` in a column list, which sqlparser does not know.
//!
//! It becomes a named CHECK constraint that compares the column with the expression, so the column and the expression are parsed
//! as ever and keep their places.

use sqlparser::ast::{BinaryOperator, Expr, Ident, TableConstraint};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::{is_word, significant};

/// The constraint's name, which nobody else gives one.
const NAME: &str = "watermark\u{1}";

/// Writes each declaration out as a constraint.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| is_word(&token.token, "WATERMARK")) {
        return tokens;
    }
    let mut rewritten: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len() + 8);
    // How deep the token before is in parentheses, and where a declaration's expression is being copied, how deep that stands.
    let (mut depth, mut inside) = (0usize, None);
    let mut index = 0;
    while index < tokens.len() {
        let TokenWithSpan { token, span } = &tokens[index];
        let push = |token: Token| TokenWithSpan { token, span: *span };
        if let Some(column) = declared(&tokens, index, &rewritten) {
            let (constraint, check) = (Token::make_keyword("CONSTRAINT"), Token::make_keyword("CHECK"));
            rewritten.extend([constraint, Token::make_word(NAME, Some('"')), check, Token::LParen].map(push));
            rewritten.push(tokens[column.name].clone());
            rewritten.extend([Token::GtEq, Token::LParen].map(push));
            inside = Some(depth);
            index = column.end;
            continue;
        }
        match token {
            Token::RParen | Token::Comma if inside == Some(depth) => {
                rewritten.extend([Token::RParen, Token::RParen].map(push));
                inside = None;
            }
            _ => {}
        }
        match token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        rewritten.push(tokens[index].clone());
        index += 1;
    }
    rewritten
}

/// Where the column of a declaration stands, and where its expression begins.
struct Declared {
    name: usize,
    end: usize,
}

/// `WATERMARK FOR column AS` from `index` on, where an element of a list may start.
fn declared(tokens: &[TokenWithSpan], index: usize, before: &[TokenWithSpan]) -> Option<Declared> {
    let last = before.iter().rev().find(|token| !matches!(token.token, Token::Whitespace(_)))?;
    if !is_word(&tokens[index].token, "WATERMARK") || !matches!(last.token, Token::LParen | Token::Comma) {
        return None;
    }
    let for_word = significant(tokens, index + 1)?;
    let name = significant(tokens, for_word + 1)?;
    let as_word = significant(tokens, name + 1)?;
    let is_declared = is_word(&tokens[for_word].token, "FOR")
        && matches!(tokens[name].token, Token::Word(_))
        && is_word(&tokens[as_word].token, "AS");
    is_declared.then_some(Declared { name, end: as_word + 1 })
}

/// The column and the expression of a declaration; None for any other constraint.
pub(crate) fn declaration(constraint: &TableConstraint) -> Option<(&Ident, &Expr)> {
    let TableConstraint::Check(check) = constraint else { return None };
    if check.name.as_ref().is_none_or(|name| name.value != NAME) {
        return None;
    }
    match check.expr.as_ref() {
        Expr::BinaryOp { left, op: BinaryOperator::GtEq, right } => match (left.as_ref(), right.as_ref()) {
            (Expr::Identifier(column), Expr::Nested(expr)) => Some((column, expr)),
            _ => None,
        },
        _ => None,
    }
}
