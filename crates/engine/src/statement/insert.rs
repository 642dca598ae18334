//! INSERT, with ON CONFLICT.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt64Array};
use arrow::compute::{concat, filter, take};
use arrow::row::OwnedRow;
use datafusion::logical_expr::Expr;
use repr::{ObjectId, PgError, RelationSchema, SqlState};
use sql::bind::BoundQuery;
use sql::statement::{OnConflict, Returning};

use crate::constant;
use crate::read::with_parameters_each;
use crate::response::{Response, RowsTag};
use crate::rules::{Rules, UniqueKey, pick, rows_with};
use crate::session::{Prepared, Session};
use crate::statement::check_writable;
use crate::statement::transaction::{Replaced, Writing, begin_write};
use crate::unique::{Keys, conflicts};
use crate::write::{Change, Pending, table};

pub(super) async fn run(
    session: &mut Session,
    prepared: &Prepared,
    id: ObjectId,
    rows: &BoundQuery,
    on_conflict: &OnConflict,
    returning: Option<&Returning>,
    parameters: Vec<ArrayRef>,
) -> Result<Response, PgError> {
    check_writable(session, "INSERT")?;
    let (_, schema) = table(prepared.catalog(), id)?;
    // VALUES of constants reads nothing: it is evaluated before the lock is taken, without a plan.
    let constants = constant::rows(session, &rows.plan, &parameters)?;
    let mut writing = begin_write(session, &[id], constants.is_none()).await?;
    let (mut columns, row_count) = match constants {
        Some(constants) => constants,
        None => writing.rows(prepared, rows, &parameters).await?,
    };
    let rules = writing.rules(id)?;
    writing.fill(&rules, &mut columns, row_count)?;
    let proposed = Change::constant(id, columns, row_count, 1);
    let (change, written, replaced) = match on_conflict {
        OnConflict::Fail => (proposed.clone(), proposed.columns, Replaced::Nothing),
        OnConflict::Nothing { arbiter } => {
            let mut taken = Vec::new();
            for key in rules.keys.iter().filter(|key| arbiter.is_none_or(|arbiter| arbiter == key.index)) {
                taken.extend(
                    conflicts(&writing.session.shared, &rules, key, Pending::all(writing.pending()), &proposed).await?,
                );
            }
            let change = proposed.without(&taken)?;
            (change.clone(), change.columns, Replaced::Nothing)
        }
        OnConflict::Update { arbiter, inputs, assignments, condition } => {
            let key = rules.key(*arbiter).ok_or_else(|| PgError::internal("the arbiter of ON CONFLICT is gone"))?;
            let values = with_parameters_each(assignments.iter().map(|(_, value)| value), &parameters)?;
            let assignments: Vec<(usize, Expr)> = assignments.iter().map(|(column, _)| *column).zip(values).collect();
            let condition = with_parameters_each(condition, &parameters)?.pop();
            let upsert =
                Upsert { rules: &rules, key, inputs, assignments: &assignments, condition: condition.as_ref() };
            upsert.resolve(&writing, proposed).await?
        }
    };
    let count = written.first().map_or(change.row_count(), |column| column.len());
    writing.write(&rules, change, replaced).await?;
    match returning {
        None => Ok(super::command(format!("INSERT 0 {count}"))),
        Some(returning) => writing.returning(&schema, returning, &parameters, (&written, count), RowsTag::Insert),
    }
}

/// ON CONFLICT DO UPDATE.
struct Upsert<'a> {
    rules: &'a Rules,
    key: &'a UniqueKey,
    inputs: &'a RelationSchema,
    assignments: &'a [(usize, Expr)],
    condition: Option<&'a Expr>,
}

impl Upsert<'_> {
    /// What the statement changes, and the rows it has then written: those inserted, those updated.
    async fn resolve(
        &self,
        writing: &Writing<'_>,
        proposed: Change,
    ) -> Result<(Change, Vec<ArrayRef>, Replaced), PgError> {
        let (schema, key) = (&self.rules.schema, self.key.columns.as_slice());
        let types: Vec<_> = key.iter().map(|index| schema.columns[*index].sql_type.clone()).collect();
        let keys = Keys::new(&types)?;
        // A row with a NULL in the key is in nobody's way.
        let of = |columns: &[ArrayRef]| -> Result<Vec<Option<OwnedRow>>, PgError> {
            let columns = pick(columns, key);
            let null = |row: usize| columns.iter().any(|column| column.is_null(row));
            let rows = keys.of(&columns)?.into_iter().enumerate();
            Ok(rows.map(|(row, key)| (!null(row)).then_some(key)).collect())
        };
        let proposed_keys = of(&proposed.columns)?;
        let (shared, catalog) = (&writing.session.shared, writing.session.catalog());
        let sought = pick(&proposed.columns, key);
        let (existing, _) =
            rows_with(shared, &catalog, &self.rules.table, key, sought, Pending::all(writing.pending())).await?;
        let mut place = HashMap::new();
        for (row, key) in of(&existing)?.into_iter().enumerate() {
            if let Some(key) = key {
                place.insert(key, row as u64);
            }
        }
        let mut seen = HashMap::new();
        let (mut fresh, mut old_rows, mut new_rows) = (Vec::new(), Vec::new(), Vec::new());
        for (row, key) in proposed_keys.iter().enumerate() {
            let Some(key) = key else {
                fresh.push(row as u64);
                continue;
            };
            if seen.insert(key, row).is_some() {
                return Err(PgError::new(
                    SqlState::CARDINALITY_VIOLATION,
                    "ON CONFLICT DO UPDATE command cannot affect row a second time",
                )
                .with_hint(
                    "Ensure that no rows proposed for insertion within the same command have duplicate constrained values.",
                ));
            }
            match place.get(key) {
                Some(old) => {
                    old_rows.push(*old);
                    new_rows.push(row as u64);
                }
                None => fresh.push(row as u64),
            }
        }
        let inserted = rows_of(&proposed.columns, &fresh)?;
        let old = rows_of(&existing, &old_rows)?;
        let inputs: Vec<ArrayRef> = old.iter().cloned().chain(rows_of(&proposed.columns, &new_rows)?).collect();
        let (old, mut new) = self.updated(writing, old, &inputs, old_rows.len())?;
        let updated_count = new.first().map_or(0, |column| column.len());
        writing.fill(self.rules, &mut new, updated_count)?;
        let replaced = Change::replace(proposed.table, old.clone(), new.clone(), updated_count)?;
        let mut columns = Vec::with_capacity(schema.columns.len());
        let mut written = Vec::with_capacity(schema.columns.len());
        for index in 0..schema.columns.len() {
            columns.push(join(&inserted[index], &replaced.columns[index])?);
            written.push(join(&inserted[index], &new[index])?);
        }
        let diffs = std::iter::repeat_n(1, fresh.len()).chain(replaced.diffs.iter()).collect();
        let change = Change { table: proposed.table, columns, diffs: repr::Lane::Values(diffs) };
        Ok((change, written, Replaced::Updated(old, new)))
    }

    /// The rows that the condition lets change, as they are and as they will be.
    fn updated(
        &self,
        writing: &Writing<'_>,
        old: Vec<ArrayRef>,
        inputs: &[ArrayRef],
        row_count: usize,
    ) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>), PgError> {
        let mut exprs: Vec<Expr> = self.assignments.iter().map(|(_, expr)| expr.clone()).collect();
        exprs.extend(self.condition.cloned());
        let mut values = constant::evaluate(writing.session, &exprs, self.inputs, inputs, row_count)?;
        let condition = self.condition.and_then(|_| values.pop());
        let mut new = old.clone();
        for ((index, _), value) in self.assignments.iter().zip(values) {
            new[*index] = value;
        }
        let Some(condition) = condition else { return Ok((old, new)) };
        let mask: BooleanArray = condition.as_boolean().iter().map(|value| Some(value == Some(true))).collect();
        let keep = |columns: Vec<ArrayRef>| -> Result<Vec<ArrayRef>, PgError> {
            columns.iter().map(|column| filter(column, &mask).map_err(internal)).collect()
        };
        Ok((keep(old)?, keep(new)?))
    }
}

fn rows_of(columns: &[ArrayRef], rows: &[u64]) -> Result<Vec<ArrayRef>, PgError> {
    let indices = UInt64Array::from(rows.to_vec());
    columns.iter().map(|column| take(column, &indices, None).map_err(internal)).collect()
}

fn join(first: &ArrayRef, second: &ArrayRef) -> Result<ArrayRef, PgError> {
    concat(&[first.as_ref(), second.as_ref()]).map_err(internal)
}

fn internal(error: arrow::error::ArrowError) -> PgError {
    PgError::internal(error.to_string())
}
