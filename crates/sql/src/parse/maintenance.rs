//! VACUUM, ANALYZE, CREATE EXTENSION and their kin: what PostgreSQL needs to be told to do and Tidewater does by itself.

use repr::{PgError, SqlState};
use sqlparser::tokenizer::Token;

use super::{Ast, Kind, Name, StatementParser};

/// Extensions of PostgreSQL's whose types and functions are there without being asked for.
const BUILT_IN_EXTENSIONS: [&str; 2] = ["plpgsql", "vector"];

/// A statement that has nothing to do here.
#[derive(Clone, Debug)]
pub struct Maintenance {
    /// Its command tag.
    pub(crate) tag: &'static str,
    /// The relations it names, which must be there.
    pub(crate) relations: Vec<Name>,
    /// The kind they must be of.
    pub(crate) kind: Option<Kind>,
    /// LOCK TABLE: who writes them before this transaction commits makes it fail.
    pub(crate) locks: bool,
}

impl StatementParser<'_> {
    /// Such a statement, if one starts here.
    pub(super) fn maintenance(&mut self) -> Result<Option<Ast>, PgError> {
        if self.accept(&["CREATE", "EXTENSION"]) {
            return self.create_extension().map(Some);
        }
        let tag = match () {
            () if self.accept(&["VACUUM"]) => "VACUUM",
            () if self.accept(&["ANALYZE"]) || self.accept(&["ANALYSE"]) => "ANALYZE",
            () if self.accept(&["CLUSTER"]) => "CLUSTER",
            () if self.accept(&["REFRESH", "MATERIALIZED", "VIEW"]) => "REFRESH MATERIALIZED VIEW",
            () if self.accept(&["LOCK"]) => "LOCK TABLE",
            () => return Ok(None),
        };
        self.options_in_parentheses();
        for word in ["FULL", "FREEZE", "VERBOSE", "ANALYZE", "CONCURRENTLY", "TABLE"] {
            self.accept(&[word]);
        }
        let mut relations = Vec::new();
        while !self.at_end() && !self.is_token(&Token::SemiColon) && !self.is_word(0, "IN") && !self.is_word(0, "WITH")
        {
            self.accept(&["ONLY"]);
            relations.push(self.name()?);
            self.options_in_parentheses();
            if !self.accept_token(&Token::Comma) {
                break;
            }
        }
        // How strictly: there are no locks to choose from. WITH DATA: a view always has its data.
        if self.accept(&["IN"]) {
            while !self.at_end() {
                self.parser.advance_token();
            }
        }
        let _ = self.accept(&["WITH", "DATA"]) || self.accept(&["NOWAIT"]) || self.accept(&["USING"]);
        let kind = (tag == "REFRESH MATERIALIZED VIEW").then_some(Kind::MaterializedView);
        Ok(Some(Ast::Maintenance(Maintenance { tag, relations, kind, locks: tag == "LOCK TABLE" })))
    }

    /// The rest of `CREATE EXTENSION`: what it names is built in, or cannot be had. Error `0A000`.
    fn create_extension(&mut self) -> Result<Ast, PgError> {
        self.accept(&["IF", "NOT", "EXISTS"]);
        let name = self.name()?;
        self.accept(&["WITH"]);
        for option in ["SCHEMA", "VERSION"] {
            if self.accept(&[option]) {
                self.parser.advance_token();
            }
        }
        self.accept(&["CASCADE"]);
        if name.schema.is_some() || !BUILT_IN_EXTENSIONS.contains(&name.name.as_str()) {
            let message = format!("extension \"{}\" is not available", name.name);
            return Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
                .with_detail(format!("What there is is built in: {}.", BUILT_IN_EXTENSIONS.join(", "))));
        }
        Ok(Ast::Maintenance(Maintenance { tag: "CREATE EXTENSION", relations: Vec::new(), kind: None, locks: false }))
    }

    /// Goes past `( .. )`.
    fn options_in_parentheses(&mut self) {
        if self.accept_token(&Token::LParen) {
            while !self.at_end() && !self.accept_token(&Token::RParen) {
                self.parser.advance_token();
            }
        }
    }
}
