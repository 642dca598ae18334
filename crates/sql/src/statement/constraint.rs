//! Constraints as they are declared: on a column, on a table, by ALTER TABLE. All of them end up as [`add`].

use catalog::definition::qualified;
use catalog::{Catalog, Constraint, ConstraintKind, ForeignKey, Object, ObjectKind, ReferentialAction, Uniqueness};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::Expr as PlanExpr;
use repr::{ColumnSchema, ObjectId, PgError, RelationSchema, SqlState, SqlType};
use sqlparser::ast::{
    self, CheckConstraint, ColumnDef, ColumnOption, ColumnOptionDef, ConstraintReferenceMatchKind, DeferrableInitial,
    ForeignKeyConstraint, Ident, NullsDistinctOption, PrimaryKeyConstraint, TableConstraint, UniqueConstraint,
};

use super::create_table::{key_column, key_ident};
use super::{Step, resolve};
use crate::bind::{BindContext, bind_expr_over};
use crate::cast::{CastContext, cast};
use crate::parse::{fold, object_name, position_of};

/// The constraint of the table that a column's option declares; None for an option that is none.
pub(super) fn column_constraint(
    column: &ColumnDef,
    option: &ColumnOptionDef,
) -> Result<Option<TableConstraint>, PgError> {
    let key = || {
        let order_by = ast::OrderByExpr {
            expr: ast::Expr::Identifier(column.name.clone()),
            options: ast::OrderByOptions { asc: None, nulls_first: None },
            with_fill: None,
        };
        vec![ast::IndexColumn { column: order_by, operator_class: None }]
    };
    let name = option.name.clone();
    Ok(Some(match &option.option {
        ColumnOption::PrimaryKey(constraint) => {
            TableConstraint::PrimaryKey(PrimaryKeyConstraint { name, columns: key(), ..constraint.clone() })
        }
        ColumnOption::Unique(constraint) => {
            TableConstraint::Unique(UniqueConstraint { name, columns: key(), ..constraint.clone() })
        }
        ColumnOption::ForeignKey(constraint) => TableConstraint::ForeignKey(ForeignKeyConstraint {
            name,
            columns: vec![column.name.clone()],
            ..constraint.clone()
        }),
        ColumnOption::Check(constraint) => TableConstraint::Check(CheckConstraint { name, ..constraint.clone() }),
        _ => return Ok(None),
    }))
}

/// The statement that adds `constraint` to the table of this qualified name.
pub(super) fn statement_of(table: &str, constraint: &TableConstraint) -> String {
    format!("ALTER TABLE ONLY {table} ADD {constraint}")
}

/// What adding `constraint` to `table` takes.
pub(super) fn add(
    table: &Object,
    schema: &RelationSchema,
    constraint: &TableConstraint,
    context: &BindContext,
) -> Result<Vec<Step>, PgError> {
    match constraint {
        TableConstraint::PrimaryKey(key) => primary_key(table, schema, key, constraint, context),
        TableConstraint::Unique(unique) => {
            if unique.nulls_distinct == NullsDistinctOption::NotDistinct {
                return Err(PgError::unsupported("NULLS NOT DISTINCT"));
            }
            check_not_deferrable(unique.characteristics.as_ref(), "a deferrable unique constraint")?;
            let columns = unique.columns.iter().map(|column| key_column(&schema.columns, column));
            let columns = columns.collect::<Result<Vec<usize>, PgError>>()?;
            let name = name_or(unique.name.as_ref(), table, &names_of(schema, &columns), "key", context);
            check_free(table, &name, context)?;
            Ok(vec![Step::Create(Box::new(index(table, name, columns, Uniqueness::Constraint)))])
        }
        TableConstraint::Check(check) => self::check(table, schema, check, context),
        TableConstraint::ForeignKey(key) => foreign_key(table, schema, key, context),
        other => Err(PgError::unsupported(format!("table constraint {other}"))),
    }
}

/// An index of `table`, to be made.
pub(super) fn index(table: &Object, name: String, columns: Vec<usize>, uniqueness: Uniqueness) -> Object {
    let kind = ObjectKind::Index { on: table.id, columns, uniqueness };
    Object { depends_on: vec![table.id], ..Object::new(ObjectId(0), &table.schema, name, kind) }
}

fn primary_key(
    table: &Object,
    schema: &RelationSchema,
    key: &PrimaryKeyConstraint,
    constraint: &TableConstraint,
    context: &BindContext,
) -> Result<Vec<Step>, PgError> {
    check_not_deferrable(key.characteristics.as_ref(), "a deferrable primary key")?;
    let columns = key.columns.iter().map(|column| key_column(&schema.columns, column));
    let columns = columns.collect::<Result<Vec<usize>, PgError>>()?;
    if context.catalog.indexes(table.id).any(|(.., uniqueness)| uniqueness == Uniqueness::PrimaryKey) {
        let message = format!("multiple primary keys for table \"{}\" are not allowed", table.name);
        return Err(PgError::new(SqlState::INVALID_TABLE_DEFINITION, message));
    }
    if schema.primary_key.as_ref() == Some(&columns) {
        let name = name_or(key.name.as_ref(), table, "", "pkey", context);
        check_free(table, &name, context)?;
        return Ok(vec![Step::Create(Box::new(index(table, name, columns, Uniqueness::PrimaryKey)))]);
    }
    // The table's rows are arranged by its primary key.
    let mut keyed = schema.clone();
    for index in &columns {
        keyed.columns[*index].nullable = false;
    }
    keyed.primary_key = Some(columns);
    Ok(vec![
        super::alter::rewrite_in_place(table, schema, keyed)?,
        Step::Statement(statement_of(&qualified(table), constraint)),
    ])
}

fn check_not_deferrable(said: Option<&ast::ConstraintCharacteristics>, what: &str) -> Result<(), PgError> {
    match said {
        Some(said) if said.deferrable == Some(true) || said.initially == Some(DeferrableInitial::Deferred) => {
            Err(PgError::unsupported(what))
        }
        _ => Ok(()),
    }
}

fn check(
    table: &Object,
    schema: &RelationSchema,
    check: &CheckConstraint,
    context: &BindContext,
) -> Result<Vec<Step>, PgError> {
    if check.enforced == Some(false) {
        return Err(PgError::unsupported("NOT ENFORCED"));
    }
    // The parentheses are not the condition's: they are written around it again.
    let mut condition = check.expr.as_ref();
    while let ast::Expr::Nested(inner) = condition {
        condition = inner;
    }
    let bound = bind_check(table, schema, condition, context)?;
    let mut named: Vec<String> = Vec::new();
    bound
        .apply(|expr| {
            if let PlanExpr::Column(column) = expr
                && !named.contains(&column.name)
            {
                named.push(column.name.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .map_err(|error| PgError::internal(error.to_string()))?;
    let column = if let [column] = named.as_slice() { column.as_str() } else { "" };
    let name = name_or(check.name.as_ref(), table, column, "check", context);
    check_free(table, &name, context)?;
    let kind = ConstraintKind::Check { expression: condition.to_string() };
    Ok(vec![Step::Create(Box::new(constraint_object(table, name, kind, Vec::new())))])
}

/// The condition that a CHECK demands of a row of `table`, over its columns by their names.
pub(crate) fn bind_check(
    table: &Object,
    schema: &RelationSchema,
    expr: &ast::Expr,
    context: &BindContext,
) -> Result<PlanExpr, PgError> {
    let typed = bind_expr_over(Some(&table.name), schema, expr, context).map_err(|error| {
        match error.state == SqlState::FEATURE_NOT_SUPPORTED && error.message.starts_with("a subquery") {
            true => PgError { message: "cannot use subquery in check constraint".to_string(), ..error },
            false => error,
        }
    })?;
    match &typed.sql_type {
        SqlType::Bool | SqlType::Unknown => {
            cast(typed, &SqlType::Bool, -1, CastContext::Implicit).map(|typed| typed.expr)
        }
        other => {
            let message = format!("argument of CHECK must be type boolean, not type {}", other.sql_name());
            Err(PgError::new(SqlState::DATATYPE_MISMATCH, message))
        }
    }
}

fn constraint_object(table: &Object, name: String, kind: ConstraintKind, others: Vec<ObjectId>) -> Object {
    let kind = ObjectKind::Constraint(Constraint { table: table.id, kind });
    let mut depends_on = vec![table.id];
    depends_on.extend(others.into_iter().filter(|other| *other != table.id));
    Object { depends_on, ..Object::new(ObjectId(0), &table.schema, name, kind) }
}

fn foreign_key(
    table: &Object,
    schema: &RelationSchema,
    key: &ForeignKeyConstraint,
    context: &BindContext,
) -> Result<Vec<Step>, PgError> {
    let columns = key.columns.iter().map(|ident| referencing_column(schema, ident));
    let columns = columns.collect::<Result<Vec<usize>, PgError>>()?;
    let name = name_or(key.name.as_ref(), table, &names_of(schema, &columns), "fkey", context);
    check_free(table, &name, context)?;
    let referenced_name = object_name(&key.foreign_table)?;
    let referenced = resolve(&referenced_name, context)?;
    let (ObjectKind::Table { .. }, Some(referenced_schema)) = (&referenced.kind, referenced.relation_schema()) else {
        let message = format!("referenced relation \"{}\" is not a table", referenced.name);
        return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, message));
    };
    if table.is_temporary() != referenced.is_temporary() {
        let kind = if table.is_temporary() { "temporary" } else { "permanent" };
        let message = format!("constraints on {kind} tables may reference only {kind} tables");
        return Err(PgError::new(SqlState::INVALID_TABLE_DEFINITION, message));
    }
    let referenced_columns = match key.referred_columns.as_slice() {
        [] => referenced_schema.primary_key.clone().ok_or_else(|| {
            let message = format!("there is no primary key for referenced table \"{}\"", referenced.name);
            PgError::new(SqlState::UNDEFINED_OBJECT, message)
        })?,
        named => {
            let found = named.iter().map(|ident| referencing_column(referenced_schema, ident));
            found.collect::<Result<Vec<usize>, PgError>>()?
        }
    };
    if referenced_columns.len() != columns.len() {
        return Err(PgError::new(
            INVALID_FOREIGN_KEY,
            "number of referencing and referenced columns for foreign key disagree",
        ));
    }
    let unique = unique_index(context.catalog, referenced.id, &referenced_columns).ok_or_else(|| {
        let message =
            format!("there is no unique constraint matching given keys for referenced table \"{}\"", referenced.name);
        PgError::new(INVALID_FOREIGN_KEY, message)
    })?;
    for (column, referenced_column) in columns.iter().zip(&referenced_columns) {
        check_comparable(&name, &schema.columns[*column], &referenced_schema.columns[*referenced_column])?;
    }
    let (deferrable, initially_deferred) = deferral(key.characteristics.as_ref());
    let kind = ConstraintKind::ForeignKey(ForeignKey {
        columns,
        referenced: referenced.id,
        key: unique,
        referenced_columns,
        on_update: action(key.on_update),
        on_delete: action(key.on_delete),
        match_full: match key.match_kind {
            None | Some(ConstraintReferenceMatchKind::Simple) => false,
            Some(ConstraintReferenceMatchKind::Full) => true,
            Some(ConstraintReferenceMatchKind::Partial) => return Err(PgError::unsupported("MATCH PARTIAL")),
        },
        deferrable,
        initially_deferred,
    });
    Ok(vec![Step::Create(Box::new(constraint_object(table, name, kind, vec![referenced.id, unique])))])
}

/// `42830`.
const INVALID_FOREIGN_KEY: SqlState = SqlState("42830");

/// Errors: 42703 in the words of a foreign key.
fn referencing_column(schema: &RelationSchema, ident: &Ident) -> Result<usize, PgError> {
    key_ident(&schema.columns, ident).map_err(|error| PgError {
        message: format!("column \"{}\" referenced in foreign key constraint does not exist", fold(ident)),
        position: position_of(ident),
        ..error
    })
}

/// The unique index of a table over just these columns, in any order.
pub(super) fn unique_index(catalog: &Catalog, table: ObjectId, columns: &[usize]) -> Option<ObjectId> {
    let sorted = |columns: &[usize]| {
        let mut sorted = columns.to_vec();
        sorted.sort_unstable();
        sorted
    };
    let wanted = sorted(columns);
    catalog
        .indexes(table)
        .find(|(_, key, uniqueness)| *uniqueness != Uniqueness::None && sorted(key) == wanted)
        .map(|(index, ..)| index.id)
}

/// Errors: 42804 for columns whose values cannot be equal.
fn check_comparable(name: &str, from: &ColumnSchema, to: &ColumnSchema) -> Result<(), PgError> {
    let family = |sql_type: &SqlType| match sql_type {
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 => SqlType::Int8,
        SqlType::Varchar | SqlType::Text => SqlType::Text,
        other => other.clone(),
    };
    if family(&from.sql_type) == family(&to.sql_type) {
        return Ok(());
    }
    let message = format!("foreign key constraint \"{name}\" cannot be implemented");
    Err(PgError::new(SqlState::DATATYPE_MISMATCH, message).with_detail(format!(
        "Key columns \"{}\" and \"{}\" are of incompatible types: {} and {}.",
        from.name,
        to.name,
        from.sql_type.sql_name(),
        to.sql_type.sql_name()
    )))
}

/// `(deferrable, initially deferred)`; the latter makes it the former.
fn deferral(said: Option<&ast::ConstraintCharacteristics>) -> (bool, bool) {
    let Some(said) = said else { return (false, false) };
    let deferred = said.initially == Some(DeferrableInitial::Deferred);
    (said.deferrable.unwrap_or(deferred), deferred)
}

fn action(said: Option<ast::ReferentialAction>) -> ReferentialAction {
    match said {
        None | Some(ast::ReferentialAction::NoAction) => ReferentialAction::NoAction,
        Some(ast::ReferentialAction::Restrict) => ReferentialAction::Restrict,
        Some(ast::ReferentialAction::Cascade) => ReferentialAction::Cascade,
        Some(ast::ReferentialAction::SetNull) => ReferentialAction::SetNull,
        Some(ast::ReferentialAction::SetDefault) => ReferentialAction::SetDefault,
    }
}

fn names_of(schema: &RelationSchema, columns: &[usize]) -> String {
    columns.iter().map(|index| schema.columns[*index].name.as_str()).collect::<Vec<_>>().join("_")
}

/// The name that was said, or PostgreSQL's choice: `table_columns_suffix` with a number where it is taken.
fn name_or(said: Option<&Ident>, table: &Object, columns: &str, suffix: &str, context: &BindContext) -> String {
    match said {
        Some(name) => fold(name),
        None => object_name_of(&table.name, columns, suffix, |name| is_taken(table, name, context.catalog)),
    }
}

/// Whether a constraint of the table or a relation beside it has the name.
fn is_taken(table: &Object, name: &str, catalog: &Catalog) -> bool {
    catalog.constraint(table.id, name).is_some() || catalog.in_schema(&table.schema, name).is_some()
}

/// Errors: 42710 for a constraint's name that the table has.
fn check_free(table: &Object, name: &str, context: &BindContext) -> Result<(), PgError> {
    let key = context
        .catalog
        .indexes(table.id)
        .any(|(index, _, uniqueness)| uniqueness.is_constraint() && index.name == name);
    if key || context.catalog.constraint(table.id, name).is_some() {
        let message = format!("constraint \"{name}\" for relation \"{}\" already exists", table.name);
        return Err(PgError::new(SqlState::DUPLICATE_OBJECT, message));
    }
    Ok(())
}

/// The longest name there is, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// `first_second_suffix` as PostgreSQL makes names: the longer part is cut so that all of it fits, and a number follows the
/// suffix where `taken` says so.
pub(super) fn object_name_of(first: &str, second: &str, suffix: &str, taken: impl Fn(&str) -> bool) -> String {
    let make = |suffix: &str| {
        let (mut first, mut second) = (first, second);
        let overhead = suffix.len() + 1 + if second.is_empty() { 0 } else { 1 };
        while first.len() + second.len() + overhead > NAME_BYTES_MAX {
            let longer = if first.len() > second.len() { &mut first } else { &mut second };
            let end = longer.char_indices().next_back().map_or(0, |(at, _)| at);
            *longer = &longer[..end];
        }
        match second {
            "" => format!("{first}_{suffix}"),
            second => format!("{first}_{second}_{suffix}"),
        }
    };
    let numbered = (1u32..).map(|number| make(&format!("{suffix}{number}")));
    std::iter::once(make(suffix)).chain(numbered).find(|name| !taken(name)).unwrap_or_else(|| make(suffix))
}

#[cfg(test)]
mod tests {
    use super::object_name_of;

    #[test]
    fn names_are_cut_and_numbered_as_postgresql_does() {
        assert_eq!(object_name_of("t", "a_b", "key", |_| false), "t_a_b_key");
        assert_eq!(object_name_of("t", "", "pkey", |name| name == "t_pkey"), "t_pkey1");
        let long = "x".repeat(60);
        assert_eq!(object_name_of(&long, "id", "seq", |_| false), format!("{}_id_seq", "x".repeat(56)));
        assert_eq!(object_name_of(&long, &"y".repeat(60), "fkey", |_| false).len(), 63);
    }
}
