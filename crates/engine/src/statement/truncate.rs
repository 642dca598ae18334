//! TRUNCATE: as DELETE it is part of the transaction. The rows of all its tables go at one time.

use repr::{ObjectId, PgError};
use sql::bind::BoundQuery;

use crate::response::Response;
use crate::session::{Prepared, Session};
use crate::statement::check_writable;
use crate::statement::transaction::begin_write;
use crate::write::Change;

pub(super) async fn run(
    session: &mut Session,
    prepared: &Prepared,
    tables: &[(ObjectId, BoundQuery)],
) -> Result<Response, PgError> {
    check_writable(session, "TRUNCATE TABLE")?;
    let relations: Vec<ObjectId> = tables.iter().flat_map(|(_, rows)| rows.relations.iter().copied()).collect();
    let mut writing = begin_write(session, &relations, true).await?;
    let mut changes = Vec::with_capacity(tables.len());
    for (id, rows) in tables {
        let (old, row_count) = writing.rows_of_one(prepared, rows).await?;
        changes.push(Change::constant(*id, old, row_count, -1));
    }
    writing.write_checked(changes).await?;
    Ok(super::command("TRUNCATE TABLE"))
}
