//! Binding a statement: names looked up, options checked, queries planned. What comes out is all that `engine` needs to run it.
//!
//! One file a statement under `statement/`; the list is [`BoundStatement`], the dispatch is [`bind`].

pub mod alter;
mod column;
mod comment;
pub(crate) mod constraint;
mod copy;
mod create_connection;
mod create_index;
mod create_schema;
mod create_source;
mod create_table;
mod create_view;
mod delete;
mod drop;
mod explain;
mod insert;
mod prepare;
mod returning;
mod role;
mod rules;
pub(crate) mod sequence;
mod show;
mod subscribe;
mod truncate;
mod update;
mod watermark;

use std::sync::Arc;
use std::time::Duration;

use catalog::system::quote_identifier;
use catalog::{Object, ObjectKind, Position};
use datafusion::logical_expr::Expr;
use repr::source::{Options, SourceDescription};
use repr::text::interval::parse_interval;
use repr::{ObjectId, PgError, RelationSchema, SqlState, SqlType, ViewOptions};

use crate::bind::{BindContext, BoundQuery, bind_moment, bind_query};
use crate::parse::{
    Alter, Ast, DiscardTarget, FetchDirection, Kind, Name, NotifyStatement, RoleStatement, Statement, TransactionModes,
};
use crate::typed::TypedExpr;

pub use copy::{CopyFormat, CopyOptions, CopyOutSource};
pub use explain::Explained;
pub use insert::OnConflict;
pub use returning::Returning;
pub use rules::{TableRules, check_condition, default_values, table_rules};

/// A statement ready to run.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // Variants are the statements of that name, fields what the statement says.
pub enum BoundStatement {
    Query(BoundQuery),
    Insert {
        table: ObjectId,
        /// All columns of the table in order, cast to their types.
        rows: BoundQuery,
        on_conflict: OnConflict,
        returning: Option<Returning>,
    },
    Update {
        table: ObjectId,
        /// The old row's columns, then the new row's.
        rows: BoundQuery,
        /// Over the new row.
        returning: Option<Returning>,
    },
    Delete {
        table: ObjectId,
        /// The old row's columns.
        rows: BoundQuery,
        /// Over the old row.
        returning: Option<Returning>,
    },
    /// CREATE, ALTER and COMMENT of what is no query: what they do, in order, all of it or nothing.
    Define {
        tag: &'static str,
        steps: Vec<Step>,
    },
    /// VACUUM and its kin: nothing is done, but that LOCK TABLE makes the transaction fail if somebody writes the tables.
    Maintenance {
        tag: &'static str,
        locked: Vec<ObjectId>,
    },
    /// The table, to be filled with the query's rows.
    CreateTableAs {
        table: Box<Object>,
        query: BoundQuery,
        with_data: bool,
    },
    /// A source and, under another name, its late rows: two statements and their texts.
    CreateSources(Vec<(BoundStatement, String)>),
    CreateSource {
        schema_name: String,
        name: String,
        /// The connection's options are among its options already.
        description: SourceDescription,
        if_not_exists: bool,
        /// The connection.
        depends_on: Vec<ObjectId>,
    },
    CreateConnection {
        schema_name: String,
        name: String,
        connector: String,
        options: Options,
        if_not_exists: bool,
    },
    CreateView {
        schema_name: String,
        name: String,
        /// Its schema has the view's column names.
        query: BoundQuery,
        query_text: String,
        or_replace: bool,
        materialized: bool,
        options: ViewOptions,
        if_not_exists: bool,
    },
    Drop {
        kind: Kind,
        /// In the order they were named.
        objects: Vec<ObjectId>,
        /// Names that do not exist where IF EXISTS was said, for a notice each.
        missing: Vec<String>,
        cascade: bool,
    },
    /// Each table once, with a query for all its rows.
    Truncate {
        tables: Vec<(ObjectId, BoundQuery)>,
        restart_identity: bool,
    },
    ShowObjects(Kind),
    ShowColumns(ObjectId),
    ShowCreate(ObjectId),
    /// SHOW of one setting; None is ALL.
    ShowSetting(Option<String>),
    Set {
        name: String,
        /// None is DEFAULT.
        value: Option<String>,
        /// SET LOCAL: until the end of the transaction.
        local: bool,
    },
    /// None is ALL.
    Reset(Option<String>),
    SetTransaction(TransactionModes),
    SetConstraints {
        /// None is ALL.
        names: Option<Vec<String>>,
        deferred: bool,
    },
    Explain(Explained),
    Subscribe {
        query: BoundQuery,
        /// The relation, where one was named: its own dataflow can be followed.
        relation: Option<ObjectId>,
        snapshot: bool,
        progress: bool,
        /// The moment before which it ends, bound as [`BoundQuery::as_of`] is.
        up_to: Option<Expr>,
    },
    CopyOut {
        source: CopyOutSource,
        options: CopyOptions,
    },
    CopyIn {
        table: ObjectId,
        /// Indexes of the table's columns that the data has, in its order.
        columns: Vec<usize>,
        options: CopyOptions,
    },
    Begin(TransactionModes),
    Commit,
    Rollback,
    Savepoint(String),
    ReleaseSavepoint(String),
    RollbackToSavepoint(String),
    Declare {
        name: String,
        binary: bool,
        hold: bool,
        /// SCROLL or NO SCROLL, where one was said.
        scroll: Option<bool>,
        statement: Box<BoundStatement>,
    },
    Fetch {
        name: String,
        direction: FetchDirection,
        /// MOVE.
        only_move: bool,
        /// How long to wait for the rows of a SUBSCRIBE.
        timeout: Option<Duration>,
    },
    /// None is ALL.
    Close(Option<String>),
    Prepare {
        name: String,
        parameter_types: Vec<Option<SqlType>>,
        statement: Box<Statement>,
    },
    Execute {
        name: String,
        /// Not yet cast to the types the prepared statement has for them.
        parameters: Vec<TypedExpr>,
    },
    /// None is ALL.
    Deallocate(Option<String>),
    Discard(DiscardTarget),
    Checkpoint,
    Notify(NotifyStatement),
    Role(RoleStatement),
}

/// One step of a [`BoundStatement::Define`].
#[derive(Clone, Debug)]
pub enum Step {
    /// Another statement, bound when the steps before have run.
    Statement(String),
    /// One action of an ALTER, see [`alter::steps`].
    Alter(Arc<Alter>, usize),
    /// Makes an object. Its id is still to be given.
    Create(Box<Object>),
    /// Puts the object in the place of the one with its id. What it promises of rows that are there is checked.
    Replace(Box<Object>),
    /// Puts a table with other columns in the place of the one with its id, and its rows with it.
    Rewrite(Box<Rewrite>),
    /// Drops objects.
    Drop {
        /// By id.
        objects: Vec<ObjectId>,
        /// And what depends on them.
        cascade: bool,
    },
    /// Errors with `2BP01` if a view reads the column; drops such views where `cascade` is said.
    DropColumnUsers {
        /// The table.
        table: ObjectId,
        /// The index of its column.
        column: usize,
        /// Drop them.
        cascade: bool,
    },
    /// Errors with `0A000` if a view reads the column.
    CheckColumnUnused {
        /// The table.
        table: ObjectId,
        /// The index of its column.
        column: usize,
    },
    /// Puts a sequence somewhere else.
    MoveSequence {
        /// The sequence.
        oid: u32,
        /// Where it stands from now on.
        position: Position,
    },
    /// Drops the relation of this schema and name when the transaction ends well.
    DropAtCommit(String, String),
    /// Tells the client.
    Notice(PgError),
}

/// A table with other columns.
#[derive(Clone, Debug)]
pub struct Rewrite {
    /// The table as it will be, under the id it has.
    pub object: Object,
    /// Each of its columns over the columns it had, which are named without a qualifier.
    pub columns: Vec<Expr>,
    /// By index of a column it had, where that is now; None for one that is dropped.
    pub kept: Vec<Option<usize>>,
}

/// Where an object is to be made.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) schema: String,
    pub(crate) name: String,
}

impl Target {
    /// As SQL text.
    fn qualified(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }

    /// IF NOT EXISTS of something that does.
    fn skipped(&self, tag: &'static str) -> BoundStatement {
        let message = format!("relation \"{}\" already exists, skipping", self.name);
        BoundStatement::Define { tag, steps: vec![Step::Notice(PgError::new(SqlState::DUPLICATE_TABLE, message))] }
    }
}

/// The stack that a statement deeper than [`SHALLOW`] is bound on.
const DEEP_STACK_BYTES: usize = 64 << 20;

/// Statements of this depth fit any thread's stack.
const SHALLOW: u32 = 30;

/// Binds `statement` against the catalog. Positions of errors count in the statement's own text.
pub fn bind(statement: &Statement, context: &BindContext) -> Result<BoundStatement, PgError> {
    match statement.depth > SHALLOW {
        true => stacker::grow(DEEP_STACK_BYTES, || bind_ast(statement, context)),
        false => bind_ast(statement, context),
    }
}

fn bind_ast(statement: &Statement, context: &BindContext) -> Result<BoundStatement, PgError> {
    Ok(match &statement.ast {
        Ast::Query(query) => BoundStatement::Query(bind_query(query, context)?),
        Ast::QueryAsOf(query, at) => {
            let as_of = Some(bind_moment(at, context)?);
            BoundStatement::Query(BoundQuery { as_of, ..bind_query(query, context)? })
        }
        Ast::Insert(insert, overriding) => insert::bind(insert, *overriding, context)?,
        Ast::Update(update) => update::bind(update, context)?,
        Ast::Delete(delete) => delete::bind(delete, context)?,
        Ast::CreateTable(table) => create_table::bind(table, context)?,
        Ast::CreateSource(source) => create_source::bind(source, context)?,
        Ast::CreateConnection(connection) => create_connection::bind(connection, context)?,
        Ast::CreateView(view) => create_view::bind(view, context)?,
        Ast::CreateIndex(index) => create_index::bind(index, context)?,
        Ast::CreateSequence(sequence) => sequence::bind(sequence, context)?,
        Ast::CreateSchema(schema) => create_schema::bind(schema, context)?,
        Ast::Alter(alter) => alter::bind(alter, context)?,
        Ast::Comment(comment) => comment::bind(comment, context)?,
        Ast::Maintenance(maintenance) => {
            let object = |name: &Name| match maintenance.kind {
                Some(kind) => drop::resolve_kind(kind, name, context).map(|object| object.id),
                None => resolve(name, context).map(|object| object.id),
            };
            let named = maintenance.relations.iter().map(object).collect::<Result<Vec<ObjectId>, PgError>>()?;
            let locked = if maintenance.locks { named } else { Vec::new() };
            BoundStatement::Maintenance { tag: maintenance.tag, locked }
        }
        Ast::Drop(drop) => drop::bind(drop, context)?,
        Ast::Truncate(truncate) => truncate::bind(truncate, context)?,
        Ast::Show(show) => show::bind(show, context)?,
        Ast::Set(set) => BoundStatement::Set { name: set.name.clone(), value: set.value.clone(), local: set.local },
        Ast::Reset(name) => BoundStatement::Reset(name.clone()),
        Ast::SetTransaction(modes) => BoundStatement::SetTransaction(modes.clone()),
        Ast::SetConstraints(names, deferred) => {
            BoundStatement::SetConstraints { names: names.clone(), deferred: *deferred }
        }
        Ast::Explain(explain) => explain::bind(explain, context)?,
        Ast::Subscribe(subscribe) => subscribe::bind(subscribe, context)?,
        Ast::CopyOut(copy) => copy::bind_out(copy, context)?,
        Ast::CopyIn(copy) => copy::bind_in(copy, context)?,
        Ast::Begin(modes) => BoundStatement::Begin(modes.clone()),
        Ast::Commit => BoundStatement::Commit,
        Ast::Rollback => BoundStatement::Rollback,
        Ast::Savepoint(name) => BoundStatement::Savepoint(name.clone()),
        Ast::ReleaseSavepoint(name) => BoundStatement::ReleaseSavepoint(name.clone()),
        Ast::RollbackToSavepoint(name) => BoundStatement::RollbackToSavepoint(name.clone()),
        Ast::Declare(declare) => BoundStatement::Declare {
            name: declare.name.clone(),
            binary: declare.binary,
            hold: declare.hold,
            scroll: declare.scroll,
            statement: Box::new(bind_inner(&declare.statement, context)?),
        },
        Ast::Fetch(fetch) => BoundStatement::Fetch {
            name: fetch.name.clone(),
            direction: fetch.direction,
            only_move: fetch.only_move,
            timeout: fetch.timeout.as_deref().map(length_of_time).transpose()?,
        },
        Ast::Close(name) => BoundStatement::Close(name.clone()),
        Ast::Prepare(prepare) => prepare::bind_prepare(prepare)?,
        Ast::Execute(execute) => prepare::bind_execute(execute, context)?,
        Ast::Deallocate(name) => BoundStatement::Deallocate(name.clone()),
        Ast::Discard(target) => BoundStatement::Discard(*target),
        Ast::Checkpoint => BoundStatement::Checkpoint,
        Ast::Notify(notify) => BoundStatement::Notify(notify.clone()),
        Ast::Role(statement) => role::bind(statement, context)?,
        Ast::Unsupported(what) => return Err(PgError::unsupported(what)),
    })
}

/// Binds the statement inside another one. Its tokens are counted from the start of the whole, so positions hold.
fn bind_inner(statement: &Statement, context: &BindContext) -> Result<BoundStatement, PgError> {
    bind_ast(statement, context)
}

/// Where CREATE puts `name`. Errors: 3F000 for a schema there is not, 42939 for one of the system's.
fn creation_target(name: &Name, temporary: bool, context: &BindContext) -> Result<Target, PgError> {
    let in_temporary = temporary || name.schema.as_deref() == Some("pg_temp");
    let schema = match (&name.schema, &context.search_path.temporary) {
        (Some(schema), own) if temporary && schema != "pg_temp" && own.as_ref() != Some(schema) => {
            let message = "cannot create temporary relation in non-temporary schema";
            return Err(PgError::new(SqlState::INVALID_TABLE_DEFINITION, message).at(name.position));
        }
        (_, Some(own)) if in_temporary => own.clone(),
        (_, None) if in_temporary => return Err(PgError::unsupported("a temporary relation here")),
        (Some(schema), _) => existing_schema(schema, context).map_err(|error| error.at(name.position))?,
        (None, _) => match context.search_path.creation_schema(context.catalog) {
            Some(schema) => schema.to_string(),
            None => {
                let message = "no schema has been selected to create in";
                return Err(PgError::new(SqlState::INVALID_SCHEMA_NAME, message).at(name.position));
            }
        },
    };
    if ["pg_catalog", "tw_catalog", "information_schema"].contains(&schema.as_str()) {
        return Err(PgError::new(SqlState::RESERVED_NAME, format!("permission denied to create \"{name}\""))
            .with_detail("System catalog modifications are disallowed."));
    }
    Ok(Target { schema, name: name.name.clone() })
}

/// `schema`, if it is there. Errors: 3F000.
fn existing_schema(schema: &str, context: &BindContext) -> Result<String, PgError> {
    match context.catalog.has_schema(schema) {
        true => Ok(schema.to_string()),
        false => Err(PgError::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{schema}\" does not exist"))),
    }
}

/// Makes an object depend on the schema it is in, and no longer on `before`.
pub fn depend_on_schema(object: &mut Object, before: &str, context: &BindContext) {
    if let Some(before) = context.catalog.schema(before) {
        object.depends_on.retain(|id| *id != before.id);
    }
    // What is part of a relation goes with that.
    let part = matches!(object.kind, ObjectKind::Index { .. } | ObjectKind::Constraint(_));
    if let Some(schema) = context.catalog.schema(&object.schema).filter(|_| !part)
        && !object.depends_on.contains(&schema.id)
    {
        object.depends_on.push(schema.id);
    }
}

/// The object called `name`. Errors: 42P01 with its position.
fn resolve<'a>(name: &Name, context: &'a BindContext) -> Result<&'a Object, PgError> {
    let object = context.resolve(name.schema.as_deref(), &name.name);
    object.map(|object| &**object).ok_or_else(|| {
        PgError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist")).at(name.position)
    })
}

/// The table called `name`, to be written to. Errors: 42P01, and 42809 for anything but a table.
fn resolve_table<'a>(name: &Name, context: &'a BindContext) -> Result<(&'a Object, &'a RelationSchema), PgError> {
    let object = resolve(name, context)?;
    let wrong_kind = |message: String| PgError::new(SqlState::WRONG_OBJECT_TYPE, message).at(name.position);
    match &object.kind {
        ObjectKind::Table { schema, .. } => Ok((object, schema)),
        ObjectKind::SystemRelation { .. } => {
            Err(wrong_kind(format!("cannot change system relation \"{}\"", object.name)))
        }
        ObjectKind::Index { .. } => Err(wrong_kind(format!("cannot open relation \"{}\"", object.name))
            .with_detail("This operation is not supported for indexes.")),
        _ => Err(wrong_kind(format!("cannot change {} \"{}\"", object.kind_name(), object.name))),
    }
}

/// [`resolve_table`] for a statement, `what`, that changes rows or takes them away. Errors: 0A000 where rows stay as they are.
fn resolve_changeable_table<'a>(
    name: &Name,
    what: &str,
    context: &'a BindContext,
) -> Result<(&'a Object, &'a RelationSchema), PgError> {
    let (object, schema) = resolve_table(name, context)?;
    check_changeable(object, what)?;
    Ok((object, schema))
}

/// Errors: 0A000 if the rows of `object` stay as they are inserted.
fn check_changeable(object: &Object, what: &str) -> Result<(), PgError> {
    match &object.kind {
        ObjectKind::Table { options, .. } if options.append_only => {
            Err(PgError::unsupported(format!("{what} on table \"{}\"", object.name))
                .with_hint("The table is APPEND ONLY: its rows stay as they were inserted."))
        }
        _ => Ok(()),
    }
}

/// Where `name` is among the table's columns. Errors: 42703 in the words of INSERT and UPDATE.
fn target_column(schema: &RelationSchema, relation: &str, name: &str, position: Option<u32>) -> Result<usize, PgError> {
    schema.column_index(name).ok_or_else(|| {
        let message = format!("column \"{name}\" of relation \"{relation}\" does not exist");
        PgError { position, ..PgError::new(SqlState::UNDEFINED_COLUMN, message) }
    })
}

/// `RETAIN HISTORY FOR interval` in milliseconds, taken out of `options`; 0 where it is not said.
///
/// Errors: `22007` for no interval, `22023` for a negative one.
fn retain_history(options: &mut Options) -> Result<u64, PgError> {
    let said = ["retain_history", "retain_history_for"].iter().find_map(|name| options.remove(*name));
    let Some(interval) = said else { return Ok(0) };
    let milliseconds = milliseconds(&interval)?;
    u64::try_from(milliseconds).map_err(|_| {
        PgError::new(SqlState::INVALID_PARAMETER_VALUE, "RETAIN HISTORY needs a length of time that is not negative")
    })
}

/// The TIMEOUT of FETCH. Errors: `22007` for no interval, `22023` for a negative one.
fn length_of_time(interval: &str) -> Result<Duration, PgError> {
    u64::try_from(milliseconds(interval)?).map(Duration::from_millis).map_err(|_| {
        PgError::new(SqlState::INVALID_PARAMETER_VALUE, "TIMEOUT needs a length of time that is not negative")
    })
}

fn milliseconds(interval: &str) -> Result<i64, PgError> {
    let interval = parse_interval(interval, -1)?;
    Ok((interval.months as i64 * 30 + interval.days as i64) * 86_400_000 + interval.micros / 1000)
}

/// The error for a value that an option does not take; `available` lists those it does.
fn invalid_option(option: &str, value: &str, available: &str) -> PgError {
    let message = format!("invalid value for option \"{option}\": \"{value}\"");
    PgError::new(SqlState::INVALID_PARAMETER_VALUE, message).with_hint(format!("Available values: {available}."))
}

/// Errors with 42701 if a name stands twice.
fn check_distinct_columns<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), PgError> {
    let mut seen = std::collections::HashSet::new();
    match names.into_iter().find(|name| !seen.insert(*name)) {
        Some(name) => {
            Err(PgError::new(SqlState::DUPLICATE_COLUMN, format!("column \"{name}\" specified more than once")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
