//! ALTER: each action becomes the steps that change the catalog and, where a table's rows take another shape, its rows.
//!
//! An action is bound when those before it have run, so that `ADD COLUMN a int, ADD CHECK (a > 0)` finds the column.

use std::sync::Arc;

use catalog::definition::{qualified, view_statement};
use catalog::system::quote_identifier;
use catalog::{ColumnDetail, Constraint, ConstraintKind, Generation, Object, ObjectKind, Uniqueness};
use datafusion::common::Column as PlanColumn;
use datafusion::logical_expr::Expr as PlanExpr;
use repr::{ColumnSchema, ObjectId, PgError, RelationSchema, SqlState};
use sqlparser::ast::{self, Expr, Ident, visit_expressions_mut};
use std::ops::ControlFlow;

use super::column::{self, Column};
use super::constraint::{column_constraint, object_name_of, statement_of};
use super::create_table::check_storage_parameters;
use super::{BoundStatement, Rewrite, Step, Target, sequence};
use crate::bind::{BindContext, bind_expr_over};
use crate::cast::{CastContext, cast};
use crate::parse::{Alter, AlterAction, Kind, SequenceOptions, parse_expr};

/// The object and what is to be done to it, one by one.
pub(super) fn bind(alter: &Alter, context: &BindContext) -> Result<BoundStatement, PgError> {
    let tag = tag(alter.kind);
    match altered(alter, context) {
        Ok(_) => {}
        Err(error) if alter.if_exists && super::drop::is_undefined(&error) => {
            let message = format!("relation \"{}\" does not exist, skipping", alter.name);
            let notice = PgError::new(SqlState::SUCCESSFUL_COMPLETION, message);
            return Ok(BoundStatement::Define { tag, steps: vec![Step::Notice(notice)] });
        }
        Err(error) => return Err(error),
    }
    // The first action is bound at once, so that what is wrong with it is known before the statement runs.
    steps(alter, 0, context)?;
    let steps = (0..alter.actions.len()).map(|index| Step::Alter(Arc::new(alter.clone()), index));
    Ok(BoundStatement::Define { tag, steps: steps.collect() })
}

/// The object that ALTER names. Errors: as DROP's, in the words of ALTER.
fn altered<'a>(alter: &Alter, context: &'a BindContext) -> Result<&'a Object, PgError> {
    super::drop::resolve_kind(alter.kind, &alter.name, context).map_err(|error| match alter.kind {
        Kind::Schema => error,
        _ if error.state == SqlState::UNDEFINED_TABLE || error.state == SqlState::UNDEFINED_OBJECT => {
            let message = format!("relation \"{}\" does not exist", alter.name);
            PgError::new(SqlState::UNDEFINED_TABLE, message).at(alter.name.position)
        }
        _ => PgError { hint: None, ..error },
    })
}

fn tag(kind: Kind) -> &'static str {
    match kind {
        Kind::Table => "ALTER TABLE",
        Kind::View => "ALTER VIEW",
        Kind::MaterializedView => "ALTER MATERIALIZED VIEW",
        Kind::Index => "ALTER INDEX",
        Kind::Sequence => "ALTER SEQUENCE",
        Kind::Schema => "ALTER SCHEMA",
        Kind::Source => "ALTER SOURCE",
        Kind::Connection => "ALTER CONNECTION",
    }
}

/// The steps of one of ALTER's actions, bound against the catalog as the actions before have left it.
pub fn steps(alter: &Alter, index: usize, context: &BindContext) -> Result<Vec<Step>, PgError> {
    let object = altered(alter, context)?;
    if object.id.0 < catalog::FIRST_USER_ID && object.kind != ObjectKind::Schema {
        return Err(PgError::new(
            SqlState("42501"),
            format!("permission denied: \"{}\" is a system catalog", object.name),
        ));
    }
    let Some(action) = alter.actions.get(index) else { return Ok(Vec::new()) };
    match action {
        AlterAction::Rename(name) => rename(object, name, context),
        AlterAction::SetSchema(schema) => set_schema(object, schema, context),
        AlterAction::Nothing => Ok(Vec::new()),
        AlterAction::SetOptions(options) => match &object.kind {
            ObjectKind::Table { .. } | ObjectKind::Index { .. } => {
                check_storage_parameters(options)?;
                Ok(Vec::new())
            }
            _ => Err(PgError::unsupported(format!("{} .. SET (..)", tag(alter.kind)))),
        },
        AlterAction::Sequence(options) => alter_sequence(object, options, context),
        AlterAction::RenameColumn { from, to } => rename_column(object, from, to, context),
        action => match &object.kind {
            ObjectKind::Table { schema, details, .. } => {
                let table = Table { object, schema, details, context };
                table.alter(action)
            }
            _ => Err(PgError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("ALTER action is not supported for {} \"{}\"", object.kind_name(), object.name),
            )),
        },
    }
}

/// A table to be altered.
struct Table<'a> {
    object: &'a Object,
    schema: &'a RelationSchema,
    details: &'a [ColumnDetail],
    context: &'a BindContext<'a>,
}

impl Table<'_> {
    fn alter(&self, action: &AlterAction) -> Result<Vec<Step>, PgError> {
        match action {
            AlterAction::AddColumn { column, if_not_exists } => self.add_column(column, *if_not_exists),
            AlterAction::DropColumn { name, if_exists, cascade } => self.drop_column(name, *if_exists, *cascade),
            AlterAction::Type { column, definition, using } => self.set_type(column, definition, using.as_deref()),
            AlterAction::Default { column, default } => self.set_default(column, default.as_deref()),
            AlterAction::NotNull { column, not_null } => self.set_not_null(column, *not_null),
            AlterAction::AddIdentity { column, always, options } => self.add_identity(column, *always, options),
            AlterAction::SetIdentity { column, always, options } => self.set_identity(column, *always, options),
            AlterAction::DropIdentity { column, if_exists } => self.drop_identity(column, *if_exists),
            AlterAction::DropExpression { column, if_exists } => self.drop_expression(column, *if_exists),
            AlterAction::AddConstraint(constraint) => {
                super::constraint::add(self.object, self.schema, constraint, self.context)
            }
            AlterAction::AddKeyUsingIndex { name, index, primary } => {
                let index = super::drop::resolve_kind(Kind::Index, index, self.context)?;
                let mut index = index.clone();
                let ObjectKind::Index { on, uniqueness, .. } = &mut index.kind else { return Ok(Vec::new()) };
                if *on != self.object.id || *uniqueness != Uniqueness::Index {
                    let message = format!("\"{}\" is not a unique index of \"{}\"", index.name, self.object.name);
                    return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, message));
                }
                if *primary {
                    return Err(PgError::unsupported("PRIMARY KEY USING INDEX"));
                }
                *uniqueness = Uniqueness::Constraint;
                index.name = name.clone().unwrap_or(index.name);
                Ok(vec![Step::Replace(Box::new(index))])
            }
            AlterAction::DropConstraint { name, if_exists, cascade } => {
                self.drop_constraint(name, *if_exists, *cascade)
            }
            AlterAction::ValidateConstraint(name) => {
                constraint_named(self.object, name, self.context).map(|_| Vec::new())
            }
            AlterAction::RenameConstraint { from, to } => {
                let constraint = constraint_named(self.object, from, self.context)?;
                Ok(vec![Step::Replace(Box::new(Object { name: to.clone(), ..constraint.clone() }))])
            }
            _ => Err(PgError::internal("an ALTER action was not dispatched")),
        }
    }

    fn column(&self, name: &str) -> Result<usize, PgError> {
        super::target_column(self.schema, &self.object.name, name, None)
    }

    /// The table with other columns or details.
    fn with(&self, schema: RelationSchema, details: Vec<ColumnDetail>) -> Object {
        let mut object = self.object.clone();
        if let ObjectKind::Table { schema: old_schema, details: old_details, .. } = &mut object.kind {
            *old_schema = schema;
            *old_details = details;
        }
        object
    }

    /// The table with one column's details changed.
    fn with_detail(&self, index: usize, change: impl FnOnce(&mut ColumnDetail)) -> Object {
        let mut details = self.details.to_vec();
        change(&mut details[index]);
        self.with(self.schema.clone(), details)
    }

    fn add_column(&self, definition: &ast::ColumnDef, if_not_exists: bool) -> Result<Vec<Step>, PgError> {
        let target = Target { schema: self.object.schema.clone(), name: self.object.name.clone() };
        let Column { schema: mut new, default, generation, before, after } =
            column::bind(&target, definition, self.context)?;
        if self.schema.column_index(&new.name).is_some() {
            let message = format!("column \"{}\" of relation \"{}\" already exists", new.name, self.object.name);
            let error = PgError::new(SqlState::DUPLICATE_COLUMN, message);
            return match if_not_exists {
                true => Ok(vec![Step::Notice(PgError { message: format!("{}, skipping", error.message), ..error })]),
                false => Err(error),
            };
        }
        let mut schema = self.schema.clone();
        let mut details = self.details.to_vec();
        let constraints = definition.options.iter().map(|option| column_constraint(definition, option));
        let constraints: Vec<ast::TableConstraint> =
            constraints.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        if constraints.iter().any(|constraint| matches!(constraint, ast::TableConstraint::PrimaryKey(_))) {
            new.nullable = false;
        }
        schema.columns.push(new);
        // The number of a dropped column is not used again.
        let number = self.details.iter().map(|detail| detail.number).max().unwrap_or(0).max(self.last_number()) + 1;
        details.push(ColumnDetail { number, default: default.clone(), generation });
        column::bind_generated(&target, &schema.columns, &mut details, self.context)?;
        let mut columns = same_columns(self.schema);
        let none = RelationSchema::new(Vec::new());
        let added = &schema.columns[schema.columns.len() - 1];
        columns.push(match &default {
            None => null_of(added)?,
            Some(text) => {
                let expr = parse_expr(text)?;
                let over = if generation == Generation::Stored { self.schema } else { &none };
                column::bind_value(&expr, Some(&self.object.name), over, added, self.context)?
            }
        });
        let kept = (0..self.schema.columns.len()).map(Some).collect();
        let mut steps: Vec<Step> = before.into_iter().map(Step::Statement).collect();
        steps.push(Step::Rewrite(Box::new(Rewrite { object: self.with(schema, details), columns, kept })));
        steps.extend(after.into_iter().map(Step::Statement));
        let table = qualified(self.object);
        steps.extend(constraints.iter().map(|constraint| Step::Statement(statement_of(&table, constraint))));
        Ok(steps)
    }

    /// The greatest number that a column's comment or a view remembers; a dropped column may have had it.
    fn last_number(&self) -> i16 {
        let views = self.context.catalog.dependents(self.object.id);
        let named = views.iter().flat_map(|view| &view.names).filter(|named| named.id == self.object.id.0);
        named.flat_map(|named| named.columns.iter().map(|(number, _)| *number)).max().unwrap_or(0)
    }

    fn drop_column(&self, name: &str, if_exists: bool, cascade: bool) -> Result<Vec<Step>, PgError> {
        let index = match self.column(name) {
            Ok(index) => index,
            Err(error) if if_exists => {
                let message = format!("{}, skipping", error.message);
                return Ok(vec![Step::Notice(PgError::new(SqlState::SUCCESSFUL_COMPLETION, message))]);
            }
            Err(error) => return Err(error),
        };
        let mut schema = self.schema.clone();
        let mut details = self.details.to_vec();
        schema.columns.remove(index);
        let removed = details.remove(index);
        let shifted = |column: usize| if column > index { column - 1 } else { column };
        schema.primary_key = match &self.schema.primary_key {
            Some(key) if !key.contains(&index) => Some(key.iter().map(|column| shifted(*column)).collect()),
            _ => None,
        };
        for detail in details.iter().filter(|detail| detail.generation == Generation::Stored) {
            if let Some(text) = &detail.default
                && names(text, name)?
            {
                let message = format!(
                    "cannot drop column {name} of table {} because other objects depend on it",
                    self.object.name
                );
                return Err(PgError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
                    .with_hint("Drop the generated columns that are computed from it first."));
            }
        }
        let mut gone = Vec::new();
        for (index_object, columns, _) in self.context.catalog.indexes(self.object.id) {
            if columns.contains(&index) {
                gone.push(index_object.id);
            }
        }
        for (constraint, kind) in self.context.catalog.constraints(self.object.id) {
            let involved = match kind {
                ConstraintKind::Check { expression } => names(expression, name)?,
                ConstraintKind::ForeignKey(key) => key.columns.contains(&index),
            };
            if involved {
                gone.push(constraint.id);
            }
        }
        let mut columns = same_columns(self.schema);
        columns.remove(index);
        let mut object = self.with(schema, details);
        if let ObjectKind::Table { options, .. } = &mut object.kind
            && let Some(watermark) = &mut options.watermark
        {
            if watermark.column == index {
                return Err(PgError::unsupported("dropping the column of a watermark"));
            }
            watermark.column = shifted(watermark.column);
        }
        object.comments.remove(&removed.number);
        let kept = (0..self.schema.columns.len())
            .map(|column| if column == index { None } else { Some(shifted(column)) })
            .collect();
        let mut steps = Vec::new();
        steps.push(Step::DropColumnUsers { table: self.object.id, column: index, cascade });
        if !gone.is_empty() {
            steps.push(Step::Drop { objects: gone, cascade });
        }
        steps.push(Step::Rewrite(Box::new(Rewrite { object, columns, kept })));
        Ok(steps)
    }

    fn set_type(&self, name: &str, definition: &ast::ColumnDef, using: Option<&Expr>) -> Result<Vec<Step>, PgError> {
        let index = self.column(name)?;
        let old = &self.schema.columns[index];
        let new = ColumnSchema { nullable: old.nullable, ..column::typed(definition)? };
        if self.details[index].generation == Generation::Stored {
            return Err(PgError::unsupported("ALTER TYPE of a generated column"));
        }
        let mut columns = same_columns(self.schema);
        let typed = match using {
            Some(expr) => bind_expr_over(Some(&self.object.name), self.schema, expr, self.context)?,
            None => crate::typed::TypedExpr {
                expr: columns[index].clone(),
                sql_type: old.sql_type.clone(),
                typmod: old.typmod,
            },
        };
        let found = typed.sql_type.clone();
        let converted = cast(typed, &new.sql_type, new.typmod, CastContext::Assignment).map_err(|error| {
            if error.state != SqlState::CANNOT_COERCE {
                return error;
            }
            let what = if using.is_some() { "result of USING clause for column" } else { "column" };
            let message = format!("{what} \"{name}\" cannot be cast automatically to type {}", new.sql_type.sql_name());
            PgError::new(SqlState::DATATYPE_MISMATCH, message).with_hint(format!(
                "You might need to specify \"USING {}::{}\".",
                quote_identifier(name),
                new.sql_type.sql_name()
            ))
        })?;
        if let Some(default) = &self.details[index].default {
            // The DEFAULT must fit the new type as well.
            column::bind_default(&parse_expr(default)?, &new, self.context).map_err(|error| PgError {
                message: format!(
                    "default for column \"{name}\" cannot be cast automatically to type {}",
                    new.sql_type.sql_name()
                ),
                hint: None,
                ..error
            })?;
        }
        let same = found == old.sql_type && using.is_none() && is_wider(old, &new);
        let mut schema = self.schema.clone();
        schema.columns[index] = ColumnSchema { name: old.name.clone(), ..new };
        let object = self.with(schema, self.details.to_vec());
        let mut steps = vec![Step::CheckColumnUnused { table: self.object.id, column: index }];
        if same {
            steps.push(Step::Replace(Box::new(object)));
            return Ok(steps);
        }
        columns[index] = converted.expr;
        let kept = (0..self.schema.columns.len()).map(Some).collect();
        steps.push(Step::Rewrite(Box::new(Rewrite { object, columns, kept })));
        Ok(steps)
    }

    fn set_default(&self, name: &str, default: Option<&Expr>) -> Result<Vec<Step>, PgError> {
        let index = self.column(name)?;
        let column = &self.schema.columns[index];
        let refuse = |what: &str, hint: &str| {
            let message = format!("column \"{name}\" of relation \"{}\" is {what}", self.object.name);
            Err(PgError::new(SqlState::SYNTAX_ERROR, message).with_hint(hint))
        };
        match self.details[index].generation {
            Generation::Default => {}
            Generation::Stored => {
                return refuse("a generated column", "Use ALTER TABLE ... ALTER COLUMN ... DROP EXPRESSION instead.");
            }
            _ => return refuse("an identity column", "Use ALTER TABLE ... ALTER COLUMN ... DROP IDENTITY instead."),
        }
        let text = default.map(|default| column::bind_default(default, column, self.context)).transpose()?;
        Ok(vec![Step::Replace(Box::new(self.with_detail(index, |detail| detail.default = text)))])
    }

    fn set_not_null(&self, name: &str, not_null: bool) -> Result<Vec<Step>, PgError> {
        let index = self.column(name)?;
        let in_key = self.schema.primary_key.as_ref().is_some_and(|key| key.contains(&index));
        if !not_null && in_key {
            let message = format!("column \"{name}\" is in a primary key");
            return Err(PgError::new(SqlState::INVALID_TABLE_DEFINITION, message));
        }
        if !not_null && self.details[index].generation.is_identity() {
            let message = format!("column \"{name}\" of relation \"{}\" is an identity column", self.object.name);
            return Err(PgError::new(SqlState::SYNTAX_ERROR, message));
        }
        let mut schema = self.schema.clone();
        schema.columns[index].nullable = !not_null;
        Ok(vec![Step::Replace(Box::new(self.with(schema, self.details.to_vec())))])
    }

    fn add_identity(&self, name: &str, always: bool, options: &SequenceOptions) -> Result<Vec<Step>, PgError> {
        let index = self.column(name)?;
        let schema = self.schema.columns[index].clone();
        let refuse = |message: String| Err(PgError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message));
        let relation = &self.object.name;
        if schema.nullable {
            return refuse(format!(
                "column \"{name}\" of relation \"{relation}\" must be declared NOT NULL before identity can be added"
            ));
        }
        if self.details[index].generation.is_identity() {
            return refuse(format!("column \"{name}\" of relation \"{relation}\" is already an identity column"));
        }
        if self.details[index].default.is_some() {
            return refuse(format!("column \"{name}\" of relation \"{relation}\" already has a default value"));
        }
        let target = Target { schema: self.object.schema.clone(), name: relation.clone() };
        let sequence = column::free_sequence_name(&target, name, self.context);
        let mut column = Column { schema, default: None, generation: Generation::Default, before: None, after: None };
        column::give_sequence(&mut column, &target, &sequence, &options_text(options));
        let generation = if always { Generation::IdentityAlways } else { Generation::IdentityByDefault };
        let object = self.with_detail(index, |detail| {
            detail.default = column.default.clone();
            detail.generation = generation;
        });
        let mut steps: Vec<Step> = column.before.into_iter().map(Step::Statement).collect();
        steps.push(Step::Replace(Box::new(object)));
        steps.extend(column.after.into_iter().map(Step::Statement));
        Ok(steps)
    }

    /// The sequence of an identity column. Errors: 55000.
    fn identity(&self, name: &str) -> Result<(usize, &Arc<Object>), PgError> {
        let index = self.column(name)?;
        let number = self.details[index].number;
        let owned = self.context.catalog.dependents(self.object.id).into_iter().find(|other| {
            matches!(&other.kind, ObjectKind::Sequence(sequence)
                if sequence.owned_by == Some((self.object.id, number)))
        });
        match owned.filter(|_| self.details[index].generation.is_identity()) {
            Some(sequence) => Ok((index, sequence)),
            None => {
                let message =
                    format!("column \"{name}\" of relation \"{}\" is not an identity column", self.object.name);
                Err(PgError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message))
            }
        }
    }

    fn set_identity(&self, name: &str, always: Option<bool>, options: &SequenceOptions) -> Result<Vec<Step>, PgError> {
        let (index, owned) = self.identity(name)?;
        let mut steps = Vec::new();
        if let Some(always) = always {
            let generation = if always { Generation::IdentityAlways } else { Generation::IdentityByDefault };
            steps.push(Step::Replace(Box::new(self.with_detail(index, |detail| detail.generation = generation))));
        }
        steps.extend(alter_sequence(owned, options, self.context)?);
        Ok(steps)
    }

    fn drop_identity(&self, name: &str, if_exists: bool) -> Result<Vec<Step>, PgError> {
        let (index, owned) = match self.identity(name) {
            Ok(found) => found,
            Err(error) if if_exists && error.state == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE => {
                let message = format!("{}, skipping", error.message);
                return Ok(vec![Step::Notice(PgError::new(SqlState::SUCCESSFUL_COMPLETION, message))]);
            }
            Err(error) => return Err(error),
        };
        let object = self.with_detail(index, |detail| {
            detail.default = None;
            detail.generation = Generation::Default;
        });
        Ok(vec![Step::Replace(Box::new(object)), Step::Drop { objects: vec![owned.id], cascade: false }])
    }

    fn drop_expression(&self, name: &str, if_exists: bool) -> Result<Vec<Step>, PgError> {
        let index = self.column(name)?;
        if self.details[index].generation != Generation::Stored {
            let message =
                format!("column \"{name}\" of relation \"{}\" is not a stored generated column", self.object.name);
            return match if_exists {
                true => Ok(vec![Step::Notice(PgError::new(SqlState::SUCCESSFUL_COMPLETION, message + ", skipping"))]),
                false => Err(PgError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message)),
            };
        }
        let object = self.with_detail(index, |detail| {
            detail.default = None;
            detail.generation = Generation::Default;
        });
        Ok(vec![Step::Replace(Box::new(object))])
    }

    fn drop_constraint(&self, name: &str, if_exists: bool, cascade: bool) -> Result<Vec<Step>, PgError> {
        let constraint = match constraint_named(self.object, name, self.context) {
            Ok(constraint) => constraint,
            Err(error) if if_exists => {
                let message = format!("{}, skipping", error.message);
                return Ok(vec![Step::Notice(PgError::new(SqlState::SUCCESSFUL_COMPLETION, message))]);
            }
            Err(error) => return Err(error),
        };
        let mut steps = vec![Step::Drop { objects: vec![constraint.id], cascade }];
        if matches!(constraint.kind, ObjectKind::Index { uniqueness: Uniqueness::PrimaryKey, .. }) {
            let schema = RelationSchema { primary_key: None, ..self.schema.clone() };
            steps.push(rewrite_in_place(self.object, self.schema, schema)?);
        }
        Ok(steps)
    }
}

/// The table with the same columns and another key.
pub(super) fn rewrite_in_place(table: &Object, old: &RelationSchema, new: RelationSchema) -> Result<Step, PgError> {
    let mut object = table.clone();
    let ObjectKind::Table { schema, .. } = &mut object.kind else {
        return Err(PgError::internal("only a table's rows are rewritten"));
    };
    *schema = new;
    let kept = (0..old.columns.len()).map(Some).collect();
    Ok(Step::Rewrite(Box::new(Rewrite { object, columns: same_columns(old), kept })))
}

/// Each column as it is.
fn same_columns(schema: &RelationSchema) -> Vec<PlanExpr> {
    schema.columns.iter().map(|column| PlanExpr::Column(PlanColumn::new_unqualified(&column.name))).collect()
}

/// A NULL of the column's type.
pub(super) fn null_of(column: &ColumnSchema) -> Result<PlanExpr, PgError> {
    let null = datafusion::common::ScalarValue::try_from(&column.sql_type.arrow())
        .map_err(|error| PgError::internal(error.to_string()))?;
    Ok(PlanExpr::Literal(null, None))
}

/// Whether every value of `old` is one of `new` as it is stored.
fn is_wider(old: &ColumnSchema, new: &ColumnSchema) -> bool {
    use repr::SqlType::{Text, Varchar};
    match (&old.sql_type, &new.sql_type) {
        (Varchar | Text, Text) => true,
        (Varchar, Varchar) => new.typmod == -1 || (old.typmod != -1 && new.typmod >= old.typmod),
        (Text, Varchar) => new.typmod == -1,
        _ => old.sql_type == new.sql_type && old.typmod == new.typmod,
    }
}

/// Whether the expression `text` names the column.
fn names(text: &str, column: &str) -> Result<bool, PgError> {
    let mut expr = parse_expr(text)?;
    let mut found = false;
    visit_columns(&mut expr, |ident| found |= crate::parse::fold(ident) == column);
    Ok(found)
}

/// Calls `visit` with the last part of each column's name.
fn visit_columns(expr: &mut Expr, mut visit: impl FnMut(&mut Ident)) {
    let _ = visit_expressions_mut(expr, |expr| {
        match expr {
            Expr::Identifier(ident) => visit(ident),
            Expr::CompoundIdentifier(parts) => {
                if let Some(last) = parts.last_mut() {
                    visit(last);
                }
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
}

/// The text of an expression after a column's name has changed.
fn renamed(text: &str, from: &str, to: &str) -> Result<String, PgError> {
    let mut expr = parse_expr(text)?;
    visit_columns(&mut expr, |ident| {
        if crate::parse::fold(ident) == from {
            *ident = match quote_identifier(to) == to {
                true => Ident::new(to),
                false => Ident::with_quote('"', to),
            };
        }
    });
    Ok(expr.to_string())
}

/// The constraint of a table that has this name: a key's index or a CHECK or FOREIGN KEY. Errors: 42704.
pub(super) fn constraint_named<'a>(
    table: &Object,
    name: &str,
    context: &'a BindContext,
) -> Result<&'a Object, PgError> {
    let key = context
        .catalog
        .indexes(table.id)
        .find(|(index, _, uniqueness)| uniqueness.is_constraint() && index.name == name);
    let found = key.map(|(index, ..)| index).or_else(|| context.catalog.constraint(table.id, name));
    found.map(|found| &**found).ok_or_else(|| {
        let message = format!("constraint \"{name}\" of relation \"{}\" does not exist", table.name);
        PgError::new(SqlState::UNDEFINED_OBJECT, message)
    })
}

fn rename_column(object: &Object, from: &str, to: &str, context: &BindContext) -> Result<Vec<Step>, PgError> {
    let schema = object
        .relation_schema()
        .ok_or_else(|| PgError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is not a relation", object.name)))?;
    let index = schema
        .column_index(from)
        .ok_or_else(|| PgError::new(SqlState::UNDEFINED_COLUMN, format!("column \"{from}\" does not exist")))?;
    if schema.column_index(to).is_some() {
        let message = format!("column \"{to}\" of relation \"{}\" already exists", object.name);
        return Err(PgError::new(SqlState::DUPLICATE_COLUMN, message));
    }
    let mut altered = object.clone();
    match &mut altered.kind {
        ObjectKind::Table { schema, details, .. } => {
            schema.columns[index].name = to.to_string();
            for detail in details.iter_mut().filter(|detail| detail.generation == Generation::Stored) {
                detail.default = detail.default.as_deref().map(|text| renamed(text, from, to)).transpose()?;
            }
        }
        ObjectKind::View { schema, .. } | ObjectKind::MaterializedView { schema, .. } => {
            schema.columns[index].name = to.to_string();
        }
        _ => return Err(PgError::unsupported(format!("renaming a column of a {}", object.kind_name()))),
    }
    if let Some(text) = view_statement(&altered) {
        altered.sql = text;
    }
    let mut steps = vec![Step::Replace(Box::new(altered))];
    for (constraint, kind) in context.catalog.constraints(object.id) {
        if let ConstraintKind::Check { expression } = kind
            && names(expression, from)?
        {
            let kind = ConstraintKind::Check { expression: renamed(expression, from, to)? };
            let kind = ObjectKind::Constraint(Constraint { table: object.id, kind });
            steps.push(Step::Replace(Box::new(Object { kind, ..(**constraint).clone() })));
        }
    }
    Ok(steps)
}

fn rename(object: &Object, name: &str, context: &BindContext) -> Result<Vec<Step>, PgError> {
    let mut altered = Object { name: name.to_string(), ..object.clone() };
    if object.kind == ObjectKind::Schema {
        return rename_schema(object, altered, context);
    }
    if context.catalog.in_schema(&object.schema, name).is_some() {
        return Err(context.catalog.duplicate(&altered));
    }
    if let Some(text) = view_statement(&altered) {
        altered.sql = text;
    }
    let mut steps = Vec::new();
    if let ObjectKind::Sequence(_) = object.kind {
        steps.extend(defaults_of_renamed(object, &altered, context)?);
    }
    if matches!(object.kind, ObjectKind::Source { .. } | ObjectKind::Connection { .. }) {
        return Err(PgError::unsupported(format!("renaming a {}", object.kind_name())));
    }
    steps.push(Step::Replace(Box::new(altered)));
    Ok(steps)
}

/// The tables whose DEFAULTs name a sequence, as they name it under its new name.
fn defaults_of_renamed(old: &Object, new: &Object, context: &BindContext) -> Result<Vec<Step>, PgError> {
    let mut steps = Vec::new();
    for (table, column) in defaults_with(old, context)? {
        let mut table = (*table).clone();
        if let ObjectKind::Table { details, .. } = &mut table.kind {
            details[column].default = Some(column::next_value(&new.schema, &new.name));
        }
        steps.push(Step::Replace(Box::new(table)));
    }
    Ok(steps)
}

/// The columns whose DEFAULT gives out numbers of a sequence.
pub fn defaults_with(sequence: &Object, context: &BindContext) -> Result<Vec<(Arc<Object>, usize)>, PgError> {
    let mut found = Vec::new();
    for object in context.catalog.objects() {
        let ObjectKind::Table { details, .. } = &object.kind else { continue };
        for (index, detail) in details.iter().enumerate() {
            let Some(text) = detail.default.as_ref().filter(|text| text.starts_with("nextval(")) else { continue };
            let named = column::sequence_named(&parse_expr(text)?);
            let resolved = named.and_then(|name| sequence::resolve_text(&name, context).map(|object| object.id));
            if resolved == Some(sequence.id) {
                found.push((Arc::clone(object), index));
            }
        }
    }
    Ok(found)
}

fn rename_schema(object: &Object, altered: Object, context: &BindContext) -> Result<Vec<Step>, PgError> {
    if object.id.0 < catalog::FIRST_USER_ID {
        return Err(PgError::unsupported(format!("renaming schema \"{}\"", object.name)));
    }
    if context.catalog.has_schema(&altered.name) {
        return Err(context.catalog.duplicate(&altered));
    }
    let mut steps = vec![Step::Replace(Box::new(altered.clone()))];
    for inside in context.catalog.objects().filter(|inside| inside.schema == object.name) {
        let moved = Object { schema: altered.name.clone(), ..(**inside).clone() };
        if let ObjectKind::Sequence(_) = moved.kind {
            return Err(PgError::unsupported("renaming a schema that has sequences"));
        }
        steps.push(Step::Replace(Box::new(moved)));
    }
    Ok(steps)
}

fn set_schema(object: &Object, schema: &str, context: &BindContext) -> Result<Vec<Step>, PgError> {
    let schema = super::existing_schema(schema, context)?;
    if object.schema == schema {
        return Ok(Vec::new());
    }
    let mut steps = Vec::new();
    let parts = context.catalog.dependents(object.id);
    let parts = parts.into_iter().filter(|part| catalog::Catalog::is_part_of(part, object.id));
    for part in std::iter::once(object).chain(parts.map(|part| &**part)) {
        let mut moved = Object { schema: schema.clone(), ..part.clone() };
        super::depend_on_schema(&mut moved, &part.schema, context);
        if context.catalog.in_schema(&schema, &part.name).is_some() && !matches!(part.kind, ObjectKind::Constraint(_)) {
            let message = format!("relation \"{}\" already exists in schema \"{schema}\"", part.name);
            return Err(PgError::new(SqlState::DUPLICATE_TABLE, message));
        }
        if let ObjectKind::Sequence(_) = part.kind {
            steps.extend(defaults_of_renamed(part, &moved, context)?);
        }
        steps.push(Step::Replace(Box::new(moved)));
    }
    Ok(steps)
}

fn alter_sequence(object: &Object, options: &SequenceOptions, context: &BindContext) -> Result<Vec<Step>, PgError> {
    let ObjectKind::Sequence(declared) = &object.kind else {
        return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is not a sequence", object.name)));
    };
    let (sequence, position) = sequence::altered(declared, options)?;
    let mut steps = Vec::new();
    if sequence != *declared || options.owned_by.is_some() {
        let mut altered = Object { kind: ObjectKind::Sequence(sequence), ..object.clone() };
        sequence::own(&mut altered, options, context)?;
        super::depend_on_schema(&mut altered, "", context);
        steps.push(Step::Replace(Box::new(altered)));
    }
    if let Some(position) = position {
        steps.push(Step::MoveSequence { oid: object.oid, position });
    }
    Ok(steps)
}

/// Options as CREATE SEQUENCE reads them.
fn options_text(options: &SequenceOptions) -> String {
    let mut text = String::new();
    let mut say = |word: &str, value: Option<i64>| {
        if let Some(value) = value {
            text.push_str(&format!(" {word} {value}"));
        }
    };
    say("START WITH", options.start);
    say("INCREMENT BY", options.increment);
    say("MINVALUE", options.min.flatten());
    say("MAXVALUE", options.max.flatten());
    say("CACHE", options.cache);
    if options.cycle == Some(true) {
        text.push_str(" CYCLE");
    }
    text
}

/// A name that is free for an index of a relation.
pub(super) fn free_index_name(relation: &Object, columns: &str, suffix: &str, context: &BindContext) -> String {
    object_name_of(&relation.name, columns, suffix, |name| context.catalog.in_schema(&relation.schema, name).is_some())
}

/// What is to be made of `id`'s rows when its columns change, see [`Rewrite`].
pub fn kept_columns(rewrite: &Rewrite, columns: &[usize]) -> Option<Vec<usize>> {
    columns.iter().map(|column| rewrite.kept.get(*column).copied().flatten()).collect()
}

/// A dependent of a rewritten table under the table's new id; None where a column it needs is gone.
pub fn moved_part(part: &Object, old: ObjectId, new: ObjectId, rewrite: &Rewrite) -> Option<Object> {
    let swap = |id: ObjectId| if id == old { new } else { id };
    let mut moved = part.clone();
    moved.depends_on = part.depends_on.iter().map(|id| swap(*id)).collect();
    match &mut moved.kind {
        ObjectKind::Index { on, columns, .. } if *on == old => {
            *on = new;
            *columns = kept_columns(rewrite, columns)?;
        }
        ObjectKind::Constraint(constraint) => {
            let own = constraint.table == old;
            constraint.table = swap(constraint.table);
            if let ConstraintKind::ForeignKey(key) = &mut constraint.kind {
                if own {
                    key.columns = kept_columns(rewrite, &key.columns)?;
                }
                if key.referenced == old {
                    key.referenced = new;
                    key.referenced_columns = kept_columns(rewrite, &key.referenced_columns)?;
                }
            }
        }
        ObjectKind::Sequence(sequence) => {
            // It goes with its column.
            if sequence.owned_by.is_some_and(|(_, number)| rewrite.object.column_at(number).is_none()) {
                return None;
            }
            sequence.owned_by = sequence.owned_by.map(|(table, number)| (swap(table), number));
        }
        _ => {}
    }
    for named in moved.names.iter_mut().filter(|named| named.id == old.0) {
        named.id = new.0;
        // It does not read a column that is gone: it would have kept the column from going.
        named.columns.retain(|(number, _)| rewrite.object.column_at(*number).is_some());
    }
    Some(moved)
}
