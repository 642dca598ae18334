//! `COMMENT ON .. IS ..`.

use repr::PgError;

use super::{Ast, Kind, Name, StatementParser};

/// COMMENT.
#[derive(Clone, Debug)]
pub struct Comment {
    pub(crate) on: Commented,
    /// None is NULL: the comment goes.
    pub(crate) text: Option<String>,
}

/// What a comment is about.
#[derive(Clone, Debug)]
pub(crate) enum Commented {
    Object(Kind, Name),
    Column(Name, String),
    Constraint(String, Name),
    /// The database: it exists as a name only, so the comment is not kept.
    Database,
}

impl StatementParser<'_> {
    /// After `COMMENT`. None for a kind of object we do not have.
    pub(super) fn comment(&mut self) -> Result<Option<Ast>, PgError> {
        self.expect(&["ON"])?;
        let on = if self.accept(&["COLUMN"]) {
            let position = self.peek().span.start.column as u32;
            let mut parts = vec![self.identifier()?];
            while self.accept_token(&sqlparser::tokenizer::Token::Period) {
                parts.push(self.identifier()?);
            }
            let column = parts.pop().unwrap_or_default();
            let name = parts.pop().ok_or_else(|| {
                PgError::new(repr::SqlState::SYNTAX_ERROR, "column name must be qualified").at(position)
            })?;
            Commented::Column(Name { schema: parts.pop(), name, position }, column)
        } else if self.accept(&["CONSTRAINT"]) {
            let name = self.identifier()?;
            self.expect(&["ON"])?;
            Commented::Constraint(name, self.name()?)
        } else if self.accept(&["DATABASE"]) {
            self.identifier()?;
            Commented::Database
        } else {
            let foreign = self.is_word(0, "FOREIGN") && self.is_word(1, "TABLE");
            if foreign {
                self.accept(&["FOREIGN"]);
            }
            match self.kind(false) {
                Some(kind) => Commented::Object(if foreign { Kind::Source } else { kind }, self.name()?),
                None => return Ok(None),
            }
        };
        self.expect(&["IS"])?;
        let text = if self.accept(&["NULL"]) { None } else { Some(self.string()?) };
        Ok(Some(Ast::Comment(Comment { on, text: text.filter(|text| !text.is_empty()) })))
    }
}
