//! Roles: CREATE, ALTER and DROP ROLE (USER, GROUP), GRANT and REVOKE, SET ROLE.

use repr::{PgError, SqlState};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::{Ast, Name, StatementParser};

/// A statement about roles, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Said by PostgreSQL's grammar of the statement of that name.
pub enum RoleStatement {
    Create {
        name: String,
        options: Vec<RoleOption>,
    },
    Alter {
        name: RoleName,
        options: Vec<RoleOption>,
    },
    Rename {
        name: String,
        to: String,
    },
    /// ALTER ROLE .. SET; without a name it is ALL. Without a value it is RESET, without a setting RESET ALL.
    AlterSetting {
        name: Option<RoleName>,
        setting: Option<String>,
        value: Option<String>,
    },
    Drop {
        names: Vec<RoleName>,
        if_exists: bool,
    },
    Grant {
        roles: Vec<String>,
        to: Vec<RoleName>,
        admin: bool,
    },
    /// `admin` takes back only that it may be granted on.
    Revoke {
        roles: Vec<String>,
        from: Vec<RoleName>,
        admin: bool,
    },
    /// Privileges on objects. The tables that were named are looked up.
    GrantPrivileges {
        tables: Vec<Name>,
        to: Vec<RoleName>,
    },
    RevokePrivileges,
}

/// A role where PostgreSQL takes a name or a word for the session's own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Each variant is the word.
pub enum RoleName {
    Named(String),
    CurrentUser,
    SessionUser,
    Public,
}

/// One option of CREATE and ALTER ROLE.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Each variant is the option.
pub enum RoleOption {
    Superuser(bool),
    CreateDb(bool),
    CreateRole(bool),
    Inherit(bool),
    Login(bool),
    Replication(bool),
    BypassRls(bool),
    ConnectionLimit(i32),
    /// None is PASSWORD NULL.
    Password(Option<String>),
    ValidUntil(String),
    /// IN ROLE: the new role becomes their member.
    InRole(Vec<String>),
    /// ROLE: they become its members.
    Members(Vec<String>),
    /// ADMIN: the same, and they may grant it on.
    Admins(Vec<String>),
}

const ROLE_WORDS: [&str; 3] = ["ROLE", "USER", "GROUP"];

impl StatementParser<'_> {
    /// The statement that starts here, if it is about roles.
    pub(super) fn role_statement(&mut self) -> Result<Option<Ast>, PgError> {
        let of_role = |parser: &Self| ROLE_WORDS.iter().any(|word| parser.is_word(1, word));
        let statement = if self.is_word(0, "CREATE") && of_role(self) && !self.is_words_at(1, &["USER", "MAPPING"]) {
            self.create_role()?
        } else if self.is_word(0, "ALTER") && of_role(self) && !self.is_words_at(1, &["USER", "MAPPING"]) {
            self.alter_role()?
        } else if self.is_word(0, "DROP") && of_role(self) && !self.is_words_at(1, &["USER", "MAPPING"]) {
            self.skip(2);
            let if_exists = self.accept(&["IF", "EXISTS"]);
            RoleStatement::Drop { names: self.comma_separated(Self::role_name)?, if_exists }
        } else if self.accept(&["GRANT"]) {
            self.grant()?
        } else if self.accept(&["REVOKE"]) {
            self.revoke()?
        } else {
            return Ok(None);
        };
        Ok(Some(Ast::Role(statement)))
    }

    fn skip(&mut self, count: usize) {
        (0..count).for_each(|_| self.parser.advance_token());
    }

    fn create_role(&mut self) -> Result<RoleStatement, PgError> {
        let is_user = self.is_word(1, "USER");
        self.skip(2);
        let name = match self.role_name()? {
            RoleName::Named(name) => name,
            _ => return Err(reserved_name("public")),
        };
        if ["public", "none"].contains(&name.as_str()) || name.starts_with("pg_") {
            return Err(reserved_name(&name));
        }
        // A user is a role that may log in, unless the options say otherwise.
        let mut options = vec![RoleOption::Login(is_user)];
        options.extend(self.role_options(true)?);
        Ok(RoleStatement::Create { name, options })
    }

    fn alter_role(&mut self) -> Result<RoleStatement, PgError> {
        self.skip(2);
        if self.accept(&["ALL"]) {
            return self.alter_setting(None);
        }
        let name = self.role_name()?;
        if self.accept(&["RENAME", "TO"]) {
            let to = self.identifier()?;
            return match name {
                RoleName::Named(name) => Ok(RoleStatement::Rename { name, to }),
                _ => Err(self.syntax_error()),
            };
        }
        if self.is_word(0, "SET") || self.is_word(0, "RESET") || self.is_words(&["IN", "DATABASE"]) {
            return self.alter_setting(Some(name));
        }
        let add = self.accept(&["ADD", "USER"]);
        if add || self.accept(&["DROP", "USER"]) {
            let members = self.comma_separated(Self::role_name)?;
            let RoleName::Named(role) = name else { return Err(self.syntax_error()) };
            return Ok(match add {
                true => RoleStatement::Grant { roles: vec![role], to: members, admin: false },
                false => RoleStatement::Revoke { roles: vec![role], from: members, admin: false },
            });
        }
        Ok(RoleStatement::Alter { name, options: self.role_options(false)? })
    }

    fn alter_setting(&mut self, name: Option<RoleName>) -> Result<RoleStatement, PgError> {
        if self.accept(&["IN", "DATABASE"]) {
            return Err(PgError::unsupported("ALTER ROLE .. IN DATABASE"));
        }
        if self.accept(&["RESET"]) {
            let setting = if self.accept(&["ALL"]) { None } else { Some(self.setting_name()?) };
            return Ok(RoleStatement::AlterSetting { name, setting, value: None });
        }
        self.expect(&["SET"])?;
        let setting = self.setting_name()?;
        if self.accept(&["FROM", "CURRENT"]) {
            return Err(PgError::unsupported("SET .. FROM CURRENT"));
        }
        if !self.accept_token(&Token::Eq) && !self.accept(&["TO"]) && setting != "timezone" {
            return Err(self.syntax_error());
        }
        Ok(RoleStatement::AlterSetting { name, setting: Some(setting), value: self.setting_value()? })
    }

    fn role_options(&mut self, creating: bool) -> Result<Vec<RoleOption>, PgError> {
        self.accept(&["WITH"]);
        let mut options = Vec::new();
        while !self.at_end() {
            let option = self.role_option(creating)?;
            if options.iter().any(|other| std::mem::discriminant(other) == std::mem::discriminant(&option)) {
                return Err(PgError::new(SqlState::SYNTAX_ERROR, "conflicting or redundant options"));
            }
            options.push(option);
        }
        Ok(options)
    }

    fn role_option(&mut self, creating: bool) -> Result<RoleOption, PgError> {
        let flags: [(&str, &str, fn(bool) -> RoleOption); 7] = [
            ("SUPERUSER", "NOSUPERUSER", RoleOption::Superuser),
            ("CREATEDB", "NOCREATEDB", RoleOption::CreateDb),
            ("CREATEROLE", "NOCREATEROLE", RoleOption::CreateRole),
            ("INHERIT", "NOINHERIT", RoleOption::Inherit),
            ("LOGIN", "NOLOGIN", RoleOption::Login),
            ("REPLICATION", "NOREPLICATION", RoleOption::Replication),
            ("BYPASSRLS", "NOBYPASSRLS", RoleOption::BypassRls),
        ];
        for (yes, no, option) in flags {
            if self.accept(&[yes]) {
                return Ok(option(true));
            }
            if self.accept(&[no]) {
                return Ok(option(false));
            }
        }
        if self.accept(&["CONNECTION", "LIMIT"]) {
            let negative = self.accept_token(&Token::Minus);
            let limit = self.sql(Parser::parse_literal_uint)?;
            let limit = i32::try_from(limit).map(|limit| if negative { -limit } else { limit });
            return match limit {
                Ok(limit) if limit >= -1 => Ok(RoleOption::ConnectionLimit(limit)),
                Ok(limit) => Err(invalid(format!("invalid connection limit: {limit}"))),
                Err(_) => Err(self.syntax_error()),
            };
        }
        if self.accept(&["UNENCRYPTED", "PASSWORD"]) {
            return Err(PgError::unsupported("UNENCRYPTED PASSWORD")
                .with_hint("Remove UNENCRYPTED to store the password in encrypted form instead."));
        }
        if self.accept(&["ENCRYPTED", "PASSWORD"]) {
            return self.string().map(|password| RoleOption::Password(Some(password)));
        }
        if self.accept(&["PASSWORD"]) {
            let password = if self.accept(&["NULL"]) { None } else { Some(self.string()?) };
            return Ok(RoleOption::Password(password));
        }
        if self.accept(&["VALID", "UNTIL"]) {
            return self.string().map(RoleOption::ValidUntil);
        }
        if creating && self.accept(&["SYSID"]) {
            // PostgreSQL takes no notice of it either.
            self.sql(Parser::parse_literal_uint)?;
            return self.role_option(creating);
        }
        if creating && (self.accept(&["IN", "ROLE"]) || self.accept(&["IN", "GROUP"])) {
            return self.comma_separated(Self::identifier).map(RoleOption::InRole);
        }
        if creating && self.accept(&["ADMIN"]) {
            return self.comma_separated(Self::identifier).map(RoleOption::Admins);
        }
        if self.accept(&["ROLE"]) || self.accept(&["USER"]) {
            return self.comma_separated(Self::identifier).map(RoleOption::Members);
        }
        match &self.peek().token {
            Token::Word(word) => {
                let message = format!("unrecognized role option \"{}\"", word.value.to_lowercase());
                let position = self.peek().span.start.column as u32;
                Err(PgError::new(SqlState::SYNTAX_ERROR, message).at(position))
            }
            _ => Err(self.syntax_error()),
        }
    }

    fn role_name(&mut self) -> Result<RoleName, PgError> {
        let words: [(&str, RoleName); 4] = [
            ("CURRENT_USER", RoleName::CurrentUser),
            ("CURRENT_ROLE", RoleName::CurrentUser),
            ("SESSION_USER", RoleName::SessionUser),
            ("PUBLIC", RoleName::Public),
        ];
        if let Some((_, name)) = words.into_iter().find(|(word, _)| self.accept(&[word])) {
            return Ok(name);
        }
        match self.identifier()?.as_str() {
            "" => Err(PgError::new(SqlState::SYNTAX_ERROR, "zero-length delimited identifier")),
            name => Ok(RoleName::Named(name.to_string())),
        }
    }

    /// Roles or privileges: the latter are ON something.
    fn names_objects(&self, end: &str) -> bool {
        let mut index = 0;
        while !matches!(self.parser.peek_nth_token_ref(index).token, Token::EOF) && !self.is_word(index, end) {
            if self.is_word(index, "ON") {
                return true;
            }
            index += 1;
        }
        false
    }

    fn grant(&mut self) -> Result<RoleStatement, PgError> {
        if self.names_objects("TO") {
            let tables = self.privileges()?;
            self.expect(&["TO"])?;
            let to = self.grantees()?;
            self.accept(&["WITH", "GRANT", "OPTION"]);
            self.granted_by()?;
            return Ok(RoleStatement::GrantPrivileges { tables, to });
        }
        let roles = self.comma_separated(Self::identifier)?;
        self.expect(&["TO"])?;
        let to = self.grantees()?;
        let admin = self.accept(&["WITH", "ADMIN", "OPTION"]);
        self.granted_by()?;
        Ok(RoleStatement::Grant { roles, to, admin })
    }

    fn revoke(&mut self) -> Result<RoleStatement, PgError> {
        if self.names_objects("FROM") {
            self.accept(&["GRANT", "OPTION", "FOR"]);
            self.privileges()?;
            self.expect(&["FROM"])?;
            self.grantees()?;
            self.granted_by()?;
            let _ = self.accept(&["CASCADE"]) || self.accept(&["RESTRICT"]);
            return Ok(RoleStatement::RevokePrivileges);
        }
        let admin = self.accept(&["ADMIN", "OPTION", "FOR"]);
        let roles = self.comma_separated(Self::identifier)?;
        self.expect(&["FROM"])?;
        let from = self.grantees()?;
        self.granted_by()?;
        let _ = self.accept(&["CASCADE"]) || self.accept(&["RESTRICT"]);
        Ok(RoleStatement::Revoke { roles, from, admin })
    }

    fn grantees(&mut self) -> Result<Vec<RoleName>, PgError> {
        self.comma_separated(|parser| {
            parser.accept(&["GROUP"]);
            parser.role_name()
        })
    }

    fn granted_by(&mut self) -> Result<(), PgError> {
        if self.accept(&["GRANTED", "BY"]) {
            self.role_name()?;
        }
        Ok(())
    }

    /// `SELECT, INSERT (a, b) ON TABLE t, u`: goes past it and returns the tables; other objects are not looked up.
    fn privileges(&mut self) -> Result<Vec<Name>, PgError> {
        let all = self.accept(&["ALL"]);
        if all {
            self.accept(&["PRIVILEGES"]);
        }
        if !all || self.is_token(&Token::LParen) {
            self.privilege_columns(all)?;
        }
        self.expect(&["ON"])?;
        let others = [
            "SCHEMA",
            "DATABASE",
            "SEQUENCE",
            "FUNCTION",
            "PROCEDURE",
            "ROUTINE",
            "TYPE",
            "DOMAIN",
            "LANGUAGE",
            "FOREIGN",
            "TABLESPACE",
            "LARGE",
            "PARAMETER",
            "ALL",
        ];
        if !others.iter().any(|word| self.is_word(0, word)) {
            self.accept(&["TABLE"]);
            return self.comma_separated(Self::name);
        }
        while !self.at_end() && !self.is_word(0, "TO") && !self.is_word(0, "FROM") {
            self.skip(1);
        }
        Ok(Vec::new())
    }

    fn privilege_columns(&mut self, all: bool) -> Result<(), PgError> {
        const PRIVILEGES: [&str; 13] = [
            "select",
            "insert",
            "update",
            "delete",
            "truncate",
            "references",
            "trigger",
            "create",
            "connect",
            "temporary",
            "temp",
            "execute",
            "usage",
        ];
        let one = |parser: &mut Self| {
            if !all {
                let position = parser.peek().span.start.column as u32;
                let privilege = parser.identifier()?;
                if !PRIVILEGES.contains(&privilege.as_str()) {
                    let message = format!("unrecognized privilege type \"{privilege}\"");
                    return Err(PgError::new(SqlState::SYNTAX_ERROR, message).at(position));
                }
            }
            if parser.accept_token(&Token::LParen) {
                parser.comma_separated(Self::identifier)?;
                parser.expect_token(&Token::RParen)?;
            }
            Ok(())
        };
        self.comma_separated(one).map(drop)
    }
}

fn reserved_name(name: &str) -> PgError {
    let message = format!("role name \"{name}\" is reserved");
    let error = PgError::new(SqlState::RESERVED_NAME, message);
    match name.starts_with("pg_") {
        true => error.with_detail("Role names starting with \"pg_\" are reserved."),
        false => error,
    }
}

fn invalid(message: String) -> PgError {
    PgError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}
