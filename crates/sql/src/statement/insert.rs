//! INSERT: a query whose columns are assigned to the table's, the others filled with their DEFAULT or NULL.

use std::ops::ControlFlow;
use std::sync::Arc;

use catalog::{ColumnDetail, Generation, Object, ObjectKind, Uniqueness};
use datafusion::common::Column;
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan, Projection};
use repr::{ColumnSchema, ObjectId, PgError, RelationSchema, SqlState};
use sqlparser::ast::{
    ConflictTarget, DoUpdate, Expr, Ident, Insert, OnConflictAction, OnInsert, Query, SetExpr, TableObject, Value,
    visit_expressions_mut,
};

use super::constraint::unique_index;
use super::update::assignments;
use super::{BoundStatement, check_changeable, check_distinct_columns, resolve_table, returning, target_column};
use crate::bind::{BindContext, BoundQuery, bind_expr_over, bind_query, bind_query_for, deduce_parameters};
use crate::cast::{CastContext, cast};
use crate::parse::{self, Overriding, fold, object_name, parse_expr, parse_query, position};

/// What happens to a row whose key is taken.
#[derive(Clone, Debug)]
pub enum OnConflict {
    /// 23505.
    Fail,
    /// The row is skipped.
    Nothing {
        /// The unique index whose keys may be taken; any where none is named.
        arbiter: Option<ObjectId>,
    },
    /// The row that is there changes.
    Update {
        /// The unique index that finds it.
        arbiter: ObjectId,
        /// What expressions here are over: the columns of the row that is there, then those of the row proposed, under
        /// the names `excluded.<column>`. Columns are `Expr::Column` without a relation.
        inputs: RelationSchema,
        /// By index of the table's column, its new value, cast to its type.
        assignments: Vec<(usize, PlanExpr)>,
        /// Where it is not true the row that is there stays.
        condition: Option<PlanExpr>,
    },
}

pub(super) fn bind(insert: &Insert, overriding: Overriding, context: &BindContext) -> Result<BoundStatement, PgError> {
    let name = match &insert.table {
        TableObject::TableName(name) => object_name(name)?,
        other => return Err(PgError::unsupported(format!("INSERT INTO {other}"))),
    };
    if insert.overwrite || insert.ignore || insert.replace_into || !insert.assignments.is_empty() {
        return Err(PgError::new(SqlState::SYNTAX_ERROR, "syntax error in INSERT"));
    }
    let (table, schema) = resolve_table(&name, context)?;
    let defaults = Defaults::of(table)?;
    let targets = target_columns(insert, schema, &table.name)?;
    let rows = match &insert.source {
        None => default_row(schema, &defaults, context)?,
        Some(source) => {
            let written = written(source, &targets);
            let (source, targets) = source_and_targets(insert, source, targets, &defaults, schema, context)?;
            defaults.check_written(&written, &targets, overriding, schema)?;
            let columns: Vec<ColumnSchema> = targets.iter().map(|index| schema.columns[*index].clone()).collect();
            let query = bind_query_for(&source, &columns, context)?;
            // What the sequence gives counts, not what is said.
            let user = |index: &&usize| overriding == Overriding::User && defaults.is_identity(**index);
            let given: Vec<usize> = targets.iter().filter(user).copied().collect();
            all_columns(query, &targets, &given, schema, &defaults, context)?
        }
    };
    let relation = insert.table_alias.as_ref().map_or(table.name.clone(), |alias| fold(&alias.alias));
    let on_conflict = on_conflict(insert, &relation, table.id, schema, context)?;
    if let OnConflict::Update { .. } = on_conflict {
        check_changeable(table, "ON CONFLICT DO UPDATE")?;
    }
    Ok(BoundStatement::Insert {
        table: table.id,
        rows,
        on_conflict,
        returning: returning::bind(insert.returning.as_ref(), &relation, schema, context)?,
    })
}

/// Which of `targets` the query gives a value other than the keyword DEFAULT in some row.
fn written(source: &Query, targets: &[usize]) -> Vec<bool> {
    let SetExpr::Values(values) = source.body.as_ref() else { return vec![true; targets.len()] };
    let said =
        |place: usize| values.rows.iter().any(|row| row.content.get(place).is_some_and(|expr| !is_default(expr)));
    (0..targets.len()).map(said).collect()
}

/// The DEFAULT of each column, NULL where it has none or is generated, and who gives it its values.
pub(super) struct Defaults {
    exprs: Vec<Expr>,
    details: Vec<ColumnDetail>,
}

impl Defaults {
    pub(super) fn of(table: &Object) -> Result<Defaults, PgError> {
        let ObjectKind::Table { details, .. } = &table.kind else {
            return Ok(Defaults { exprs: Vec::new(), details: Vec::new() });
        };
        let expr = |detail: &ColumnDetail| match &detail.default {
            Some(text) if detail.generation != Generation::Stored => parse_expr(text),
            _ => Ok(Expr::Value(Value::Null.into())),
        };
        let exprs = details.iter().map(expr).collect::<Result<_, PgError>>()?;
        Ok(Defaults { exprs, details: details.clone() })
    }

    pub(super) fn of_column(&self, index: usize) -> Expr {
        self.exprs[index].clone()
    }

    fn is_identity(&self, index: usize) -> bool {
        self.details[index].generation.is_identity()
    }

    /// Errors: 428C9 if a value is written to a column whose values only the server gives.
    pub(super) fn check_written(
        &self,
        written: &[bool],
        targets: &[usize],
        overriding: Overriding,
        schema: &RelationSchema,
    ) -> Result<(), PgError> {
        for (index, _) in targets.iter().zip(written).filter(|(_, written)| **written) {
            let name = &schema.columns[*index].name;
            let message = format!("cannot insert a non-DEFAULT value into column \"{name}\"");
            let error = PgError::new(GENERATED_ALWAYS, message);
            match self.details[*index].generation {
                Generation::Stored => {
                    return Err(error.with_detail(format!("Column \"{name}\" is a generated column.")));
                }
                Generation::IdentityAlways if overriding == Overriding::No => {
                    return Err(error
                        .with_detail(format!("Column \"{name}\" is an identity column defined as GENERATED ALWAYS."))
                        .with_hint("Use OVERRIDING SYSTEM VALUE to override."));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Errors: 428C9 if SET says another value than DEFAULT of such a column.
    pub(super) fn check_assigned(&self, index: usize, value: &Expr, schema: &RelationSchema) -> Result<(), PgError> {
        if is_default(value) {
            return Ok(());
        }
        let name = &schema.columns[index].name;
        let error = PgError::new(GENERATED_ALWAYS, format!("column \"{name}\" can only be updated to DEFAULT"));
        match self.details.get(index).map(|detail| detail.generation) {
            Some(Generation::Stored) => Err(error.with_detail(format!("Column \"{name}\" is a generated column."))),
            Some(Generation::IdentityAlways) => {
                Err(error.with_detail(format!("Column \"{name}\" is an identity column defined as GENERATED ALWAYS.")))
            }
            _ => Ok(()),
        }
    }
}

/// `428C9`.
const GENERATED_ALWAYS: SqlState = SqlState("428C9");

/// Whether `expr` is the keyword DEFAULT, which sqlparser takes for a column.
pub(super) fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

/// The columns named; all of them where none are.
fn target_columns(insert: &Insert, schema: &RelationSchema, table: &str) -> Result<Vec<usize>, PgError> {
    if insert.columns.is_empty() {
        return Ok((0..schema.columns.len()).collect());
    }
    let mut targets = Vec::new();
    for column in &insert.columns {
        let name = object_name(column)?;
        targets.push(target_column(schema, table, &name.name, Some(name.position))?);
    }
    check_distinct_columns(targets.iter().map(|index| schema.columns[*index].name.as_str()))?;
    Ok(targets)
}

/// The query with each DEFAULT in its VALUES replaced, and the targets that it has a column for.
///
/// Without a column list a row may be shorter than the table.
fn source_and_targets(
    insert: &Insert,
    source: &Query,
    mut targets: Vec<usize>,
    defaults: &Defaults,
    schema: &RelationSchema,
    context: &BindContext,
) -> Result<(Query, Vec<usize>), PgError> {
    let mut source = source.clone();
    match source.body.as_mut() {
        SetExpr::Values(values) => {
            let width = values.rows.first().map_or(0, |row| row.content.len());
            if values.rows.iter().any(|row| row.content.len() != width) {
                return Err(PgError::new(SqlState::SYNTAX_ERROR, "VALUES lists must all be the same length"));
            }
            if insert.columns.is_empty() {
                targets.truncate(width);
            }
            for row in &mut values.rows {
                for (expr, target) in row.content.iter_mut().zip(&targets) {
                    if is_default(expr) {
                        *expr = defaults.of_column(*target);
                    }
                }
                if let Some(extra) = row.content.get(targets.len()) {
                    let error = PgError::new(SqlState::SYNTAX_ERROR, "INSERT has more expressions than target columns");
                    return Err(PgError { position: position(extra), ..error });
                }
            }
        }
        _ if insert.columns.is_empty() => {
            let width = width_of(&source, context)?;
            targets.truncate(width.min(schema.columns.len()));
        }
        _ => {}
    }
    Ok((source, targets))
}

/// How many columns `query` has. It is bound aside, so that its parameters' types stay open.
fn width_of(query: &Query, context: &BindContext) -> Result<usize, PgError> {
    let aside = BindContext {
        parameter_types: context.parameter_types.clone(),
        timezone: context.timezone.clone(),
        search_path: context.search_path.clone(),
        ..BindContext::new(context.catalog)
    };
    Ok(bind_query(query, &aside)?.schema.columns.len())
}

/// INSERT .. DEFAULT VALUES.
fn default_row(schema: &RelationSchema, defaults: &Defaults, context: &BindContext) -> Result<BoundQuery, PgError> {
    let mut query = parse_query("VALUES (1)")?;
    if let SetExpr::Values(values) = query.body.as_mut() {
        for row in &mut values.rows {
            row.content = (0..schema.columns.len()).map(|index| defaults.of_column(index)).collect();
        }
    }
    bind_query_for(&query, &schema.columns, context)
}

/// `query`, whose columns are the table's `targets`, with all the table's columns in order; its column of those in `given`
/// gives way to their DEFAULT.
fn all_columns(
    query: BoundQuery,
    targets: &[usize],
    given: &[usize],
    schema: &RelationSchema,
    defaults: &Defaults,
    context: &BindContext,
) -> Result<BoundQuery, PgError> {
    if given.is_empty() && targets.iter().copied().eq(0..schema.columns.len()) {
        return Ok(query);
    }
    let inputs: Vec<Column> = query.plan.schema().columns();
    let mut exprs = Vec::with_capacity(schema.columns.len());
    for (index, column) in schema.columns.iter().enumerate() {
        let place = targets.iter().position(|target| *target == index && !given.contains(target));
        let expr = match place {
            Some(input) => PlanExpr::Column(inputs[input].clone()),
            None => {
                let none = RelationSchema::new(Vec::new());
                let default = bind_expr_over(None, &none, &defaults.of_column(index), context)?;
                cast(default, &column.sql_type, column.typmod, CastContext::Assignment)?.expr
            }
        };
        exprs.push(expr.alias(format!("insert{index}")));
    }
    let plan =
        Projection::try_new(exprs, Arc::new(query.plan)).map_err(|error| PgError::internal(error.to_string()))?;
    Ok(BoundQuery {
        plan: LogicalPlan::Projection(plan),
        schema: RelationSchema::new(schema.columns.clone()),
        relations: query.relations,
        names: query.names,
        locks: query.locks,
        as_of: None,
    })
}

fn on_conflict(
    insert: &Insert,
    relation: &str,
    table: ObjectId,
    schema: &RelationSchema,
    context: &BindContext,
) -> Result<OnConflict, PgError> {
    let on_conflict = match &insert.on {
        None => return Ok(OnConflict::Fail),
        Some(OnInsert::OnConflict(on_conflict)) => on_conflict,
        Some(other) => return Err(PgError::unsupported(other.to_string().trim())),
    };
    let arbiter = match &on_conflict.conflict_target {
        Some(ConflictTarget::Columns(columns)) => Some(conflict_columns(columns, schema, context, table)?),
        Some(ConflictTarget::OnConstraint(name)) => Some(conflict_constraint(name, context, table)?),
        None => None,
    };
    match (&on_conflict.action, arbiter) {
        (OnConflictAction::DoNothing, arbiter) => Ok(OnConflict::Nothing { arbiter }),
        (OnConflictAction::DoUpdate(_), None) => {
            let message = "ON CONFLICT DO UPDATE requires inference specification or constraint name";
            Err(PgError::new(SqlState::SYNTAX_ERROR, message).with_hint("For example, ON CONFLICT (column_name)."))
        }
        (OnConflictAction::DoUpdate(update), Some(arbiter)) => {
            do_update(update, arbiter, relation, table, schema, context)
        }
    }
}

/// The unique index over just these columns, in any order. Errors: 42P10.
fn conflict_columns(
    columns: &[Ident],
    schema: &RelationSchema,
    context: &BindContext,
    table: ObjectId,
) -> Result<ObjectId, PgError> {
    let table_name = context.catalog.get(table).map_or("", |object| object.name.as_str());
    let mut indexes = Vec::new();
    for ident in columns {
        let index = target_column(schema, table_name, &fold(ident), parse::position_of(ident))?;
        if !indexes.contains(&index) {
            indexes.push(index);
        }
    }
    unique_index(context.catalog, table, &indexes).ok_or_else(|| {
        let message = "there is no unique or exclusion constraint matching the ON CONFLICT specification";
        PgError::new(SqlState::INVALID_COLUMN_REFERENCE, message)
    })
}

/// The unique constraint of this name. Errors: 42704.
fn conflict_constraint(
    name: &sqlparser::ast::ObjectName,
    context: &BindContext,
    table: ObjectId,
) -> Result<ObjectId, PgError> {
    let name = object_name(name)?.name;
    let named = |(index, _, uniqueness): &(&Arc<Object>, &Vec<usize>, Uniqueness)| {
        uniqueness.is_constraint() && index.name == name
    };
    context.catalog.indexes(table).find(named).map(|(index, ..)| index.id).ok_or_else(|| {
        let table = context.catalog.get(table).map_or("", |table| table.name.as_str());
        let message = format!("constraint \"{name}\" for table \"{table}\" does not exist");
        PgError::new(SqlState::UNDEFINED_OBJECT, message)
    })
}

fn do_update(
    update: &DoUpdate,
    arbiter: ObjectId,
    relation: &str,
    table: ObjectId,
    schema: &RelationSchema,
    context: &BindContext,
) -> Result<OnConflict, PgError> {
    let excluded = schema.columns.iter().map(|column| ColumnSchema {
        name: format!("excluded.{}", column.name),
        nullable: true,
        ..column.clone()
    });
    let inputs = RelationSchema::new(schema.columns.iter().cloned().chain(excluded).collect());
    let table = context.catalog.get(table).ok_or_else(|| PgError::internal("the table to insert into is gone"))?;
    let defaults = Defaults::of(table)?;
    let bind = |mut expr: Expr| {
        name_excluded(&mut expr);
        bind_expr_over(Some(relation), &inputs, &expr, context)
    };
    let mut bound = Vec::new();
    for (index, value) in assignments(&update.assignments, schema, &table.name, &defaults)? {
        let column = &schema.columns[index];
        let value = cast(bind(value)?, &column.sql_type, column.typmod, CastContext::Assignment)?;
        deduce_parameters(&value.expr, context)?;
        bound.push((index, value.expr));
    }
    let condition = match &update.selection {
        None => None,
        Some(condition) => {
            let condition = bind(condition.clone())?;
            let condition = cast(condition, &repr::SqlType::Bool, -1, CastContext::Implicit)?.expr;
            deduce_parameters(&condition, context)?;
            Some(condition)
        }
    };
    Ok(OnConflict::Update { arbiter, inputs, assignments: bound, condition })
}

/// `excluded.x` is one column of that name.
fn name_excluded(expr: &mut Expr) {
    let _ = visit_expressions_mut(expr, |expr| {
        if let Expr::CompoundIdentifier(parts) = expr
            && let [relation, column] = parts.as_slice()
            && fold(relation) == "excluded"
        {
            let name = format!("excluded.{}", fold(column));
            *expr = Expr::Identifier(Ident { value: name, quote_style: Some('"'), span: relation.span });
        }
        ControlFlow::<()>::Continue(())
    });
}
