//! `ALTER kind name action, ..`: sqlparser's own keeps too little of PostgreSQL's actions.

use repr::PgError;
use sqlparser::ast;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::{Ast, Kind, Name, Options, StatementParser};

/// ALTER of one object.
#[derive(Clone, Debug)]
pub struct Alter {
    pub(crate) kind: Kind,
    pub(crate) name: Name,
    pub(crate) if_exists: bool,
    pub(crate) actions: Vec<AlterAction>,
}

/// What ALTER does.
#[derive(Clone, Debug)]
pub(crate) enum AlterAction {
    AddColumn {
        column: Box<ast::ColumnDef>,
        if_not_exists: bool,
    },
    DropColumn {
        name: String,
        if_exists: bool,
        cascade: bool,
    },
    /// ALTER COLUMN .. TYPE.
    Type {
        column: String,
        definition: Box<ast::ColumnDef>,
        using: Option<Box<ast::Expr>>,
    },
    /// SET DEFAULT and, without an expression, DROP DEFAULT.
    Default {
        column: String,
        default: Option<Box<ast::Expr>>,
    },
    NotNull {
        column: String,
        not_null: bool,
    },
    /// ADD GENERATED .. AS IDENTITY, as a column definition that says it.
    AddIdentity {
        column: String,
        always: bool,
        options: SequenceOptions,
    },
    /// SET GENERATED ALWAYS or BY DEFAULT.
    SetIdentity {
        column: String,
        always: Option<bool>,
        options: SequenceOptions,
    },
    DropIdentity {
        column: String,
        if_exists: bool,
    },
    DropExpression {
        column: String,
        if_exists: bool,
    },
    AddConstraint(Box<ast::TableConstraint>),
    /// ADD CONSTRAINT name UNIQUE or PRIMARY KEY USING INDEX index.
    AddKeyUsingIndex {
        name: Option<String>,
        index: Name,
        primary: bool,
    },
    DropConstraint {
        name: String,
        if_exists: bool,
        cascade: bool,
    },
    ValidateConstraint(String),
    Rename(String),
    RenameColumn {
        from: String,
        to: String,
    },
    RenameConstraint {
        from: String,
        to: String,
    },
    SetSchema(String),
    SetOptions(Options),
    Sequence(SequenceOptions),
    /// What has no meaning here: owners, statistics targets, storage, clustering, triggers.
    Nothing,
}

/// What CREATE and ALTER SEQUENCE say, each where it is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SequenceOptions {
    pub(crate) data_type: Option<ast::DataType>,
    pub(crate) start: Option<i64>,
    /// RESTART; the inner None is without a number.
    pub(crate) restart: Option<Option<i64>>,
    pub(crate) increment: Option<i64>,
    /// The inner None is NO MINVALUE.
    pub(crate) min: Option<Option<i64>>,
    pub(crate) max: Option<Option<i64>>,
    pub(crate) cache: Option<i64>,
    pub(crate) cycle: Option<bool>,
    /// The inner None is NONE.
    pub(crate) owned_by: Option<Option<Vec<String>>>,
}

impl StatementParser<'_> {
    /// After `ALTER`. None for a kind of object that cannot be altered.
    pub(super) fn alter(&mut self) -> Result<Option<Ast>, PgError> {
        let foreign = self.accept(&["FOREIGN"]);
        let Some(kind) = self.kind(false) else {
            if foreign {
                self.parser.prev_token();
            }
            return Ok(None);
        };
        let if_exists = self.accept(&["IF", "EXISTS"]);
        self.accept(&["ONLY"]);
        let name = self.name()?;
        self.accept_token(&Token::Mul);
        let actions = match kind {
            Kind::Sequence if !self.is_word(0, "RENAME") && !self.is_word(0, "OWNER") && !self.is_set_schema() => {
                vec![AlterAction::Sequence(self.sequence_options()?)]
            }
            _ => self.comma_separated(Self::alter_action)?,
        };
        Ok(Some(Ast::Alter(Alter { kind, name, if_exists, actions })))
    }

    fn is_set_schema(&self) -> bool {
        self.is_word(0, "SET") && self.is_word(1, "SCHEMA")
    }

    fn alter_action(&mut self) -> Result<AlterAction, PgError> {
        if self.accept(&["ADD"]) {
            return self.alter_add();
        }
        if self.accept(&["DROP", "CONSTRAINT"]) {
            let if_exists = self.accept(&["IF", "EXISTS"]);
            let name = self.identifier()?;
            return Ok(AlterAction::DropConstraint { name, if_exists, cascade: self.cascade() });
        }
        if self.accept(&["DROP"]) {
            self.accept(&["COLUMN"]);
            let if_exists = self.accept(&["IF", "EXISTS"]);
            let name = self.identifier()?;
            return Ok(AlterAction::DropColumn { name, if_exists, cascade: self.cascade() });
        }
        if self.accept(&["RENAME"]) {
            return self.alter_rename();
        }
        if self.accept(&["VALIDATE", "CONSTRAINT"]) {
            return Ok(AlterAction::ValidateConstraint(self.identifier()?));
        }
        if self.accept(&["OWNER", "TO"]) {
            // There is one owner of everything.
            self.identifier()?;
            return Ok(AlterAction::Nothing);
        }
        if self.accept(&["SET", "SCHEMA"]) {
            return Ok(AlterAction::SetSchema(self.identifier()?));
        }
        if self.is_word(0, "SET") && self.parser.peek_nth_token_ref(1).token == Token::LParen {
            self.accept(&["SET"]);
            return Ok(AlterAction::SetOptions(self.options()?));
        }
        if self.accept(&["ALTER"]) {
            self.accept(&["COLUMN"]);
            let column = self.identifier()?;
            return self.alter_column(column);
        }
        self.alter_without_meaning()
    }

    /// RESTRICT is what is done without CASCADE.
    fn cascade(&mut self) -> bool {
        let cascade = self.accept(&["CASCADE"]);
        if !cascade {
            self.accept(&["RESTRICT"]);
        }
        cascade
    }

    fn alter_add(&mut self) -> Result<AlterAction, PgError> {
        let words = ["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN", "EXCLUDE"];
        if words.iter().any(|word| self.is_word(0, word)) {
            return self.add_constraint();
        }
        self.accept(&["COLUMN"]);
        let if_not_exists = self.if_not_exists();
        let column = Box::new(self.sql(Parser::parse_column_def)?);
        Ok(AlterAction::AddColumn { column, if_not_exists })
    }

    fn add_constraint(&mut self) -> Result<AlterAction, PgError> {
        // `[CONSTRAINT name] UNIQUE USING INDEX index`
        let at = if self.is_word(0, "CONSTRAINT") { 2 } else { 0 };
        let primary = self.is_word(at, "PRIMARY");
        let using = at + if primary { 2 } else { 1 };
        if (primary || self.is_word(at, "UNIQUE")) && self.is_word(using, "USING") && self.is_word(using + 1, "INDEX") {
            let name = if self.accept(&["CONSTRAINT"]) { Some(self.identifier()?) } else { None };
            (0..using - at + 2).for_each(|_| self.parser.advance_token());
            return Ok(AlterAction::AddKeyUsingIndex { name, index: self.name()?, primary });
        }
        let constraint = self.sql(|parser| parser.parse_optional_table_constraint())?;
        let constraint = constraint.ok_or_else(|| self.syntax_error())?;
        // Rows are always checked.
        self.accept(&["NOT", "VALID"]);
        Ok(AlterAction::AddConstraint(Box::new(constraint)))
    }

    fn alter_rename(&mut self) -> Result<AlterAction, PgError> {
        if self.accept(&["TO"]) {
            return Ok(AlterAction::Rename(self.identifier()?));
        }
        if self.accept(&["CONSTRAINT"]) {
            let from = self.identifier()?;
            self.expect(&["TO"])?;
            return Ok(AlterAction::RenameConstraint { from, to: self.identifier()? });
        }
        self.accept(&["COLUMN"]);
        let from = self.identifier()?;
        self.expect(&["TO"])?;
        Ok(AlterAction::RenameColumn { from, to: self.identifier()? })
    }

    /// After `ALTER [COLUMN] column`.
    fn alter_column(&mut self, column: String) -> Result<AlterAction, PgError> {
        if self.accept(&["SET", "DATA"]) || self.is_word(0, "TYPE") {
            self.expect(&["TYPE"])?;
            let definition = Box::new(self.column_of_type(&column)?);
            let using = if self.accept(&["USING"]) { Some(Box::new(self.sql(Parser::parse_expr)?)) } else { None };
            return Ok(AlterAction::Type { column, definition, using });
        }
        if self.accept(&["SET", "DEFAULT"]) {
            return Ok(AlterAction::Default { column, default: Some(Box::new(self.sql(Parser::parse_expr)?)) });
        }
        if self.accept(&["DROP", "DEFAULT"]) {
            return Ok(AlterAction::Default { column, default: None });
        }
        if self.accept(&["SET", "NOT", "NULL"]) {
            return Ok(AlterAction::NotNull { column, not_null: true });
        }
        if self.accept(&["DROP", "NOT", "NULL"]) {
            return Ok(AlterAction::NotNull { column, not_null: false });
        }
        if self.accept(&["DROP", "IDENTITY"]) {
            return Ok(AlterAction::DropIdentity { column, if_exists: self.accept(&["IF", "EXISTS"]) });
        }
        if self.accept(&["DROP", "EXPRESSION"]) {
            return Ok(AlterAction::DropExpression { column, if_exists: self.accept(&["IF", "EXISTS"]) });
        }
        if self.accept(&["ADD", "GENERATED"]) {
            let always = self.always()?;
            self.expect(&["AS", "IDENTITY"])?;
            let options = self.parenthesized_sequence_options()?;
            return Ok(AlterAction::AddIdentity { column, always, options });
        }
        if self.is_word(0, "RESTART") || (self.is_word(0, "SET") && !self.is_statistics()) {
            return self.set_identity(column);
        }
        if self.accept(&["SET", "STATISTICS"]) {
            self.accept_token(&Token::Minus);
            self.sql(Parser::parse_literal_uint)?;
            return Ok(AlterAction::Nothing);
        }
        if self.accept(&["SET", "STORAGE"]) || self.accept(&["SET", "COMPRESSION"]) {
            self.identifier()?;
            return Ok(AlterAction::Nothing);
        }
        Err(self.syntax_error())
    }

    fn is_statistics(&self) -> bool {
        ["STATISTICS", "STORAGE", "COMPRESSION"].iter().any(|word| self.is_word(1, word))
    }

    fn always(&mut self) -> Result<bool, PgError> {
        if self.accept(&["ALWAYS"]) {
            return Ok(true);
        }
        self.expect(&["BY", "DEFAULT"])?;
        Ok(false)
    }

    fn set_identity(&mut self, column: String) -> Result<AlterAction, PgError> {
        let (mut always, mut options) = (None, SequenceOptions::default());
        loop {
            if self.accept(&["SET", "GENERATED"]) {
                always = Some(self.always()?);
            } else if self.accept(&["SET"]) || self.is_word(0, "RESTART") {
                if !self.sequence_option(&mut options)? {
                    return Err(self.syntax_error());
                }
            } else {
                return Ok(AlterAction::SetIdentity { column, always, options });
            }
        }
    }

    /// A type where a column's definition may have one, as a definition of that column.
    fn column_of_type(&mut self, column: &str) -> Result<ast::ColumnDef, PgError> {
        let data_type = self.sql(Parser::parse_data_type)?;
        if self.accept(&["COLLATE"]) {
            self.name()?;
        }
        Ok(ast::ColumnDef { name: ast::Ident::with_quote('"', column), data_type, options: Vec::new() })
    }

    fn alter_without_meaning(&mut self) -> Result<AlterAction, PgError> {
        let with_name: [&[&str]; 9] = [
            &["CLUSTER", "ON"],
            &["SET", "TABLESPACE"],
            &["ENABLE", "TRIGGER"],
            &["DISABLE", "TRIGGER"],
            &["ENABLE", "ALWAYS", "TRIGGER"],
            &["ENABLE", "REPLICA", "TRIGGER"],
            &["SET", "ACCESS", "METHOD"],
            &["REPLICA", "IDENTITY", "USING", "INDEX"],
            &["REPLICA", "IDENTITY"],
        ];
        if with_name.into_iter().any(|words| self.accept(words)) {
            self.identifier()?;
            return Ok(AlterAction::Nothing);
        }
        let alone: [&[&str]; 4] =
            [&["SET", "WITHOUT", "CLUSTER"], &["SET", "LOGGED"], &["SET", "UNLOGGED"], &["SET", "WITHOUT", "OIDS"]];
        match alone.into_iter().any(|words| self.accept(words)) {
            true => Ok(AlterAction::Nothing),
            false => Err(self.syntax_error()),
        }
    }

    /// `( option .. )`, or nothing.
    pub(super) fn parenthesized_sequence_options(&mut self) -> Result<SequenceOptions, PgError> {
        if !self.accept_token(&Token::LParen) {
            return Ok(SequenceOptions::default());
        }
        let mut options = SequenceOptions::default();
        if self.accept(&["SEQUENCE", "NAME"]) {
            self.name()?;
        }
        while self.sequence_option(&mut options)? {}
        self.expect_token(&Token::RParen)?;
        Ok(options)
    }

    /// What stands behind the name of a sequence, to the end.
    pub(super) fn sequence_options(&mut self) -> Result<SequenceOptions, PgError> {
        let mut options = SequenceOptions::default();
        while self.sequence_option(&mut options)? {}
        Ok(options)
    }

    /// One option; false where none stands.
    fn sequence_option(&mut self, options: &mut SequenceOptions) -> Result<bool, PgError> {
        if self.accept(&["AS"]) {
            options.data_type = Some(self.sql(Parser::parse_data_type)?);
        } else if self.accept(&["INCREMENT"]) {
            self.accept(&["BY"]);
            options.increment = Some(self.signed()?);
        } else if self.accept(&["MINVALUE"]) {
            options.min = Some(Some(self.signed()?));
        } else if self.accept(&["MAXVALUE"]) {
            options.max = Some(Some(self.signed()?));
        } else if self.accept(&["NO", "MINVALUE"]) {
            options.min = Some(None);
        } else if self.accept(&["NO", "MAXVALUE"]) {
            options.max = Some(None);
        } else if self.accept(&["NO", "CYCLE"]) {
            options.cycle = Some(false);
        } else if self.accept(&["CYCLE"]) {
            options.cycle = Some(true);
        } else if self.accept(&["START"]) {
            self.accept(&["WITH"]);
            options.start = Some(self.signed()?);
        } else if self.accept(&["RESTART"]) {
            let said = self.accept(&["WITH"]) || self.is_token(&Token::Minus) || self.is_number();
            options.restart = Some(if said { Some(self.signed()?) } else { None });
        } else if self.accept(&["CACHE"]) {
            options.cache = Some(self.signed()?);
        } else if self.accept(&["OWNED", "BY", "NONE"]) {
            options.owned_by = Some(None);
        } else if self.accept(&["OWNED", "BY"]) {
            let mut parts = vec![self.identifier()?];
            while self.accept_token(&Token::Period) {
                parts.push(self.identifier()?);
            }
            options.owned_by = Some(Some(parts));
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn is_number(&self) -> bool {
        matches!(self.peek().token, Token::Number(..))
    }

    fn signed(&mut self) -> Result<i64, PgError> {
        let negative = self.accept_token(&Token::Minus);
        if !negative {
            self.accept_token(&Token::Plus);
        }
        let here = self.syntax_error();
        let Token::Number(digits, _) = &self.peek().token else { return Err(here) };
        let text = format!("{}{digits}", if negative { "-" } else { "" });
        self.parser.advance_token();
        text.parse().map_err(|_| {
            PgError::new(repr::SqlState::SYNTAX_ERROR, format!("value \"{text}\" is out of range for type bigint"))
        })
    }
}
