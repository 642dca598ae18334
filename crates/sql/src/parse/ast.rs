//! The statements Tidewater knows. Queries, INSERT, UPDATE, DELETE, CREATE TABLE and CREATE INDEX are sqlparser's nodes;
//! the others are ours, because sqlparser either does not know them or keeps too little of their text.

use std::collections::BTreeMap;

use sqlparser::ast;

use super::{Alter, Comment, Maintenance, NotifyStatement, RoleStatement, SequenceOptions, Statement};

/// A statement as it was written; nothing is looked up yet.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // Each variant is the statement of that name.
pub enum Ast {
    Query(Box<ast::Query>),
    /// A query as of a moment.
    QueryAsOf(Box<ast::Query>, ast::Expr),
    Insert(Box<ast::Insert>, Overriding),
    Update(Box<ast::Update>),
    Delete(Box<ast::Delete>),
    CreateTable(CreateTable),
    CreateSource(CreateSource),
    CreateConnection(CreateConnection),
    CreateView(CreateView),
    CreateIndex(Box<ast::CreateIndex>),
    CreateSequence(CreateSequence),
    CreateSchema(CreateSchema),
    Alter(Alter),
    Comment(Comment),
    Maintenance(Maintenance),
    Drop(Drop),
    Truncate(Truncate),
    Show(Show),
    Set(Set),
    /// RESET of one setting, or of ALL.
    Reset(Option<String>),
    SetTransaction(TransactionModes),
    /// Of these, or of ALL; whether DEFERRED.
    SetConstraints(Option<Vec<String>>, bool),
    Explain(Explain),
    Subscribe(Subscribe),
    CopyOut(CopyOut),
    CopyIn(CopyIn),
    Begin(TransactionModes),
    Commit,
    Rollback,
    Savepoint(String),
    ReleaseSavepoint(String),
    RollbackToSavepoint(String),
    Declare(Declare),
    Fetch(Fetch),
    /// CLOSE of one cursor, or of ALL.
    Close(Option<String>),
    Prepare(Prepare),
    Execute(Execute),
    /// DEALLOCATE of one prepared statement, or of ALL.
    Deallocate(Option<String>),
    Discard(DiscardTarget),
    Checkpoint,
    Notify(NotifyStatement),
    Role(RoleStatement),
    /// PostgreSQL has it, we do not: `ALTER TABLE`, `GRANT`.
    Unsupported(String),
}

/// What INSERT says of values for identity columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overriding {
    /// Nothing.
    #[default]
    No,
    /// OVERRIDING SYSTEM VALUE: the values inserted count.
    System,
    /// OVERRIDING USER VALUE: the sequence's count.
    User,
}

/// The name of an object, folded to lower case where it was not quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The schema, where it was said.
    pub schema: Option<String>,
    /// The name within it.
    pub name: String,
    /// Where it stands in the statement, a 1-based count of characters.
    pub position: u32,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Option names in lower case (`start_offset`, `properties.acks`) and values, unquoted; `true` for one without a value.
pub type Options = BTreeMap<String, String>;

/// CREATE SOURCE.
#[derive(Clone, Debug)]
pub struct CreateSource {
    pub(crate) name: Name,
    pub(crate) if_not_exists: bool,
    pub(crate) columns: Vec<ast::ColumnDef>,
    pub(crate) constraints: Vec<ast::TableConstraint>,
    /// `file`, `kafka`, `load_generator`; None where WITH (connector = ..) says it.
    pub(crate) connector: Option<String>,
    pub(crate) connection: Option<Name>,
    /// Options of the relation, not of where it comes from; with WITH (connector = ..) both are among `options`.
    pub(crate) row_options: Options,
    pub(crate) options: Options,
    pub(crate) format: Option<String>,
    pub(crate) format_options: Options,
    /// With `LATE ROWS INTO name`, the statements that make the source without its late rows and the one that is these.
    pub(crate) late_into: Option<[String; 2]>,
}

/// CREATE CONNECTION.
#[derive(Clone, Debug)]
pub struct CreateConnection {
    pub(crate) name: Name,
    pub(crate) if_not_exists: bool,
    pub(crate) connector: String,
    pub(crate) options: Options,
}

/// CREATE TABLE.
#[derive(Clone, Debug)]
pub struct CreateTable {
    /// All of it but what follows.
    pub(crate) table: Box<ast::CreateTable>,
    pub(crate) temporary: bool,
    pub(crate) append_only: bool,
    /// WITH (..).
    pub(crate) options: Options,
    /// AS query.
    pub(crate) query: Option<Box<ast::Query>>,
    /// Not WITH NO DATA.
    pub(crate) with_data: bool,
}

/// CREATE SEQUENCE.
#[derive(Clone, Debug)]
pub struct CreateSequence {
    pub(crate) name: Name,
    pub(crate) temporary: bool,
    pub(crate) if_not_exists: bool,
    pub(crate) options: SequenceOptions,
}

/// CREATE SCHEMA.
#[derive(Clone, Debug)]
pub struct CreateSchema {
    pub(crate) name: String,
    pub(crate) if_not_exists: bool,
}

/// TRUNCATE.
#[derive(Clone, Debug)]
pub struct Truncate {
    pub(crate) tables: Vec<Name>,
    pub(crate) restart_identity: bool,
    pub(crate) cascade: bool,
}

/// CREATE VIEW and CREATE MATERIALIZED VIEW.
#[derive(Clone, Debug)]
pub struct CreateView {
    pub(crate) name: Name,
    pub(crate) or_replace: bool,
    pub(crate) materialized: bool,
    pub(crate) if_not_exists: bool,
    pub(crate) columns: Vec<String>,
    pub(crate) options: Options,
    pub(crate) query: Box<ast::Query>,
    pub(crate) query_text: String,
    /// Whether `EMIT ON WINDOW CLOSE` follows the query.
    pub(crate) emit_on_window_close: bool,
}

/// What DROP and SHOW name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Each variant is the kind of that name.
pub enum Kind {
    Table,
    Source,
    Connection,
    View,
    MaterializedView,
    Index,
    Sequence,
    Schema,
}

impl Kind {
    /// What PostgreSQL's messages call it, as [`catalog::Object::kind_name`].
    pub fn name(self) -> &'static str {
        match self {
            Kind::Table => "table",
            Kind::Source => "source",
            Kind::Connection => "connection",
            Kind::View => "view",
            Kind::MaterializedView => "materialized view",
            Kind::Index => "index",
            Kind::Sequence => "sequence",
            Kind::Schema => "schema",
        }
    }
}

/// DROP.
#[derive(Clone, Debug)]
pub struct Drop {
    pub(crate) kind: Kind,
    pub(crate) names: Vec<Name>,
    pub(crate) if_exists: bool,
    pub(crate) cascade: bool,
}

/// SHOW.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // Said by what is shown.
pub enum Show {
    /// SHOW TABLES, SOURCES, ..
    Objects(Kind),
    /// SHOW COLUMNS FROM a relation.
    Columns(Name),
    /// SHOW CREATE kind name.
    Create(Kind, Name),
    /// SHOW ALL.
    All,
    /// SHOW of one setting, its name in lower case.
    Setting(String),
}

/// SET.
#[derive(Clone, Debug)]
pub struct Set {
    pub(crate) name: String,
    /// None for DEFAULT. The elements of a list are joined by `, `.
    pub(crate) value: Option<String>,
    pub(crate) local: bool,
}

/// What BEGIN and SET TRANSACTION say of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionModes {
    /// `serializable`, `repeatable read`, `read committed`, `read uncommitted`.
    pub isolation: Option<String>,
    /// READ ONLY or READ WRITE, where one was said.
    pub read_only: Option<bool>,
}

/// EXPLAIN.
#[derive(Clone, Debug)]
pub enum Explain {
    /// Of a statement.
    Statement(Box<Statement>),
    /// EXPLAIN MATERIALIZED VIEW or INDEX: of what runs already.
    Object(Kind, Name),
}

/// SUBSCRIBE.
#[derive(Clone, Debug)]
pub struct Subscribe {
    pub(crate) target: SubscribeTarget,
    pub(crate) snapshot: bool,
    pub(crate) progress: bool,
    /// Updates after this moment, the snapshot as of it.
    pub(crate) as_of: Option<ast::Expr>,
    /// Where it ends: updates at this moment and later are not told.
    pub(crate) up_to: Option<ast::Expr>,
}

/// What a SUBSCRIBE follows.
#[derive(Clone, Debug)]
pub(crate) enum SubscribeTarget {
    Relation(Name),
    Query(Box<ast::Query>),
}

/// COPY .. TO STDOUT.
#[derive(Clone, Debug)]
pub struct CopyOut {
    pub(crate) source: CopySource,
    pub(crate) options: Options,
}

/// What a COPY sends.
#[derive(Clone, Debug)]
pub(crate) enum CopySource {
    Query(Box<ast::Query>),
    Subscribe(Subscribe),
}

/// COPY table FROM STDIN.
#[derive(Clone, Debug)]
pub struct CopyIn {
    pub(crate) table: Name,
    pub(crate) columns: Vec<String>,
    pub(crate) options: Options,
}

/// DECLARE name CURSOR.
#[derive(Clone, Debug)]
pub struct Declare {
    pub(crate) name: String,
    pub(crate) binary: bool,
    pub(crate) hold: bool,
    /// SCROLL or NO SCROLL, where one was said.
    pub(crate) scroll: Option<bool>,
    pub(crate) statement: Box<Statement>,
}

/// FETCH and MOVE.
#[derive(Clone, Debug)]
pub struct Fetch {
    pub(crate) name: String,
    pub(crate) direction: FetchDirection,
    /// MOVE: nothing is returned.
    pub(crate) only_move: bool,
    /// WITH (TIMEOUT = ..), an interval's text.
    pub(crate) timeout: Option<String>,
}

/// Where FETCH and MOVE go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchDirection {
    /// So many rows on; none is the row where the cursor is.
    Forward(u64),
    /// To the end.
    ForwardAll,
    /// So many rows back.
    Backward(u64),
    /// To the start.
    BackwardAll,
    /// To the row of this number, from the end if it is negative.
    Absolute(i64),
    /// To the row so far from here.
    Relative(i64),
}

/// PREPARE.
#[derive(Clone, Debug)]
pub struct Prepare {
    pub(crate) name: String,
    pub(crate) types: Vec<ast::DataType>,
    pub(crate) statement: Box<Statement>,
}

/// EXECUTE.
#[derive(Clone, Debug)]
pub struct Execute {
    pub(crate) name: String,
    pub(crate) parameters: Vec<ast::Expr>,
}

/// What DISCARD drops from the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Each variant is the keyword.
pub enum DiscardTarget {
    All,
    Plans,
    Sequences,
    Temp,
}
