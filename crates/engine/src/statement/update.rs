//! UPDATE.

use arrow::array::ArrayRef;
use repr::{ObjectId, PgError};
use sql::bind::BoundQuery;
use sql::statement::Returning;

use crate::response::{Response, RowsTag};
use crate::session::{Prepared, Session};
use crate::statement::check_writable;
use crate::statement::transaction::begin_write;
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
    let (object, schema) = table(prepared.catalog(), id)?;
    let mut writing = begin_write(session, &rows.relations, true).await?;
    let (mut old, row_count) = writing.rows(prepared, rows, &parameters).await?;
    let new = old.split_off(schema.columns.len());
    let change = Change::replace(id, old, new.clone(), row_count)?;
    writing.write(&object, &schema, change).await?;
    match returning {
        None => Ok(super::command(format!("UPDATE {row_count}"))),
        Some(returning) => writing.returning(&schema, returning, &new, row_count, RowsTag::Update),
    }
}
