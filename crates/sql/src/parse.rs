//! Text to statements.
//!
//! ```text
//! text --split--> pieces --tokenize--> tokens --window, between, table--> tokens --StatementParser--> Ast
//! ```
//!
//! [`StatementParser`] reads the statements that are ours by recursive descent and calls sqlparser, on the same tokens,
//! for queries, expressions, types and the DML around them. Our [`dialect`] inside sqlparser is PostgreSQL's but for one answer;
//! it holds no grammar, because what a dialect forgets to forward changes behaviour without a word.
//!
//! Every token's span is rewritten to line 1 and the column that PostgreSQL's error position counts: the 1-based character
//! of the statement. Whoever holds an AST node can therefore point an error at `span().start.column`.

mod alter;
mod array_type;
mod as_of;
pub(crate) mod asof;
mod ast;
mod between;
mod comment;
mod dialect;
mod distance;
mod frame;
mod identity;
mod maintenance;
pub(crate) mod mutually;
mod notify;
mod role;
mod row;
mod rows_from;
mod source;
mod split;
mod statements;
mod table;
pub(crate) mod watermark;
mod window;

use std::ops::ControlFlow;

use repr::{PgError, SqlState};
use sqlparser::ast::{ObjectNamePart, Query, Spanned, visit_relations};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};

pub use alter::Alter;
pub(crate) use alter::{AlterAction, SequenceOptions};
pub use ast::*;
pub(crate) use between::symmetric;
pub use comment::Comment;
pub(crate) use comment::Commented;
pub(crate) use frame::excluded;
pub use maintenance::Maintenance;
pub use notify::NotifyStatement;
pub use role::{RoleName, RoleOption, RoleStatement};
pub(crate) use rows_from::ROWS_FROM;
pub(crate) use statements::boolean_option;

use dialect::TidewaterDialect;

/// How deep sqlparser may recurse. Its methods grow the stack as they need it, so this bounds memory, not the stack.
const RECURSION_MAX: usize = 300;

static DIALECT: TidewaterDialect = TidewaterDialect { versions: false };
/// For texts with `FOR SYSTEM_TIME`.
static DIALECT_WITH_VERSIONS: TidewaterDialect = TidewaterDialect { versions: true };

/// One statement of a text.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Its own source, without the semicolon.
    pub text: String,
    /// What it says.
    pub ast: Ast,
    /// How many characters of the whole text are before it: what to add to an error's position.
    pub offset: usize,
    /// An upper bound of the depth of its expressions.
    pub(crate) depth: u32,
}

/// The statements of `text`; none where it holds only white space and comments.
///
/// Errors: 42601 with PostgreSQL's position in the whole text; 54001 for a tree too deep, 54000 for too many tokens.
/// As in PostgreSQL an error anywhere in the text means that none of its statements runs.
pub fn parse(text: &str) -> Result<Vec<Statement>, PgError> {
    let mut statements = Vec::new();
    let (mut offset, mut counted) = (0, 0);
    for piece in split::split(text)? {
        offset += text[counted..piece.start].chars().count();
        counted = piece.start;
        let source = &text[piece.start..piece.end];
        let statement = StatementParser::new(source, piece.depth).and_then(StatementParser::parse_whole);
        let mut statement = statement.map_err(|error| shift(error, offset))?;
        statement.offset = offset;
        statements.push(statement);
    }
    Ok(statements)
}

/// The query that `text` is, as a view's definition holds it. Errors: 42601, positions in `text`.
pub fn parse_query(text: &str) -> Result<Query, PgError> {
    let depth = split::split(text)?.first().map_or(0, |piece| piece.depth);
    let mut parser = StatementParser::new(text, depth)?;
    let query = parser.query()?;
    parser.end()?;
    Ok(*query)
}

/// The expression that `text` is, as a DEFAULT or a CHECK is stored. Errors: 42601, positions in `text`.
pub(crate) fn parse_expr(text: &str) -> Result<sqlparser::ast::Expr, PgError> {
    let mut parser = StatementParser::new(text, 0)?;
    let expr = parser.sql(Parser::parse_expr)?;
    parser.end()?;
    Ok(expr)
}

/// Where `node` starts in its statement, as PostgreSQL's error position counts; None where sqlparser kept no span.
pub(crate) fn position(node: &impl Spanned) -> Option<u32> {
    Some(node.span().start.column as u32).filter(|column| *column > 0)
}

/// [`position`] of an identifier.
pub(crate) fn position_of(ident: &sqlparser::ast::Ident) -> Option<u32> {
    Some(ident.span.start.column as u32).filter(|column| *column > 0)
}

/// An identifier as PostgreSQL reads it: folded to lower case unless it was quoted.
pub(crate) fn fold(ident: &sqlparser::ast::Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// PostgreSQL's reserved words: no name of a relation unless quoted.
const RESERVED: [&str; 77] = [
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "current_catalog",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "intersect",
    "into",
    "lateral",
    "leading",
    "limit",
    "localtime",
    "localtimestamp",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "session_user",
    "some",
    "symmetric",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "when",
    "where",
    "window",
    "with",
];

fn is_reserved(ident: &sqlparser::ast::Ident) -> bool {
    is_reserved_word(ident.quote_style, &ident.value)
}

fn is_reserved_word(quote_style: Option<char>, word: &str) -> bool {
    quote_style.is_none() && RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(word))
}

fn shift(error: PgError, offset: usize) -> PgError {
    PgError { position: error.position.map(|position| position + offset as u32), ..error }
}

/// Whether `token` is the unquoted word `expected`.
fn is_word(token: &Token, expected: &str) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(expected))
}

/// The first token from `start` on that is not white space.
fn significant(tokens: &[TokenWithSpan], start: usize) -> Option<usize> {
    (start..tokens.len()).find(|index| !matches!(tokens[*index].token, Token::Whitespace(_)))
}

/// The first token behind `words`, if they are what stands from `start` on.
fn behind_words(tokens: &[TokenWithSpan], start: usize, words: &[&str]) -> Option<usize> {
    words.iter().try_fold(start, |at, word| {
        significant(tokens, at).filter(|index| is_word(&tokens[*index].token, word)).map(|index| index + 1)
    })
}

/// A cursor over the tokens of one statement.
pub(crate) struct StatementParser<'a> {
    text: &'a str,
    depth: u32,
    /// How many statements this one is inside of: EXPLAIN DECLARE c CURSOR FOR SELECT is the deepest there is.
    inside: u32,
    parser: Parser<'a>,
}

/// What sqlparser does not know, put into words that it does, in this order.
const REWRITES: [fn(Vec<TokenWithSpan>) -> Vec<TokenWithSpan>; 13] = [
    window::rewrite,
    between::rewrite,
    table::rewrite,
    frame::rewrite,
    rows_from::rewrite,
    row::rewrite,
    asof::rewrite,
    as_of::rewrite,
    watermark::rewrite,
    mutually::rewrite,
    identity::rewrite,
    distance::rewrite,
    array_type::rewrite,
];

/// sqlparser over some tokens.
fn parser_of(dialect: &dyn sqlparser::dialect::Dialect, tokens: Vec<TokenWithSpan>) -> Parser<'_> {
    Parser::new(dialect).with_recursion_limit(RECURSION_MAX).with_tokens_with_locations(tokens)
}

impl<'a> StatementParser<'a> {
    fn new(text: &'a str, depth: u32) -> Result<StatementParser<'a>, PgError> {
        let tokens = REWRITES.iter().fold(tokenize(text)?, |tokens, rewrite| rewrite(tokens));
        let has_versions = tokens.iter().any(|token| is_word(&token.token, "SYSTEM_TIME"));
        let dialect = if has_versions { &DIALECT_WITH_VERSIONS } else { &DIALECT };
        Ok(StatementParser { text, depth, inside: 0, parser: parser_of(dialect, tokens) })
    }

    fn parse_whole(mut self) -> Result<Statement, PgError> {
        let ast = self.statement()?;
        self.end()?;
        Ok(Statement { text: self.text.to_string(), ast, offset: 0, depth: self.depth })
    }

    /// The statement that starts here and goes on to the end, with its own text: what EXPLAIN and PREPARE hold.
    fn inner_statement(&mut self) -> Result<Box<Statement>, PgError> {
        const INSIDE_MAX: u32 = 2;
        if self.inside == INSIDE_MAX {
            return Err(self.syntax_error());
        }
        let start = self.peek().span.start.column as usize;
        let text = self.text_from(start);
        self.inside += 1;
        let ast = self.statement()?;
        self.inside -= 1;
        Ok(Box::new(Statement { text: text.to_string(), ast, offset: start.saturating_sub(1), depth: self.depth }))
    }

    /// The statement's text from the character `position` (1-based) on.
    fn text_from(&self, position: usize) -> &'a str {
        let start = self.text.char_indices().nth(position.saturating_sub(1)).map_or(self.text.len(), |(at, _)| at);
        &self.text[start..]
    }

    /// Runs one of sqlparser's own parsers here.
    fn sql<T>(&mut self, parse: impl FnOnce(&mut Parser<'a>) -> Result<T, ParserError>) -> Result<T, PgError> {
        parse(&mut self.parser).map_err(|error| self.translate(error))
    }

    fn query(&mut self) -> Result<Box<Query>, PgError> {
        let query = self.sql(Parser::parse_query)?;
        // sqlparser takes any word for a relation: SELECT FROM WHERE has one.
        let reserved = visit_relations(&*query, |name| match name.0.first().and_then(ObjectNamePart::as_ident) {
            Some(ident) if is_reserved(ident) => ControlFlow::Break(ident.span.start.column as u32),
            _ => ControlFlow::Continue(()),
        });
        match reserved {
            ControlFlow::Break(position) => Err(self.syntax_error_at(position)),
            ControlFlow::Continue(()) => Ok(query),
        }
    }

    /// sqlparser's complaint in PostgreSQL's words: it ends in the place, which leads to the token.
    fn translate(&self, error: ParserError) -> PgError {
        let message = match error {
            ParserError::RecursionLimitExceeded => {
                return PgError::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded");
            }
            ParserError::ParserError(message) | ParserError::TokenizerError(message) => message,
        };
        let column = message.rsplit_once(" at Line: ").and_then(|(_, place)| place.rsplit_once("Column: "));
        if let Some(position) = column.and_then(|(_, column)| column.trim().parse::<u32>().ok()) {
            return self.syntax_error_at(position);
        }
        if message.ends_with("found: EOF") {
            return self.syntax_error_at(self.text.chars().count() as u32 + 1);
        }
        let mut characters = message.chars();
        let first: String = characters.next().into_iter().flat_map(char::to_lowercase).collect();
        PgError::new(SqlState::SYNTAX_ERROR, format!("syntax error: {first}{}", characters.as_str()))
    }

    fn syntax_error_at(&self, position: u32) -> PgError {
        let rest = self.text_from(position as usize);
        let message = match first_token(rest) {
            "" => "syntax error at end of input".to_string(),
            token => format!("syntax error at or near \"{token}\""),
        };
        PgError::new(SqlState::SYNTAX_ERROR, message).at(position)
    }

    /// A syntax error at the next token.
    fn syntax_error(&self) -> PgError {
        match self.peek().span.start.column {
            0 => self.syntax_error_at(self.text.chars().count() as u32 + 1),
            column => self.syntax_error_at(column as u32),
        }
    }

    fn peek(&self) -> &TokenWithSpan {
        self.parser.peek_token_ref()
    }

    /// Whether the `index`-th token from here is the unquoted word `expected` (upper case).
    fn is_word(&self, index: usize, expected: &str) -> bool {
        match &self.parser.peek_nth_token_ref(index).token {
            Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case(expected),
            _ => false,
        }
    }

    fn is_words(&self, expected: &[&str]) -> bool {
        expected.iter().enumerate().all(|(index, word)| self.is_word(index, word))
    }

    /// Goes past `expected` if all of these words come next.
    fn accept(&mut self, expected: &[&str]) -> bool {
        let found = self.is_words(expected);
        if found {
            expected.iter().for_each(|_| self.parser.advance_token());
        }
        found
    }

    fn expect(&mut self, expected: &[&str]) -> Result<(), PgError> {
        for word in expected {
            if !self.accept(&[word]) {
                return Err(self.syntax_error());
            }
        }
        Ok(())
    }

    fn is_token(&self, expected: &Token) -> bool {
        self.peek().token == *expected
    }

    fn accept_token(&mut self, expected: &Token) -> bool {
        let found = self.is_token(expected);
        if found {
            self.parser.advance_token();
        }
        found
    }

    fn expect_token(&mut self, expected: &Token) -> Result<(), PgError> {
        if self.accept_token(expected) { Ok(()) } else { Err(self.syntax_error()) }
    }

    fn at_end(&self) -> bool {
        self.is_token(&Token::EOF)
    }

    fn end(&mut self) -> Result<(), PgError> {
        if self.at_end() { Ok(()) } else { Err(self.syntax_error()) }
    }

    /// An identifier, folded.
    fn identifier(&mut self) -> Result<String, PgError> {
        match &self.peek().token {
            Token::Word(_) => Ok(fold(&self.sql(Parser::parse_identifier)?)),
            _ => Err(self.syntax_error()),
        }
    }

    /// `name` or `schema.name`.
    fn name(&mut self) -> Result<Name, PgError> {
        if matches!(&self.peek().token, Token::Word(word) if is_reserved_word(word.quote_style, &word.value)) {
            return Err(self.syntax_error());
        }
        let position = self.peek().span.start.column as u32;
        let mut parts = vec![self.identifier()?];
        while self.accept_token(&Token::Period) {
            parts.push(self.identifier()?);
        }
        let name = parts.pop().unwrap_or_default();
        let schema = parts.pop();
        if parts.len() > 1 {
            return Err(
                PgError::new(SqlState::SYNTAX_ERROR, "improper qualified name (too many dotted names)").at(position)
            );
        }
        Ok(Name { schema, name, position })
    }

    /// One or more of `item`, separated by commas.
    fn comma_separated<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, PgError>) -> Result<Vec<T>, PgError> {
        let mut items = vec![item(self)?];
        while self.accept_token(&Token::Comma) {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn if_not_exists(&mut self) -> bool {
        self.accept(&["IF", "NOT", "EXISTS"])
    }

    fn string(&mut self) -> Result<String, PgError> {
        // sqlparser takes a word for one too.
        if matches!(self.peek().token, Token::Word(_)) {
            return Err(self.syntax_error());
        }
        self.sql(Parser::parse_literal_string)
    }
}

/// The name that `name` is. Errors: 42601 for more than a catalog, a schema and a name.
pub(crate) fn object_name(name: &sqlparser::ast::ObjectName) -> Result<Name, PgError> {
    let position = position(name).unwrap_or(1);
    let mut parts = Vec::new();
    for part in &name.0 {
        let ident = part.as_ident().ok_or_else(|| {
            PgError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{name}\"")).at(position)
        })?;
        if is_reserved(ident) {
            let message = format!("syntax error at or near \"{}\"", ident.value);
            return Err(PgError::new(SqlState::SYNTAX_ERROR, message).at(position));
        }
        parts.push(fold(ident));
    }
    let (name, schema) = (parts.pop().unwrap_or_default(), parts.pop());
    if parts.len() > 1 {
        return Err(
            PgError::new(SqlState::SYNTAX_ERROR, "improper qualified name (too many dotted names)").at(position)
        );
    }
    Ok(Name { schema, name, position })
}

fn tokenize(text: &str) -> Result<Vec<TokenWithSpan>, PgError> {
    let lines: Vec<u64> = line_starts(text);
    let flat = |location: Location| Location {
        line: 1,
        column: lines
            .get((location.line as usize).wrapping_sub(1))
            .map_or(location.column, |start| start + location.column),
    };
    let mut tokens = Vec::new();
    let tokenized = Tokenizer::new(&DIALECT, text).tokenize_with_location_into_buf_with_mapper(&mut tokens, |token| {
        TokenWithSpan { token: token.token, span: Span { start: flat(token.span.start), end: flat(token.span.end) } }
    });
    tokenized.map_err(|error| {
        let position = flat(error.location).column as u32;
        let message = format!("syntax error: {}", error.message);
        PgError::new(SqlState::SYNTAX_ERROR, message).at(position)
    })?;
    Ok(tokens)
}

/// How many characters are before each line, as the tokenizer counts lines.
fn line_starts(text: &str) -> Vec<u64> {
    let mut starts = vec![0];
    let mut count = 0;
    for character in text.chars() {
        count += 1;
        if character == '\n' {
            starts.push(count);
        }
    }
    starts
}

/// The source of the token that `text` starts with, for a message; a long string is cut.
fn first_token(text: &str) -> &str {
    let mut characters = text.char_indices();
    let Some((_, first)) = characters.next() else { return "" };
    let is_word = |character: char| character.is_alphanumeric() || character == '_' || character == '$';
    let end = match first {
        quote @ ('\'' | '"') => characters.find(|(_, character)| *character == quote).map(|(at, _)| at + 1),
        first if is_word(first) => characters.find(|(_, character)| !is_word(*character)).map(|(at, _)| at),
        first => Some(first.len_utf8()),
    };
    let end = end.unwrap_or(text.len());
    let cut = text.char_indices().nth(80).map_or(text.len(), |(at, _)| at);
    &text[..end.min(cut)]
}

#[cfg(test)]
mod tests;
