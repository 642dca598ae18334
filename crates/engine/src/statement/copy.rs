//! COPY to and from the client. The server reads and writes the formats; here are the rows.

use arrow::array::ArrayRef;
use catalog::Catalog;
use repr::{ObjectId, PgError, RelationSchema};
use sql::statement::{CopyFormat as BoundFormat, CopyOptions as BoundOptions, CopyOutSource};

use crate::response::{CopyFormat, CopyIn, CopyOptions, Response};
use crate::session::{Prepared, Session};
use crate::statement::transaction::{Replaced, begin_write};
use crate::statement::{check_writable, select, subscribe};
use crate::write::{Change, table};
use crate::{read, rules};

pub(super) async fn copy_out(
    session: &mut Session,
    prepared: &Prepared,
    source: &CopyOutSource,
    options: &BoundOptions,
    parameters: Vec<ArrayRef>,
) -> Result<Response, PgError> {
    let response = match source {
        CopyOutSource::Query(query) => select::run(session, prepared, query, parameters).await?,
        CopyOutSource::Subscribe(statement) => subscribe::run(session, prepared.catalog(), statement).await?,
    };
    match response {
        Response::Rows { schema, rows, .. } => Ok(Response::CopyOut { schema, rows, options: copy_options(options) }),
        other => Ok(other),
    }
}

fn copy_options(options: &BoundOptions) -> CopyOptions {
    CopyOptions {
        format: match options.format {
            BoundFormat::Text => CopyFormat::Text,
            BoundFormat::Csv => CopyFormat::Csv,
            BoundFormat::Binary => CopyFormat::Binary,
        },
        delimiter: options.delimiter as char,
        null: options.null.clone(),
        header: options.header,
        quote: options.quote as char,
        escape: options.escape as char,
    }
}

pub(super) fn begin_copy_in(
    catalog: &Catalog,
    id: ObjectId,
    columns: &[usize],
    options: &BoundOptions,
) -> Result<Response, PgError> {
    let (_, schema) = table(catalog, id)?;
    Ok(Response::CopyIn(CopyIn {
        table: id,
        schema: RelationSchema::new(columns.iter().map(|index| schema.columns[*index].clone()).collect()),
        columns: columns.to_vec(),
        options: copy_options(options),
    }))
}

/// Adds the rows that a client sent, as one INSERT of them.
pub(crate) async fn copy_in(
    session: &mut Session,
    copy: &CopyIn,
    batches: Vec<Vec<ArrayRef>>,
) -> Result<String, PgError> {
    check_writable(session, "COPY FROM")?;
    let catalog = session.catalog();
    let (object, schema) = table(&catalog, copy.table)?;
    let arrow_schema = copy.schema.arrow();
    let mut received = Vec::with_capacity(batches.len());
    for columns in batches {
        let row_count = columns.first().map_or(0, |column| column.len());
        received.push(read::batch(&arrow_schema, columns, row_count)?);
    }
    let (given, row_count) = read::concat(received, &arrow_schema)?;
    let missing = copy.columns.len() < schema.columns.len();
    let mut columns = match missing {
        true => rules::default_columns(&session.shared, &session.asker(), &catalog, &object, row_count)?,
        false => given.clone(),
    };
    for (place, index) in copy.columns.iter().enumerate() {
        columns[*index] = ArrayRef::clone(&given[place]);
    }
    let mut writing = begin_write(session, &[], false).await?;
    let rules = writing.rules(copy.table)?;
    writing.fill(&rules, &mut columns, row_count)?;
    writing.write(&rules, Change::constant(copy.table, columns, row_count, 1), Replaced::Nothing).await?;
    Ok(format!("COPY {row_count}"))
}
