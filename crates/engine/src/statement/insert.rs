//! INSERT, with ON CONFLICT.

use std::collections::HashMap;

use arrow::array::{ArrayRef, AsArray, BooleanArray, UInt64Array};
use arrow::compute::{concat, filter, take};
use datafusion::logical_expr::Expr;
use repr::{ObjectId, PgError, RelationSchema, SqlState};
use sql::bind::BoundQuery;
use sql::statement::{OnConflict, Returning};

use crate::constant;
use crate::response::{Response, RowsTag};
use crate::session::{Prepared, Session};
use crate::statement::check_writable;
use crate::statement::transaction::{Writing, begin_write};
use crate::unique::{Keys, conflicts};
use crate::write::{Change, table};

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
    let (object, schema) = table(prepared.catalog(), id)?;
    // VALUES of constants reads nothing: it is evaluated before the lock is taken, without a plan.
    let constants = constant::rows(session, &rows.plan, &parameters)?;
    let mut writing = begin_write(session, &[id], constants.is_none()).await?;
    let (columns, row_count) = match constants {
        Some(constants) => constants,
        None => writing.rows(prepared, rows, &parameters).await?,
    };
    let proposed = Change::constant(id, columns, row_count, 1);
    let (change, written) = match on_conflict {
        OnConflict::Fail => (proposed.clone(), proposed.columns),
        OnConflict::Nothing => {
            let taken = conflicts(&writing.session.shared, &object, &schema, writing.pending(), &proposed).await?;
            let change = proposed.without(&taken)?;
            (change.clone(), change.columns)
        }
        OnConflict::Update { inputs, assignments, condition } => {
            let upsert = Upsert { schema: &schema, inputs, assignments, condition: condition.as_ref() };
            upsert.resolve(&writing, prepared, proposed).await?
        }
    };
    let count = written.first().map_or(change.row_count(), |column| column.len());
    writing.write(&object, &schema, change).await?;
    match returning {
        None => Ok(super::command(format!("INSERT 0 {count}"))),
        Some(returning) => writing.returning(&schema, returning, &written, count, RowsTag::Insert),
    }
}

/// ON CONFLICT DO UPDATE.
struct Upsert<'a> {
    schema: &'a RelationSchema,
    inputs: &'a RelationSchema,
    assignments: &'a [(usize, Expr)],
    condition: Option<&'a Expr>,
}

impl Upsert<'_> {
    /// What the statement changes, and the rows it has then written: those inserted, those updated.
    async fn resolve(
        &self,
        writing: &Writing<'_>,
        prepared: &Prepared,
        proposed: Change,
    ) -> Result<(Change, Vec<ArrayRef>), PgError> {
        let Some(key) = &self.schema.primary_key else {
            return Ok((proposed.clone(), proposed.columns));
        };
        let types: Vec<_> = key.iter().map(|index| self.schema.columns[*index].sql_type.clone()).collect();
        let keys = Keys::new(&types)?;
        let of = |columns: &[ArrayRef]| {
            keys.of(&key.iter().map(|index| ArrayRef::clone(&columns[*index])).collect::<Vec<_>>())
        };
        let proposed_keys = of(&proposed.columns)?;
        let existing = writing.existing(prepared, proposed.table, self.schema, key, &proposed.columns).await?;
        let mut place = HashMap::new();
        for (row, key) in of(&existing)?.into_iter().enumerate() {
            place.insert(key, row as u64);
        }
        let mut seen = HashMap::new();
        let (mut fresh, mut old_rows, mut new_rows) = (Vec::new(), Vec::new(), Vec::new());
        for (row, key) in proposed_keys.iter().enumerate() {
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
        let (old, new) = self.updated(writing, old, &inputs, old_rows.len())?;
        let updated_count = new.first().map_or(0, |column| column.len());
        let replaced = Change::replace(proposed.table, old, new.clone(), updated_count)?;
        let mut columns = Vec::with_capacity(self.schema.columns.len());
        let mut written = Vec::with_capacity(self.schema.columns.len());
        for index in 0..self.schema.columns.len() {
            columns.push(join(&inserted[index], &replaced.columns[index])?);
            written.push(join(&inserted[index], &new[index])?);
        }
        let diffs = std::iter::repeat_n(1, fresh.len()).chain(replaced.diffs.iter()).collect();
        Ok((Change { table: proposed.table, columns, diffs: repr::Lane::Values(diffs) }, written))
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
