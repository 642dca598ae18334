//! What a table's rows are held to, ready to be checked: keys, references, conditions, and what is computed.
//!
//! Rules are bound once for a catalog and kept; a write looks them up by its table. Rows are checked in the order of
//! PostgreSQL: NOT NULL, CHECK, unique keys, then what refers to other tables.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, UInt64Array};
use arrow::compute::take;
use catalog::{Catalog, Constraint, ConstraintKind, ForeignKey, Object, ObjectKind, ReferentialAction, Uniqueness};
use dataflow::PeekTarget;
use parking_lot::Mutex;
use repr::{ObjectId, PgError, RelationSchema, SqlState, SqlType};
use sql::bind::BindContext;
use sql::statement::{TableRules, default_values, table_rules};

use crate::constant;
use crate::engine::Shared;
use crate::read::{batch, concat};
use crate::system::Asker;
use crate::unique::{Keys, conflicts, duplicate_key, is_exact, row_text, value_text};
use crate::write::{Change, Pending, overlay};

/// A table's rules.
pub(crate) struct Rules {
    pub(crate) table: Arc<Object>,
    pub(crate) schema: RelationSchema,
    pub(crate) expressions: TableRules,
    pub(crate) keys: Vec<UniqueKey>,
    /// The foreign keys of the table.
    pub(crate) references: Vec<Reference>,
    /// The foreign keys of any table that refer to it.
    pub(crate) referrers: Vec<Reference>,
}

/// Columns whose values only one row has, where none of them is NULL.
pub(crate) struct UniqueKey {
    /// The index; its name is the constraint's.
    pub(crate) index: ObjectId,
    pub(crate) name: String,
    pub(crate) columns: Vec<usize>,
    /// The dataflow whose rows are arranged by them.
    pub(crate) dataflow: ObjectId,
    pub(crate) primary: bool,
}

/// A foreign key, between its two tables.
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) from: Arc<Object>,
    pub(crate) to: Arc<Object>,
    pub(crate) key: ForeignKey,
}

/// Rules by table, as of the catalogs they were bound against.
#[derive(Default)]
pub(crate) struct RuleCache {
    known: Mutex<HashMap<ObjectId, (Arc<Catalog>, Arc<Rules>)>>,
}

impl RuleCache {
    /// The rules of `table`. Errors: `42P01`, and those of an expression that no longer binds.
    pub(crate) fn get(&self, catalog: &Arc<Catalog>, table: ObjectId) -> Result<Arc<Rules>, PgError> {
        if let Some((known, rules)) = self.known.lock().get(&table)
            && Arc::ptr_eq(known, catalog)
        {
            return Ok(Arc::clone(rules));
        }
        let rules = Arc::new(Rules::new(catalog, table)?);
        let mut known = self.known.lock();
        known.retain(|id, _| catalog.get(*id).is_some());
        known.insert(table, (Arc::clone(catalog), Arc::clone(&rules)));
        Ok(rules)
    }
}

impl Rules {
    fn new(catalog: &Catalog, id: ObjectId) -> Result<Rules, PgError> {
        let table = catalog.get(id).map(Arc::clone).ok_or_else(|| crate::ddl::undefined(id))?;
        let schema = table.relation_schema().cloned().ok_or_else(|| crate::ddl::undefined(id))?;
        let expressions = table_rules(&table, &BindContext::new(catalog))?;
        let mut keys = Vec::new();
        for (index, columns, uniqueness) in catalog.indexes(id) {
            if uniqueness != Uniqueness::None {
                let primary = uniqueness == Uniqueness::PrimaryKey;
                keys.push(UniqueKey {
                    index: index.id,
                    name: index.name.clone(),
                    columns: columns.clone(),
                    dataflow: if primary { id } else { index.id },
                    primary,
                });
            }
        }
        keys.sort_by_key(|key| !key.primary);
        let mut references = Vec::new();
        for (constraint, kind) in catalog.constraints(id) {
            if let ConstraintKind::ForeignKey(key) = kind
                && let Some(to) = catalog.get(key.referenced)
            {
                let (from, to) = (Arc::clone(&table), Arc::clone(to));
                references.push(Reference { name: constraint.name.clone(), from, to, key: key.clone() });
            }
        }
        let mut referrers = Vec::new();
        for (constraint, from, key) in catalog.references(id) {
            if let Some(from) = catalog.get(from) {
                let (from, to) = (Arc::clone(from), Arc::clone(&table));
                referrers.push(Reference { name: constraint.name.clone(), from, to, key: key.clone() });
            }
        }
        Ok(Rules { table, schema, expressions, keys, references, referrers })
    }

    /// The key of the unique index.
    pub(crate) fn key(&self, index: ObjectId) -> Option<&UniqueKey> {
        self.keys.iter().find(|key| key.index == index)
    }

    /// Computes the generated columns of rows that have all columns.
    pub(crate) fn fill(
        &self,
        shared: &Shared,
        asker: &Asker,
        catalog: &Arc<Catalog>,
        columns: &mut [ArrayRef],
        row_count: usize,
    ) -> Result<(), PgError> {
        if self.expressions.generated.is_empty() || row_count == 0 {
            return Ok(());
        }
        let exprs: Vec<_> = self.expressions.generated.iter().map(|(_, expr)| expr.clone()).collect();
        let values = constant::evaluate_for(shared, asker, catalog, &exprs, &self.schema, columns, row_count)?;
        for ((index, _), value) in self.expressions.generated.iter().zip(values) {
            columns[*index] = value;
        }
        Ok(())
    }

    /// Errors: `23514` for a row that `change` adds and a condition that is false of it.
    pub(crate) fn check_conditions(
        &self,
        shared: &Shared,
        asker: &Asker,
        catalog: &Arc<Catalog>,
        change: &Change,
    ) -> Result<(), PgError> {
        if self.expressions.checks.is_empty() || change.row_count() == 0 {
            return Ok(());
        }
        let exprs: Vec<_> = self.expressions.checks.iter().map(|(_, expr)| expr.clone()).collect();
        let row_count = change.row_count();
        let values = constant::evaluate_for(shared, asker, catalog, &exprs, &self.schema, &change.columns, row_count)?;
        for ((name, _), value) in self.expressions.checks.iter().zip(&values) {
            let holds = value.as_boolean();
            let broken = |row: &usize| change.diffs.get(*row) > 0 && holds.is_valid_at(*row) && !holds.value(*row);
            if let Some(row) = (0..row_count).find(broken) {
                let message =
                    format!("new row for relation \"{}\" violates check constraint \"{name}\"", self.table.name);
                let detail = format!("Failing row contains ({}).", row_text(&self.schema, &change.columns, row));
                return Err(PgError::new(SqlState::CHECK_VIOLATION, message).with_detail(detail));
            }
        }
        Ok(())
    }
}

/// `Array::is_valid` under a name that says of what.
trait ValidAt {
    fn is_valid_at(&self, row: usize) -> bool;
}

impl ValidAt for arrow::array::BooleanArray {
    fn is_valid_at(&self, row: usize) -> bool {
        arrow::array::Array::is_valid(self, row)
    }
}

/// Errors: `23505` if the table may not become what `change` makes of it after `pending`.
pub(crate) async fn check_keys(
    shared: &Shared,
    rules: &Rules,
    pending: Pending<'_>,
    change: &Change,
) -> Result<(), PgError> {
    for key in &rules.keys {
        if let Some(row) = conflicts(shared, rules, key, pending, change).await?.first() {
            return Err(duplicate_key(rules, key, change, *row));
        }
    }
    Ok(())
}

/// What each column of `table` is given by INSERT where nothing is said, for `row_count` rows.
pub(crate) fn default_columns(
    shared: &Shared,
    asker: &Asker,
    catalog: &Arc<Catalog>,
    table: &Object,
    row_count: usize,
) -> Result<Vec<ArrayRef>, PgError> {
    let exprs = default_values(table, &BindContext::new(catalog))?;
    constant::evaluate_for(shared, asker, catalog, &exprs, &RelationSchema::new(Vec::new()), &[], row_count)
}

/// The arrays of some columns.
pub(crate) fn pick(columns: &[ArrayRef], indexes: &[usize]) -> Vec<ArrayRef> {
    indexes.iter().map(|index| ArrayRef::clone(&columns[*index])).collect()
}

fn types_of(schema: &RelationSchema, columns: &[usize]) -> Vec<SqlType> {
    columns.iter().map(|index| schema.columns[*index].sql_type.clone()).collect()
}

/// Key columns as another table's key has them: integers of another width.
fn as_types(columns: Vec<ArrayRef>, types: &[SqlType]) -> Result<Vec<ArrayRef>, PgError> {
    let convert = |(column, sql_type): (ArrayRef, &SqlType)| match *column.data_type() == sql_type.arrow() {
        true => Ok(column),
        false => arrow::compute::cast(&column, &sql_type.arrow()).map_err(internal),
    };
    columns.into_iter().zip(types).map(convert).collect()
}

fn internal(error: arrow::error::ArrowError) -> PgError {
    PgError::internal(error.to_string())
}

/// The rows of `table`, after `pending`, that may have one of the sought values in `columns`; others may be among them.
pub(crate) async fn rows_with(
    shared: &Shared,
    catalog: &Catalog,
    table: &Object,
    columns: &[usize],
    sought: Vec<ArrayRef>,
    pending: Pending<'_>,
) -> Result<(Vec<ArrayRef>, usize), PgError> {
    let schema = table.relation_schema().ok_or_else(|| crate::ddl::undefined(table.id))?;
    let exact = columns.iter().all(|index| is_exact(&schema.columns[*index].sql_type));
    let indexes = catalog.indexes(table.id).map(|(index, key, uniqueness)| {
        (if uniqueness == Uniqueness::PrimaryKey { table.id } else { index.id }, key.clone())
    });
    // Some index over just these columns, in any order.
    let place = |key: &[usize]| -> Option<Vec<usize>> {
        let places: Option<Vec<usize>> =
            key.iter().map(|column| columns.iter().position(|wanted| wanted == column)).collect();
        places.filter(|places| places.len() == columns.len())
    };
    let keyed = indexes.filter(|_| exact).find_map(|(dataflow, key)| Some((dataflow, place(&key)?)));
    let target = match keyed {
        Some((dataflow, places)) => PeekTarget { dataflow, keys: Some(pick(&sought, &places)) },
        None => PeekTarget { dataflow: table.id, keys: None },
    };
    let arrow_schema = schema.arrow();
    let mut batches = Vec::new();
    for answer in shared.runtime.peek(vec![target]).answers {
        let answer = answer.await.map_err(|_| PgError::internal("a peek was not answered"))??;
        for rows in answer.batches {
            batches.push(batch(&arrow_schema, rows.columns().to_vec(), rows.num_rows())?);
        }
    }
    let own: Vec<Change> = pending.of(table.id).cloned().collect();
    if !own.is_empty() {
        batches = overlay(schema, &arrow_schema, batches, &own)?;
    }
    concat(batches, &arrow_schema)
}

/// A key for each row: None where one of its columns is NULL.
fn keys_of(keys: &Keys, columns: &[ArrayRef]) -> Result<Vec<Option<arrow::row::OwnedRow>>, PgError> {
    let rows = keys.of(columns)?;
    let null = |row: usize| columns.iter().any(|column| column.is_null(row));
    Ok(rows.into_iter().enumerate().map(|(row, key)| (!null(row)).then_some(key)).collect())
}

/// The rows of some columns.
pub(crate) fn take_rows(columns: &[ArrayRef], rows: &[usize]) -> Result<Vec<ArrayRef>, PgError> {
    let indices = UInt64Array::from_iter_values(rows.iter().map(|row| *row as u64));
    columns.iter().map(|column| take(column, &indices, None).map_err(internal)).collect()
}

/// Errors: `23503` for a row that refers to nothing. `rows` are of the referring table, `pending` is what counts besides the
/// rows that are there, these rows among it.
pub(crate) async fn check_reference(
    shared: &Shared,
    catalog: &Catalog,
    reference: &Reference,
    rows: &[ArrayRef],
    pending: Pending<'_>,
) -> Result<(), PgError> {
    let (from, to) = (schema_of(&reference.from)?, schema_of(&reference.to)?);
    let key = &reference.key;
    let columns = pick(rows, &key.columns);
    let row_count = columns.first().map_or(0, |column| column.len());
    if key.match_full {
        let nulls = |row: usize| columns.iter().filter(|column| column.is_null(row)).count();
        if let Some(row) = (0..row_count).find(|row| nulls(*row) > 0 && nulls(*row) < columns.len()) {
            let detail = "MATCH FULL does not allow mixing of null and nonnull key values.";
            let error = missing_reference(reference, from, rows, row);
            return Err(PgError { detail: Some(detail.to_string()), ..error });
        }
    }
    let types = types_of(to, &key.referenced_columns);
    let keys = Keys::new(&types)?;
    let sought = as_types(columns, &types)?;
    let wanted = keys_of(&keys, &sought)?;
    // The first row of each key.
    let mut missing: HashMap<&arrow::row::OwnedRow, usize> = HashMap::new();
    for (row, key) in wanted.iter().enumerate() {
        if let Some(key) = key {
            missing.entry(key).or_insert(row);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let mut asked: Vec<usize> = missing.values().copied().collect();
    asked.sort_unstable();
    let values = take_rows(&sought, &asked)?;
    let (found, _) = rows_with(shared, catalog, &reference.to, &key.referenced_columns, values, pending).await?;
    for key in keys_of(&keys, &pick(&found, &key.referenced_columns))?.iter().flatten() {
        missing.remove(key);
    }
    match missing.values().min() {
        None => Ok(()),
        Some(row) => Err(missing_reference(reference, from, rows, *row)),
    }
}

fn schema_of(table: &Object) -> Result<&RelationSchema, PgError> {
    table.relation_schema().ok_or_else(|| crate::ddl::undefined(table.id))
}

fn missing_reference(reference: &Reference, schema: &RelationSchema, rows: &[ArrayRef], row: usize) -> PgError {
    let message = format!(
        "insert or update on table \"{}\" violates foreign key constraint \"{}\"",
        reference.from.name, reference.name
    );
    PgError::new(SqlState::FOREIGN_KEY_VIOLATION, message).with_detail(format!(
        "{} is not present in table \"{}\".",
        key_text(schema, &reference.key.columns, rows, row),
        reference.to.name
    ))
}

/// `Key (a, b)=(1, 2)`.
pub(crate) fn key_text(schema: &RelationSchema, columns: &[usize], rows: &[ArrayRef], row: usize) -> String {
    let names: Vec<&str> = columns.iter().map(|index| schema.columns[*index].name.as_str()).collect();
    let values: Vec<String> =
        columns.iter().map(|index| value_text(&schema.columns[*index].sql_type, &rows[*index], row)).collect();
    format!("Key ({})=({})", names.join(", "), values.join(", "))
}

/// Rows of the referring table whose key is going, and where in `old` the row they refer to is.
pub(crate) struct Referring {
    pub(crate) rows: Vec<ArrayRef>,
    pub(crate) referred: Vec<usize>,
}

/// The rows that refer, after `pending`, to keys which `old` rows of the table referred to have and no row has any more.
pub(crate) async fn referring(
    shared: &Shared,
    catalog: &Catalog,
    reference: &Reference,
    old: &[ArrayRef],
    pending: Pending<'_>,
) -> Result<Referring, PgError> {
    let (from, to) = (schema_of(&reference.from)?, schema_of(&reference.to)?);
    let key = &reference.key;
    let to_types = types_of(to, &key.referenced_columns);
    let keys = Keys::new(&to_types)?;
    let gone_columns = pick(old, &key.referenced_columns);
    let mut gone: HashMap<arrow::row::OwnedRow, usize> = HashMap::new();
    for (row, key) in keys_of(&keys, &gone_columns)?.into_iter().enumerate() {
        if let Some(key) = key {
            gone.entry(key).or_insert(row);
        }
    }
    let none = || Referring { rows: Vec::new(), referred: Vec::new() };
    if gone.is_empty() {
        return Ok(none());
    }
    let mut asked: Vec<usize> = gone.values().copied().collect();
    asked.sort_unstable();
    let values = take_rows(&gone_columns, &asked)?;
    let (still, _) =
        rows_with(shared, catalog, &reference.to, &key.referenced_columns, values.clone(), pending).await?;
    for key in keys_of(&keys, &pick(&still, &key.referenced_columns))?.iter().flatten() {
        gone.remove(key);
    }
    if gone.is_empty() {
        return Ok(none());
    }
    let sought = as_types(values, &types_of(from, &key.columns))?;
    let (rows, _) = rows_with(shared, catalog, &reference.from, &key.columns, sought, pending).await?;
    let found = keys_of(&keys, &as_types(pick(&rows, &key.columns), &to_types)?)?;
    let (mut kept, mut referred) = (Vec::new(), Vec::new());
    for (row, key) in found.iter().enumerate() {
        if let Some(place) = key.as_ref().and_then(|key| gone.get(key)) {
            kept.push(row);
            referred.push(*place);
        }
    }
    Ok(Referring { rows: take_rows(&rows, &kept)?, referred })
}

/// The error for a key that rows still refer to.
pub(crate) fn still_referenced(reference: &Reference, old: &[ArrayRef], row: usize) -> Result<PgError, PgError> {
    let schema = schema_of(&reference.to)?;
    let message = format!(
        "update or delete on table \"{}\" violates foreign key constraint \"{}\" on table \"{}\"",
        reference.to.name, reference.name, reference.from.name
    );
    Ok(PgError::new(SqlState::FOREIGN_KEY_VIOLATION, message).with_detail(format!(
        "{} is still referenced from table \"{}\".",
        key_text(schema, &reference.key.referenced_columns, old, row),
        reference.from.name
    )))
}

/// The action for a key that goes, or that changes.
pub(crate) fn action(reference: &Reference, updated: bool) -> ReferentialAction {
    if updated { reference.key.on_update } else { reference.key.on_delete }
}

/// Errors: those of a new key or constraint of `relation` that its rows break.
pub(crate) async fn verify_rows(
    shared: &Shared,
    asker: &Asker,
    catalog: &Arc<Catalog>,
    object: &Object,
    relation: &Arc<Object>,
    rows: &[ArrayRef],
    row_count: usize,
    pending: Pending<'_>,
) -> Result<(), PgError> {
    let schema = schema_of(relation)?;
    match &object.kind {
        ObjectKind::Index { columns, .. } => {
            crate::unique::check_distinct(&object.name, schema, columns, rows, row_count)
        }
        ObjectKind::Constraint(Constraint { kind: ConstraintKind::Check { expression }, .. }) => {
            let context = BindContext::new(catalog);
            let condition = sql::statement::check_condition(relation, schema, expression, &context)?;
            let values = constant::evaluate_for(shared, asker, catalog, &[condition], schema, rows, row_count)?;
            let holds = values[0].as_boolean();
            match holds.iter().any(|value| value == Some(false)) {
                false => Ok(()),
                true => {
                    let message = format!(
                        "check constraint \"{}\" of relation \"{}\" is violated by some row",
                        object.name, relation.name
                    );
                    Err(PgError::new(SqlState::CHECK_VIOLATION, message))
                }
            }
        }
        ObjectKind::Constraint(Constraint { kind: ConstraintKind::ForeignKey(key), .. }) => {
            let to =
                catalog.get(key.referenced).map(Arc::clone).ok_or_else(|| crate::ddl::undefined(key.referenced))?;
            let reference = Reference { name: object.name.clone(), from: Arc::clone(relation), to, key: key.clone() };
            check_reference(shared, catalog, &reference, rows, pending).await
        }
        _ => Ok(()),
    }
}
