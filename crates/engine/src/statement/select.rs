//! SELECT, VALUES, TABLE.

use arrow::array::ArrayRef;
use repr::PgError;
use sql::bind::BoundQuery;

use crate::response::{Response, RowsTag};
use crate::session::{Prepared, Session};

pub(super) async fn run(
    session: &mut Session,
    prepared: &Prepared,
    query: &BoundQuery,
    parameters: Vec<ArrayRef>,
) -> Result<Response, PgError> {
    let plan = prepared.optimized(&query.plan)?;
    let mut reading = session.reading(prepared.catalog());
    let rows = reading.run(plan, &parameters).await?;
    let notices = reading.notices;
    session.notices.extend(notices);
    Ok(Response::Rows { schema: query.schema.clone(), rows, tag: RowsTag::Select })
}
