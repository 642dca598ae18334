//! DELETE.

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
    check_writable(session, "DELETE")?;
    let (_, schema) = table(prepared.catalog(), id)?;
    let mut writing = begin_write(session, &rows.relations, true).await?;
    let (old, row_count) = writing.rows(prepared, rows, &parameters).await?;
    let rules = writing.rules(id)?;
    let change = Change::constant(id, old.clone(), row_count, -1);
    writing.write(&rules, change, Replaced::Deleted(old.clone())).await?;
    match returning {
        None => Ok(super::command(format!("DELETE {row_count}"))),
        Some(returning) => writing.returning(&schema, returning, &parameters, (&old, row_count), RowsTag::Delete),
    }
}
