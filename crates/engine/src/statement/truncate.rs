//! TRUNCATE: as DELETE it is part of the transaction. The rows of all its tables go at one time.

use catalog::ObjectKind;
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
    restart_identity: bool,
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
    if restart_identity {
        restart(session, tables)?;
    }
    Ok(super::command("TRUNCATE TABLE"))
}

/// Puts the sequences of the tables' columns to their starts: at once, or when the transaction commits.
fn restart(session: &mut Session, tables: &[(ObjectId, BoundQuery)]) -> Result<(), PgError> {
    let catalog = session.catalog();
    let mut moves = Vec::new();
    for (table, _) in tables {
        for object in catalog.dependents(*table) {
            if let ObjectKind::Sequence(sequence) = &object.kind
                && sequence.owned_by.is_some_and(|(owner, _)| owner == *table)
            {
                moves.push((object.oid, sequence.first()));
            }
        }
    }
    match session.transaction.as_mut() {
        Some(transaction) => transaction.moves.extend(moves),
        None => {
            for (oid, position) in moves {
                session.shared.sequences.set(&session.shared.storage, oid, position)?;
            }
        }
    }
    Ok(())
}
