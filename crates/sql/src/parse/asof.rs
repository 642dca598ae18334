//! `ASOF [LEFT] JOIN r ON ..`, of which sqlparser knows only `ASOF JOIN r MATCH_CONDITION (..) ON ..`.
//!
//! What it does not know is put into the match condition: `tw_asof_left(..)` around it for LEFT, and `tw_asof()` where there is
//! none. Tokens are only added, or taken away, so those that stay keep their place.

use datafusion::common::JoinType;
use sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::{is_word, significant};

const INNER: &str = "tw_asof";
const LEFT: &str = "tw_asof_left";

/// Gives every ASOF join a match condition that sqlparser takes.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| is_word(&token.token, "ASOF")) {
        return tokens;
    }
    let mut rewritten: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len() + 8);
    // The joins whose condition has not come yet: how deep they stand, and by which mark.
    let mut open: Vec<(usize, &str)> = Vec::new();
    // Marks that are closed together with a parenthesis.
    let mut closings: Vec<usize> = Vec::new();
    let mut depth = 0usize;
    let mut index = 0;
    while index < tokens.len() {
        let TokenWithSpan { token, span } = &tokens[index];
        let push = |token: Token| TokenWithSpan { token, span: *span };
        let ends_here = open.last().is_some_and(|(at, _)| *at == depth);
        match token {
            word if is_word(word, "ASOF") => {
                let next = significant(&tokens, index + 1);
                let after = next.and_then(|next| significant(&tokens, next + 1));
                let is = |at: Option<usize>, word: &str| at.is_some_and(|at| is_word(&tokens[at].token, word));
                rewritten.push(tokens[index].clone());
                if is(next, "JOIN") {
                    open.push((depth, INNER));
                } else if is(next, "LEFT") && is(after, "JOIN") {
                    open.push((depth, LEFT));
                    index = next.unwrap_or(index);
                }
            }
            word if ends_here && is_word(word, "MATCH_CONDITION") => {
                rewritten.push(tokens[index].clone());
                let mark = open.pop().map_or(INNER, |(_, mark)| mark);
                let opening = significant(&tokens, index + 1).filter(|at| tokens[*at].token == Token::LParen);
                if let (LEFT, Some(opening)) = (mark, opening) {
                    rewritten.extend([Token::LParen, Token::make_word(LEFT, None)].map(push));
                    closings.push(depth);
                    // The condition's own parenthesis becomes the mark's.
                    rewritten.push(tokens[opening].clone());
                    depth += 1;
                    index = opening;
                }
            }
            word if ends_here && is_word(word, "ON") => {
                let mark = open.pop().map_or(INNER, |(_, mark)| mark);
                let condition = [
                    Token::make_word("MATCH_CONDITION", None),
                    Token::LParen,
                    Token::make_word(mark, None),
                    Token::LParen,
                    Token::RParen,
                    Token::RParen,
                ];
                rewritten.extend(condition.map(push));
                rewritten.push(tokens[index].clone());
            }
            token => {
                rewritten.push(tokens[index].clone());
                match token {
                    Token::LParen => depth += 1,
                    Token::RParen => {
                        depth = depth.saturating_sub(1);
                        open.retain(|(at, _)| *at <= depth);
                        if closings.last() == Some(&depth) {
                            closings.pop();
                            rewritten.push(push(Token::RParen));
                        }
                    }
                    _ => {}
                }
            }
        }
        index += 1;
    }
    rewritten
}

/// The kind of an ASOF join and its own match condition, from the one it was parsed with.
pub(crate) fn match_of(condition: &Expr) -> (JoinType, Option<&Expr>) {
    let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = condition else {
        return (JoinType::Inner, Some(condition));
    };
    let join_type = match name.to_string().as_str() {
        INNER => JoinType::Inner,
        LEFT => JoinType::Left,
        _ => return (JoinType::Inner, Some(condition)),
    };
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(inner))] => (join_type, Some(inner)),
        _ => (join_type, None),
    }
}
