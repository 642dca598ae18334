//! UPDATE.

use arrow::array::ArrayRef;
use repr::{ObjectId, PgError};
use sql::bind::BoundQuery;
use sql::statement::Returning;

use crate::response::{Response, RowsTag};
use crate::session::{Prepared, Session};
use crate::statement::check_writable;
use crate::statement::transaction::{Replaced, begin_write};
use crate::write::{Change, table};

pub(super) async fn run(
    session: &mut Session,
    prepared: &Prepared,
    id: ObjectId,
    rows: &BoundQuery,
    returning: Option<&Returning>,
    parameters: Vec<ArrayRef>,
) -> Result<Response, PgError> {
    check_writable(session, "UPDATE")?;
    let (_, schema) = table(prepared.catalog(), id)?;
    let mut writing = begin_write(session, &rows.relations, true).await?;
    let (mut old, row_count) = writing.rows(prepared, rows, &parameters).await?;
    let mut new = old.split_off(schema.columns.len());
    let rules = writing.rules(id)?;
    writing.fill(&rules, &mut new, row_count)?;
    let change = Change::replace(id, old.clone(), new.clone(), row_count)?;
    writing.write(&rules, change, Replaced::Updated(old, new.clone())).await?;
    match returning {
        None => Ok(super::command(format!("UPDATE {row_count}"))),
        Some(returning) => writing.returning(&schema, returning, &parameters, (&new, row_count), RowsTag::Update),
    }
}
