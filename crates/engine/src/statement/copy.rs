//! COPY to and from the client. The server reads and writes the formats; here are the rows.

use arrow::array::{ArrayRef, UInt64Array, new_null_array};
use arrow::compute::take;
use catalog::Catalog;
use repr::{ObjectId, PgError, RelationSchema};
use sql::BoundStatement;
use sql::statement::{CopyFormat as BoundFormat, CopyOptions as BoundOptions, CopyOutSource};

use crate::response::{CopyFormat, CopyIn, CopyOptions, Response};
use crate::session::{Prepared, Session};
use crate::statement::transaction::begin_write;
use crate::statement::{check_writable, select, subscribe};
use crate::write::{Change, table};
use crate::{constant, read};

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
    let catalog = session.shared.catalog();
    let (object, schema) = table(&catalog, copy.table)?;
    let arrow_schema = copy.schema.arrow();
    let mut received = Vec::with_capacity(batches.len());
    for columns in batches {
        let row_count = columns.first().map_or(0, |column| column.len());
        received.push(read::batch(&arrow_schema, columns, row_count)?);
    }
    let (given, row_count) = read::concat(received, &arrow_schema)?;
    let defaults = defaults(session, &object.name, &schema, copy)?;
    let mut columns = Vec::with_capacity(schema.columns.len());
    for (index, default) in defaults.iter().enumerate() {
        columns.push(match copy.columns.iter().position(|column| *column == index) {
            Some(place) => ArrayRef::clone(&given[place]),
            None => {
                let first = UInt64Array::from(vec![0; row_count]);
                take(default, &first, None).map_err(|error| PgError::internal(error.to_string()))?
            }
        });
    }
    let mut writing = begin_write(session, &[], false).await?;
    writing.write(&object, &schema, Change::constant(copy.table, columns, row_count, 1)).await?;
    Ok(format!("COPY {row_count}"))
}

/// One row of what an INSERT without values for them gives the columns that the data lacks.
fn defaults(session: &Session, name: &str, schema: &RelationSchema, copy: &CopyIn) -> Result<Vec<ArrayRef>, PgError> {
    let nulls = || schema.columns.iter().map(|column| new_null_array(&column.sql_type.arrow(), 1)).collect();
    if copy.columns.len() == schema.columns.len() {
        return Ok(nulls());
    }
    let text = format!("INSERT INTO public.{} DEFAULT VALUES", catalog::system::quote_identifier(name));
    let statement = sql::parse(&text)?.pop().ok_or_else(|| PgError::internal("no statement in an INSERT"))?;
    let prepared = session.bind(&statement, &[])?;
    let BoundStatement::Insert { rows, .. } = prepared.bound() else { return Ok(nulls()) };
    let row = constant::rows(session, &rows.plan, &[])?;
    Ok(row.map_or_else(nulls, |(columns, _)| columns))
}
