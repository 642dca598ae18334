//! `AS IDENTITY (options)`, whose options sqlparser reads in one order only: they are put into it.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::{is_word, significant};

/// The words that options start with, in sqlparser's order.
const ORDER: [&str; 6] = ["INCREMENT", "MINVALUE", "MAXVALUE", "START", "CACHE", "CYCLE"];

/// Orders the options behind each IDENTITY.
pub(super) fn rewrite(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let identities: Vec<usize> = (0..tokens.len()).filter(|index| is_word(&tokens[*index].token, "IDENTITY")).collect();
    for identity in identities {
        let Some(open) = significant(&tokens, identity + 1) else { continue };
        if tokens[open].token != Token::LParen {
            continue;
        }
        let Some(length) = tokens[open..].iter().position(|token| token.token == Token::RParen) else { continue };
        let options = ordered(&tokens[open + 1..open + length]);
        tokens.splice(open + 1..open + length, options);
    }
    tokens
}

fn ordered(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let rank = |token: &Token| ORDER.iter().position(|word| is_word(token, word));
    let mut options: Vec<(usize, Vec<TokenWithSpan>)> = Vec::new();
    let mut before_is_no = false;
    for token in tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))) {
        let no = is_word(&token.token, "NO");
        match (rank(&token.token), options.last_mut()) {
            // NO goes with the word behind it.
            (Some(rank), Some(last)) if before_is_no => {
                last.0 = rank;
                last.1.push(token.clone());
            }
            (Some(rank), _) => options.push((rank, vec![token.clone()])),
            (None, _) if no => options.push((ORDER.len(), vec![token.clone()])),
            (None, Some(last)) => last.1.push(token.clone()),
            (None, None) => options.push((0, vec![token.clone()])),
        }
        before_is_no = no;
    }
    options.sort_by_key(|(rank, _)| *rank);
    options.into_iter().flat_map(|(_, tokens)| tokens).collect()
}
