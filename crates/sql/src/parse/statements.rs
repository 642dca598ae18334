//! The grammar of each statement, by its first words.

use repr::{PgError, SqlState};
use sqlparser::ast;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::{
    Ast, CopyIn, CopyOut, CopySource, CreateSchema, CreateSequence, CreateTable, CreateView, DIALECT, Declare,
    DiscardTarget, Drop, Execute, Explain, Fetch, FetchDirection, Kind, Options, Overriding, Prepare, Set, Show,
    StatementParser, Subscribe, SubscribeTarget, TransactionModes, Truncate, parser_of,
};

/// Statements of PostgreSQL that we do not have, by their first word.
const UNSUPPORTED: [&str; 11] =
    ["CALL", "DO", "IMPORT", "LOAD", "MERGE", "REASSIGN", "REINDEX", "SECURITY", "USE", "DESCRIBE", "KILL"];

/// What PostgreSQL (and later versions of ours) CREATE and DROP, and we do not.
const UNSUPPORTED_OBJECTS: [&str; 36] = [
    "ACCESS",
    "AGGREGATE",
    "CAST",
    "CLUSTER",
    "COLLATION",
    "CONSTRAINT",
    "CONVERSION",
    "DATABASE",
    "DEFAULT",
    "DOMAIN",
    "EVENT",
    "EXTENSION",
    "FOREIGN",
    "FUNCTION",
    "LANGUAGE",
    "MODEL",
    "OPERATOR",
    "OWNED",
    "POLICY",
    "PROCEDURE",
    "PUBLICATION",
    "RECURSIVE",
    "ROUTINE",
    "RULE",
    "SECRET",
    "SERVER",
    "SINK",
    "STATISTICS",
    "SUBSCRIPTION",
    "TABLESPACE",
    "TEXT",
    "TRANSFORM",
    "TRIGGER",
    "TRUSTED",
    "TYPE",
    "USER",
];

impl StatementParser<'_> {
    /// The statement that starts here.
    pub(super) fn statement(&mut self) -> Result<Ast, PgError> {
        let word = match &self.peek().token {
            Token::LParen => return self.query().map(Ast::Query),
            Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
            _ => return Err(self.syntax_error()),
        };
        if let Some(ast) = self.maintenance()? {
            return Ok(ast);
        }
        if let Some(ast) = self.role_statement()? {
            return Ok(ast);
        }
        match word.as_str() {
            "SELECT" | "WITH" | "VALUES" | "TABLE" => {
                let query = self.query()?;
                Ok(match self.as_of()? {
                    Some(at) => Ast::QueryAsOf(query, at),
                    None => Ast::Query(query),
                })
            }
            "INSERT" | "UPDATE" | "DELETE" => self.dml(),
            "CREATE" => self.create(),
            "ALTER" => self.or_unsupported(Self::alter),
            "COMMENT" => self.or_unsupported(Self::comment),
            "LISTEN" | "NOTIFY" | "UNLISTEN" => self.notify_statement(),
            word if UNSUPPORTED.contains(&word) => Ok(self.unsupported()),
            word => {
                let here = self.syntax_error();
                self.parser.advance_token();
                self.utility(word, here)
            }
        }
    }

    /// After the first word. `unknown` is the error where no statement starts with it.
    fn utility(&mut self, word: &str, unknown: PgError) -> Result<Ast, PgError> {
        match word {
            "DROP" => self.drop(),
            "TRUNCATE" => self.truncate().map(Ast::Truncate),
            "SHOW" => self.show().map(Ast::Show),
            "SET" => self.set(),
            "RESET" => self.reset(),
            "EXPLAIN" => self.explain().map(Ast::Explain),
            "SUBSCRIBE" => self.subscribe().map(Ast::Subscribe),
            "COPY" => self.copy(),
            "BEGIN" => self.begin(),
            "START" => {
                self.expect(&["TRANSACTION"])?;
                self.transaction_modes().map(Ast::Begin)
            }
            "COMMIT" | "END" => {
                self.transaction_word();
                self.transaction_end(Ast::Commit)
            }
            "ROLLBACK" | "ABORT" => self.rollback(),
            "SAVEPOINT" => self.identifier().map(Ast::Savepoint),
            "RELEASE" => {
                self.accept(&["SAVEPOINT"]);
                self.identifier().map(Ast::ReleaseSavepoint)
            }
            "DECLARE" => self.declare().map(Ast::Declare),
            "FETCH" => self.fetch(false).map(Ast::Fetch),
            "MOVE" => self.fetch(true).map(Ast::Fetch),
            "CLOSE" => self.one_or_all().map(Ast::Close),
            "PREPARE" => self.prepare(),
            "EXECUTE" => self.execute().map(Ast::Execute),
            "DEALLOCATE" => {
                self.accept(&["PREPARE"]);
                self.one_or_all().map(Ast::Deallocate)
            }
            "DISCARD" => self.discard().map(Ast::Discard),
            "CHECKPOINT" => Ok(Ast::Checkpoint),
            _ => Err(unknown),
        }
    }

    /// After the first word, what `parse` reads; where it knows no such object, the statement as one we do not have.
    fn or_unsupported(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<Option<Ast>, PgError>,
    ) -> Result<Ast, PgError> {
        self.parser.advance_token();
        match parse(self)? {
            Some(ast) => Ok(ast),
            None => {
                self.parser.prev_token();
                Ok(self.unsupported())
            }
        }
    }

    /// Goes to the end of a statement that we know the name of and nothing else.
    fn unsupported(&mut self) -> Ast {
        let two_words = ["CREATE", "DROP", "ALTER", "REFRESH", "REINDEX"].iter().any(|word| self.is_word(0, word));
        let mut words = Vec::new();
        while !self.at_end() {
            if let Token::Word(word) = &self.peek().token
                && words.len() < if two_words { 2 } else { 1 }
            {
                words.push(word.value.to_uppercase());
            }
            self.parser.advance_token();
        }
        Ast::Unsupported(words.join(" "))
    }

    fn dml(&mut self) -> Result<Ast, PgError> {
        let overriding = if self.is_word(0, "INSERT") { self.take_overriding() } else { Overriding::No };
        match self.sql(Parser::parse_statement)? {
            ast::Statement::Insert(insert) => Ok(Ast::Insert(Box::new(insert), overriding)),
            ast::Statement::Update(update) => Ok(Ast::Update(Box::new(update))),
            ast::Statement::Delete(delete) => Ok(Ast::Delete(Box::new(delete))),
            other => Err(PgError::unsupported(format!("the statement {other}"))),
        }
    }

    /// Takes `OVERRIDING SYSTEM VALUE`, which sqlparser does not know, out of an INSERT: it stands before the first query.
    fn take_overriding(&mut self) -> Overriding {
        let mut depth = 0;
        for at in 0.. {
            match &self.parser.peek_nth_token_ref(at).token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                Token::EOF => return Overriding::No,
                token if depth == 0 && ["SELECT", "VALUES", "WITH"].iter().any(|word| super::is_word(token, word)) => {
                    return Overriding::No;
                }
                _ => {}
            }
            let system = self.is_words_at(at, &["OVERRIDING", "SYSTEM", "VALUE"]);
            if depth == 0 && (system || self.is_words_at(at, &["OVERRIDING", "USER", "VALUE"])) {
                let rest = (0..at).chain(at + 3..);
                let rest = rest.map(|index| self.parser.peek_nth_token_ref(index).clone());
                let tokens = rest.take_while(|token| token.token != Token::EOF).collect();
                self.parser = parser_of(&DIALECT, tokens);
                return if system { Overriding::System } else { Overriding::User };
            }
        }
        Overriding::No
    }

    fn create(&mut self) -> Result<Ast, PgError> {
        let or_replace = self.is_words(&["CREATE", "OR", "REPLACE"]);
        let at = if or_replace { 3 } else { 1 };
        if self.is_word(at, "VIEW") || self.is_words_at(at, &["MATERIALIZED", "VIEW"]) {
            (0..at).for_each(|_| self.parser.advance_token());
            let materialized = self.accept(&["MATERIALIZED"]);
            self.expect(&["VIEW"])?;
            return self.create_view(or_replace, materialized);
        }
        if !or_replace && self.accept(&["CREATE", "SOURCE"]) {
            return self.create_source();
        }
        if !or_replace && self.accept(&["CREATE", "CONNECTION"]) {
            return self.create_connection();
        }
        let temporary = self.temporary_words(at);
        if self.is_word(at + temporary.1, "TABLE") {
            return self.create_table(at, temporary);
        }
        if self.is_word(at + temporary.1, "SEQUENCE") {
            (0..=at + temporary.1).for_each(|_| self.parser.advance_token());
            let if_not_exists = self.if_not_exists();
            let (name, options) = (self.name()?, self.sequence_options()?);
            return Ok(Ast::CreateSequence(CreateSequence { name, temporary: temporary.0, if_not_exists, options }));
        }
        if !or_replace && self.accept(&["CREATE", "SCHEMA"]) {
            return self.create_schema();
        }
        if self.is_word(at, "INDEX") || self.is_words_at(at, &["UNIQUE", "INDEX"]) {
            return match self.sql(Parser::parse_statement)? {
                ast::Statement::CreateIndex(index) => Ok(Ast::CreateIndex(Box::new(index))),
                other => Err(PgError::unsupported(format!("the statement {other}"))),
            };
        }
        if UNSUPPORTED_OBJECTS.iter().any(|object| self.is_word(at, object)) {
            if or_replace {
                self.parser.advance_token();
                self.parser.advance_token();
            }
            return Ok(self.unsupported());
        }
        (0..at).for_each(|_| self.parser.advance_token());
        Err(self.syntax_error())
    }

    /// Whether `TEMPORARY` or one of its spellings stands at `at`, and how many words that and `UNLOGGED` are.
    fn temporary_words(&self, at: usize) -> (bool, usize) {
        let scope = ["LOCAL", "GLOBAL"].iter().any(|word| self.is_word(at, word)) as usize;
        let temporary = ["TEMP", "TEMPORARY"].iter().any(|word| self.is_word(at + scope, word));
        match temporary {
            true => (true, scope + 1),
            false => (false, self.is_word(at, "UNLOGGED") as usize),
        }
    }

    /// `[name] [AUTHORIZATION role]`
    fn create_schema(&mut self) -> Result<Ast, PgError> {
        let if_not_exists = self.if_not_exists();
        let named = !self.is_word(0, "AUTHORIZATION");
        let mut name = if named { self.identifier()? } else { String::new() };
        if self.accept(&["AUTHORIZATION"]) {
            let role = self.identifier()?;
            if !named {
                name = role;
            }
        }
        if !self.at_end() {
            return Err(PgError::unsupported("CREATE SCHEMA with schema elements"));
        }
        Ok(Ast::CreateSchema(CreateSchema { name, if_not_exists }))
    }

    /// `CREATE TABLE t (..) [APPEND ONLY] [WITH (..)] [AS query]`: sqlparser reads as far as the column list.
    fn create_table(&mut self, at: usize, temporary: (bool, usize)) -> Result<Ast, PgError> {
        let (first, end) = (at + temporary.1, self.end_of_columns());
        // CREATE, without what it says of the table's kind, and the rest.
        let mut head = vec![self.peek().clone()];
        head.extend((first..end).map(|index| self.parser.peek_nth_token_ref(index).clone()));
        (0..end).for_each(|_| self.parser.advance_token());
        let statement = parser_of(&DIALECT, head).parse_statement().map_err(|error| self.translate(error))?;
        let ast::Statement::CreateTable(table) = statement else {
            return Err(PgError::unsupported(format!("the statement {statement}")));
        };
        for clause in [&["INHERITS"][..], &["PARTITION", "BY"]] {
            if self.is_words(clause) {
                return Err(PgError::unsupported(clause.join(" ")));
            }
        }
        self.rest_of_table(table, temporary.0)
    }

    /// What may follow the column list.
    fn rest_of_table(&mut self, mut table: ast::CreateTable, temporary: bool) -> Result<Ast, PgError> {
        let append_only = self.accept(&["APPEND", "ONLY"]);
        let options = if self.accept(&["WITH"]) { self.options()? } else { Options::new() };
        self.accept(&["WITHOUT", "OIDS"]);
        if self.accept(&["ON", "COMMIT"]) {
            let choices: [(&[&str], ast::OnCommit); 3] = [
                (&["PRESERVE", "ROWS"], ast::OnCommit::PreserveRows),
                (&["DELETE", "ROWS"], ast::OnCommit::DeleteRows),
                (&["DROP"], ast::OnCommit::Drop),
            ];
            let said = choices.into_iter().find(|(words, _)| self.accept(words));
            table.on_commit = Some(said.ok_or_else(|| self.syntax_error())?.1);
        }
        if self.accept(&["TABLESPACE"]) {
            self.identifier()?;
        }
        let query = if self.accept(&["AS"]) { Some(self.query()?) } else { None };
        if query.is_none() && table.columns.is_empty() && table.like.is_none() && table.partition_of.is_none() {
            // `CREATE TABLE t ()` has parentheses at least.
            self.no_columns()?;
        }
        let with_data = !self.accept(&["WITH", "NO", "DATA"]);
        self.accept(&["WITH", "DATA"]);
        Ok(Ast::CreateTable(CreateTable { table: Box::new(table), temporary, append_only, options, query, with_data }))
    }

    /// Errors: 42601 unless an empty column list stands just before.
    fn no_columns(&mut self) -> Result<(), PgError> {
        self.parser.prev_token();
        match self.accept_token(&Token::RParen) {
            true => Ok(()),
            false => {
                self.parser.advance_token();
                Err(self.syntax_error())
            }
        }
    }

    /// The first token from here that is behind a table's name and column list.
    fn end_of_columns(&self) -> usize {
        let mut depth = 0;
        for index in 0.. {
            match &self.parser.peek_nth_token_ref(index).token {
                Token::LParen => depth += 1,
                Token::RParen if depth == 1 => return index + 1,
                Token::RParen => depth -= 1,
                Token::EOF | Token::SemiColon => return index,
                token if depth == 0 && ["AS", "WITH", "ON"].iter().any(|word| super::is_word(token, word)) => {
                    return index;
                }
                _ => {}
            }
        }
        0
    }

    pub(super) fn is_words_at(&self, at: usize, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(index, word)| self.is_word(at + index, word))
    }

    /// After `CREATE [OR REPLACE] [MATERIALIZED] VIEW`. The query's text is the rest of the statement, but for EMIT.
    fn create_view(&mut self, or_replace: bool, materialized: bool) -> Result<Ast, PgError> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let mut columns = Vec::new();
        if self.accept_token(&Token::LParen) {
            columns = self.comma_separated(Self::identifier)?;
            self.expect_token(&Token::RParen)?;
        }
        let options = if self.accept(&["WITH"]) { self.options()? } else { Options::new() };
        self.expect(&["AS"])?;
        let start = self.peek().span.start.column as usize;
        let query = self.query()?;
        if self.is_word(0, "WITH") {
            return Err(PgError::unsupported(self.text_from(self.peek().span.start.column as usize)));
        }
        let rest = self.text_from(start);
        let end = self.peek().span.start.column as usize;
        let emit_on_window_close = self.accept(&["EMIT", "ON", "WINDOW", "CLOSE"]);
        let query_text = match emit_on_window_close {
            true => rest.chars().take(end.saturating_sub(start)).collect::<String>().trim_end().to_string(),
            false => rest.to_string(),
        };
        Ok(Ast::CreateView(CreateView {
            name,
            or_replace,
            materialized,
            if_not_exists,
            columns,
            options,
            query,
            query_text,
            emit_on_window_close,
        }))
    }

    pub(super) fn kind(&mut self, plural: bool) -> Option<Kind> {
        let kinds: [(&[&str], &[&str], Kind); 8] = [
            (&["TABLE"], &["TABLES"], Kind::Table),
            (&["SOURCE"], &["SOURCES"], Kind::Source),
            (&["CONNECTION"], &["CONNECTIONS"], Kind::Connection),
            (&["VIEW"], &["VIEWS"], Kind::View),
            (&["MATERIALIZED", "VIEW"], &["MATERIALIZED", "VIEWS"], Kind::MaterializedView),
            (&["INDEX"], &["INDEXES"], Kind::Index),
            (&["SEQUENCE"], &["SEQUENCES"], Kind::Sequence),
            (&["SCHEMA"], &["SCHEMAS"], Kind::Schema),
        ];
        kinds.into_iter().find(|(one, many, _)| self.accept(if plural { many } else { one })).map(|(_, _, kind)| kind)
    }

    fn drop(&mut self) -> Result<Ast, PgError> {
        self.accept(&["FOREIGN"]);
        let Some(kind) = self.kind(false) else {
            if UNSUPPORTED_OBJECTS.iter().any(|object| self.is_word(0, object)) {
                self.parser.prev_token();
                return Ok(self.unsupported());
            }
            return Err(self.syntax_error());
        };
        self.accept(&["CONCURRENTLY"]);
        let if_exists = self.accept(&["IF", "EXISTS"]);
        let names = self.comma_separated(Self::name)?;
        let cascade = self.accept(&["CASCADE"]);
        if !cascade {
            self.accept(&["RESTRICT"]);
        }
        Ok(Ast::Drop(Drop { kind, names, if_exists, cascade }))
    }

    /// After TRUNCATE.
    fn truncate(&mut self) -> Result<Truncate, PgError> {
        self.accept(&["TABLE"]);
        let tables = self.comma_separated(|parser| {
            parser.accept(&["ONLY"]);
            let name = parser.name()?;
            parser.accept_token(&Token::Mul);
            Ok(name)
        })?;
        let restart_identity = self.accept(&["RESTART", "IDENTITY"]);
        self.accept(&["CONTINUE", "IDENTITY"]);
        let cascade = self.accept(&["CASCADE"]);
        self.accept(&["RESTRICT"]);
        Ok(Truncate { tables, restart_identity, cascade })
    }

    fn show(&mut self) -> Result<Show, PgError> {
        if let Some(kind) = self.kind(true) {
            return Ok(Show::Objects(kind));
        }
        if self.accept(&["COLUMNS"]) {
            if !self.accept(&["FROM"]) {
                self.expect(&["IN"])?;
            }
            return Ok(Show::Columns(self.name()?));
        }
        if self.accept(&["CREATE"]) {
            let kind = self.kind(false).ok_or_else(|| self.syntax_error())?;
            return Ok(Show::Create(kind, self.name()?));
        }
        if self.accept(&["ALL"]) {
            return Ok(Show::All);
        }
        self.setting_name().map(Show::Setting)
    }

    pub(super) fn setting_name(&mut self) -> Result<String, PgError> {
        let spelled: [(&[&str], &str); 3] = [
            (&["TIME", "ZONE"], "timezone"),
            (&["TRANSACTION", "ISOLATION", "LEVEL"], "transaction_isolation"),
            (&["SESSION", "AUTHORIZATION"], "session_authorization"),
        ];
        if let Some((_, name)) = spelled.into_iter().find(|(words, _)| self.accept(words)) {
            return Ok(name.to_string());
        }
        let mut name = self.identifier()?.to_lowercase();
        while self.accept_token(&Token::Period) {
            name.push('.');
            name.push_str(&self.identifier()?.to_lowercase());
        }
        Ok(name)
    }

    fn set(&mut self) -> Result<Ast, PgError> {
        if self.accept(&["SESSION", "CHARACTERISTICS", "AS", "TRANSACTION"]) {
            let modes = self.transaction_modes()?;
            let value = modes.isolation.unwrap_or_else(|| "serializable".to_string());
            let name = "default_transaction_isolation".to_string();
            return Ok(Ast::Set(Set { name, value: Some(value), local: false }));
        }
        if self.accept(&["TRANSACTION"]) {
            return Ok(Ast::SetTransaction(self.transaction_modes()?));
        }
        if self.accept(&["CONSTRAINTS"]) {
            let names = match self.accept(&["ALL"]) {
                true => None,
                false => Some(self.comma_separated(|parser| Ok(parser.name()?.name))?),
            };
            let deferred = self.accept(&["DEFERRED"]);
            if !deferred {
                self.expect(&["IMMEDIATE"])?;
            }
            return Ok(Ast::SetConstraints(names, deferred));
        }
        let local = self.accept(&["LOCAL"]);
        if !local && !self.is_words(&["SESSION", "AUTHORIZATION"]) {
            self.accept(&["SESSION"]);
        }
        if self.accept(&["NAMES"]) {
            let value = self.setting_value()?;
            return Ok(Ast::Set(Set { name: "client_encoding".to_string(), value, local }));
        }
        if self.accept(&["ROLE"]) {
            let value = self.setting_value()?;
            return Ok(Ast::Set(Set { name: "role".to_string(), value, local }));
        }
        let name = self.setting_name()?;
        let said = self.accept_token(&Token::Eq) || self.accept(&["TO"]);
        if !said && name != "timezone" && name != "session_authorization" {
            return Err(self.syntax_error());
        }
        Ok(Ast::Set(Set { name, value: self.setting_value()?, local }))
    }

    pub(super) fn setting_value(&mut self) -> Result<Option<String>, PgError> {
        if self.accept(&["DEFAULT"]) || (self.is_word(0, "LOCAL") && self.accept(&["LOCAL"])) {
            return Ok(None);
        }
        if self.at_end() {
            return Err(self.syntax_error());
        }
        Ok(Some(self.comma_separated(Self::option_value)?.join(", ")))
    }

    fn reset(&mut self) -> Result<Ast, PgError> {
        if self.accept(&["ALL"]) {
            return Ok(Ast::Reset(None));
        }
        self.setting_name().map(|name| Ast::Reset(Some(name)))
    }

    fn explain(&mut self) -> Result<Explain, PgError> {
        if self.accept(&["ANALYZE"]) {
            return Err(PgError::unsupported("EXPLAIN ANALYZE"));
        }
        self.accept(&["VERBOSE"]);
        self.accept(&["PLAN", "FOR"]);
        // Parentheses hold options, or a query.
        if self.is_token(&Token::LParen)
            && !["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|word| self.is_word(1, word))
        {
            let options = match self.parser.peek_nth_token_ref(1).token {
                Token::LParen => Options::new(),
                _ => self.options()?,
            };
            if options.get("analyze").is_some_and(|value| value != "false" && value != "off") {
                return Err(PgError::unsupported("EXPLAIN ANALYZE"));
            }
            if options.get("format").is_some_and(|format| format != "text") {
                return Err(PgError::unsupported("EXPLAIN in another format than text"));
            }
        }
        if let Some(kind) = self.kind(false) {
            return Ok(Explain::Object(kind, self.name()?));
        }
        self.inner_statement().map(Explain::Statement)
    }

    fn subscribe(&mut self) -> Result<Subscribe, PgError> {
        self.accept(&["TO"]);
        let target = match self.is_token(&Token::LParen) {
            true => {
                self.expect_token(&Token::LParen)?;
                let query = self.query()?;
                self.expect_token(&Token::RParen)?;
                SubscribeTarget::Query(query)
            }
            false if self.is_word(0, "SELECT") || self.is_word(0, "VALUES") => SubscribeTarget::Query(self.query()?),
            false => SubscribeTarget::Relation(self.name()?),
        };
        let mut as_of = self.as_of()?;
        let options = if self.accept(&["WITH"]) { self.options()? } else { Options::new() };
        as_of = as_of.or(self.as_of()?);
        let up_to = if self.accept(&["UP", "TO"]) { Some(self.sql(Parser::parse_expr)?) } else { None };
        let flag = |name: &str, default: bool| match options.get(name) {
            None => Ok(default),
            Some(value) => boolean_option(name, value),
        };
        if let Some(unknown) = options.keys().find(|name| !["snapshot", "progress"].contains(&name.as_str())) {
            return Err(PgError::new(SqlState::SYNTAX_ERROR, format!("option \"{unknown}\" not recognized")));
        }
        let (snapshot, progress) = (flag("snapshot", true)?, flag("progress", false)?);
        Ok(Subscribe { target, snapshot, progress, as_of, up_to })
    }

    /// The moment after AS OF, if that comes next.
    fn as_of(&mut self) -> Result<Option<ast::Expr>, PgError> {
        if self.accept(&[super::as_of::MARK]) { self.sql(Parser::parse_expr).map(Some) } else { Ok(None) }
    }

    fn copy(&mut self) -> Result<Ast, PgError> {
        if self.accept_token(&Token::LParen) {
            let source = match self.accept(&["SUBSCRIBE"]) {
                true => CopySource::Subscribe(self.subscribe()?),
                false => CopySource::Query(self.query()?),
            };
            self.expect_token(&Token::RParen)?;
            self.expect(&["TO"])?;
            return self.copy_out(source);
        }
        let start = self.peek().span.start.column as usize;
        let table = self.name()?;
        let mut columns = Vec::new();
        if self.accept_token(&Token::LParen) {
            columns = self.comma_separated(Self::identifier)?;
            self.expect_token(&Token::RParen)?;
        }
        if self.accept(&["FROM"]) {
            if !self.accept(&["STDIN"]) {
                return Err(self.copy_place());
            }
            let options = self.copy_options()?;
            return Ok(Ast::CopyIn(CopyIn { table, columns, options }));
        }
        self.expect(&["TO"])?;
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let list = match columns.is_empty() {
            true => "*".to_string(),
            false => columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", "),
        };
        let schema = table.schema.as_ref().map_or(String::new(), |schema| quoted(schema) + ".");
        let query = super::parse_query(&format!("SELECT {list} FROM {schema}{}", quoted(&table.name)))
            .map_err(|error| error.at(start as u32))?;
        self.copy_out(CopySource::Query(Box::new(query)))
    }

    fn copy_out(&mut self, source: CopySource) -> Result<Ast, PgError> {
        if !self.accept(&["STDOUT"]) {
            return Err(self.copy_place());
        }
        let options = self.copy_options()?;
        Ok(Ast::CopyOut(CopyOut { source, options }))
    }

    /// COPY reads and writes the client's side of the connection only.
    fn copy_place(&self) -> PgError {
        match &self.peek().token {
            Token::SingleQuotedString(_) | Token::Word(_) => {
                PgError::unsupported("COPY with a file or program on the server")
                    .with_hint("Use COPY FROM STDIN or TO STDOUT, or psql's \\copy.")
            }
            _ => self.syntax_error(),
        }
    }

    /// `[WITH] (FORMAT csv, HEADER)`, and the form from before PostgreSQL 9.0: `[WITH] CSV HEADER DELIMITER ','`.
    fn copy_options(&mut self) -> Result<Options, PgError> {
        self.accept(&["WITH"]);
        if self.is_token(&Token::LParen) {
            return self.options();
        }
        let mut options = Options::new();
        while !self.at_end() {
            let word = self.identifier()?;
            match word.as_str() {
                "csv" | "binary" | "text" => options.insert("format".to_string(), word),
                "header" => options.insert(word, "true".to_string()),
                "delimiter" | "delimiters" | "null" | "quote" | "escape" => {
                    self.accept(&["AS"]);
                    let value = self.string()?;
                    options.insert(word.trim_end_matches("s").to_string(), value)
                }
                _ => {
                    self.parser.prev_token();
                    return Err(self.syntax_error());
                }
            };
        }
        Ok(options)
    }

    fn transaction_word(&mut self) {
        if !self.accept(&["WORK"]) {
            self.accept(&["TRANSACTION"]);
        }
    }

    fn begin(&mut self) -> Result<Ast, PgError> {
        self.transaction_word();
        self.transaction_modes().map(Ast::Begin)
    }

    fn transaction_end(&mut self, ast: Ast) -> Result<Ast, PgError> {
        if self.accept(&["AND", "NO", "CHAIN"]) {
            return Ok(ast);
        }
        if self.accept(&["AND", "CHAIN"]) {
            return Err(PgError::unsupported("AND CHAIN"));
        }
        if self.is_word(0, "PREPARED") {
            return Err(PgError::unsupported("two-phase commit"));
        }
        Ok(ast)
    }

    fn rollback(&mut self) -> Result<Ast, PgError> {
        self.transaction_word();
        if self.accept(&["TO"]) {
            self.accept(&["SAVEPOINT"]);
            return self.identifier().map(Ast::RollbackToSavepoint);
        }
        self.transaction_end(Ast::Rollback)
    }

    fn transaction_modes(&mut self) -> Result<TransactionModes, PgError> {
        let mut modes = TransactionModes::default();
        loop {
            if self.accept(&["ISOLATION", "LEVEL"]) {
                let levels: [(&[&str], &str); 4] = [
                    (&["SERIALIZABLE"], "serializable"),
                    (&["REPEATABLE", "READ"], "repeatable read"),
                    (&["READ", "COMMITTED"], "read committed"),
                    (&["READ", "UNCOMMITTED"], "read uncommitted"),
                ];
                let level = levels.into_iter().find(|(words, _)| self.accept(words));
                modes.isolation = Some(level.ok_or_else(|| self.syntax_error())?.1.to_string());
            } else if self.accept(&["READ", "ONLY"]) {
                modes.read_only = Some(true);
            } else if self.accept(&["READ", "WRITE"]) {
                modes.read_only = Some(false);
            } else if !self.accept(&["NOT", "DEFERRABLE"]) && !self.accept(&["DEFERRABLE"]) {
                return Ok(modes);
            }
            self.accept_token(&Token::Comma);
        }
    }

    fn declare(&mut self) -> Result<Declare, PgError> {
        let name = self.identifier()?;
        let (mut binary, mut hold, mut scroll) = (false, false, None);
        loop {
            if self.accept(&["BINARY"]) {
                binary = true;
            } else if self.accept(&["SCROLL"]) {
                scroll = Some(true);
            } else if self.accept(&["NO", "SCROLL"]) {
                scroll = Some(false);
            } else if !self.accept(&["INSENSITIVE"]) && !self.accept(&["ASENSITIVE"]) {
                break;
            }
        }
        self.expect(&["CURSOR"])?;
        if self.accept(&["WITH", "HOLD"]) {
            hold = true;
        } else {
            self.accept(&["WITHOUT", "HOLD"]);
        }
        self.expect(&["FOR"])?;
        let statement = self.inner_statement()?;
        if !matches!(statement.ast, Ast::Query(_) | Ast::Subscribe(_)) {
            return Err(self.syntax_error_at(statement.offset as u32 + 1));
        }
        Ok(Declare { name, binary, hold, scroll, statement })
    }

    /// After FETCH or MOVE.
    fn fetch(&mut self, only_move: bool) -> Result<Fetch, PgError> {
        let direction = self.fetch_direction()?;
        if !self.accept(&["FROM"]) {
            self.accept(&["IN"]);
        }
        let name = self.identifier()?;
        let mut options = if self.accept(&["WITH"]) { self.options()? } else { Options::new() };
        let timeout = options.remove("timeout");
        if let Some(unknown) = options.keys().next() {
            return Err(PgError::new(SqlState::SYNTAX_ERROR, format!("option \"{unknown}\" not recognized")));
        }
        Ok(Fetch { name, direction, only_move, timeout })
    }

    fn fetch_direction(&mut self) -> Result<FetchDirection, PgError> {
        let words: [(&str, FetchDirection); 4] = [
            ("NEXT", FetchDirection::Forward(1)),
            ("PRIOR", FetchDirection::Backward(1)),
            ("FIRST", FetchDirection::Absolute(1)),
            ("LAST", FetchDirection::Absolute(-1)),
        ];
        if let Some((_, direction)) = words.into_iter().find(|(word, _)| self.accept(&[word])) {
            return Ok(direction);
        }
        if self.accept(&["ABSOLUTE"]) {
            return self.signed_count().map(FetchDirection::Absolute);
        }
        if self.accept(&["RELATIVE"]) {
            return self.signed_count().map(FetchDirection::Relative);
        }
        let backward = self.accept(&["BACKWARD"]);
        if !backward {
            self.accept(&["FORWARD"]);
        }
        if self.accept(&["ALL"]) {
            return Ok(if backward { FetchDirection::BackwardAll } else { FetchDirection::ForwardAll });
        }
        let count = match self.peek().token {
            Token::Number(..) | Token::Minus | Token::Plus => self.signed_count()?,
            _ => 1,
        };
        // Forward by a negative count is backward.
        Ok(match backward == (count < 0) {
            true => FetchDirection::Forward(count.unsigned_abs()),
            false => FetchDirection::Backward(count.unsigned_abs()),
        })
    }

    fn signed_count(&mut self) -> Result<i64, PgError> {
        let negative = self.accept_token(&Token::Minus);
        if !negative {
            self.accept_token(&Token::Plus);
        }
        let here = self.syntax_error();
        let count = i64::try_from(self.sql(Parser::parse_literal_uint)?).map_err(|_| here)?;
        Ok(if negative { -count } else { count })
    }

    fn one_or_all(&mut self) -> Result<Option<String>, PgError> {
        if self.accept(&["ALL"]) { Ok(None) } else { self.identifier().map(Some) }
    }

    fn prepare(&mut self) -> Result<Ast, PgError> {
        if self.is_word(0, "TRANSACTION") {
            return Err(PgError::unsupported("two-phase commit"));
        }
        let name = self.identifier()?;
        let mut types = Vec::new();
        if self.accept_token(&Token::LParen) {
            types = self.comma_separated(|parser| parser.sql(Parser::parse_data_type))?;
            self.expect_token(&Token::RParen)?;
        }
        self.expect(&["AS"])?;
        let statement = self.inner_statement()?;
        Ok(Ast::Prepare(Prepare { name, types, statement }))
    }

    fn execute(&mut self) -> Result<Execute, PgError> {
        let name = self.identifier()?;
        let mut parameters = Vec::new();
        if self.accept_token(&Token::LParen) && !self.accept_token(&Token::RParen) {
            parameters = self.comma_separated(|parser| parser.sql(Parser::parse_expr))?;
            self.expect_token(&Token::RParen)?;
        }
        Ok(Execute { name, parameters })
    }

    fn discard(&mut self) -> Result<DiscardTarget, PgError> {
        let targets: [(&str, DiscardTarget); 5] = [
            ("ALL", DiscardTarget::All),
            ("PLANS", DiscardTarget::Plans),
            ("SEQUENCES", DiscardTarget::Sequences),
            ("TEMP", DiscardTarget::Temp),
            ("TEMPORARY", DiscardTarget::Temp),
        ];
        let target = targets.into_iter().find(|(word, _)| self.accept(&[word]));
        target.map(|(_, target)| target).ok_or_else(|| self.syntax_error())
    }
}

/// A boolean as options spell it: `true`, `on`, `yes`, `1` and their opposites. Errors: 42601 as PostgreSQL's defGetBoolean.
pub(crate) fn boolean_option(name: &str, value: &str) -> Result<bool, PgError> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" | "t" => Ok(true),
        "false" | "off" | "no" | "0" | "f" => Ok(false),
        _ => Err(PgError::new(SqlState::SYNTAX_ERROR, format!("{name} requires a Boolean value"))),
    }
}
