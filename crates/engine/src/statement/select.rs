//! SELECT, VALUES, TABLE.

use arrow::array::ArrayRef;
use repr::PgError;
use sql::bind::BoundQuery;
use sql::functions::catalog::set_config_calls;

use crate::response::{Response, RowsTag};
use crate::session::{Prepared, Session};

pub(super) async fn run(
    session: &mut Session,
    prepared: &Prepared,
    query: &BoundQuery,
    parameters: Vec<ArrayRef>,
) -> Result<Response, PgError> {
    let plan = prepared.optimized(&query.plan)?;
    let set = set_config_calls(&plan, &parameters)?;
    let mut reading = session.reading(prepared.catalog());
    let rows = reading.run(plan, &parameters).await?;
    let notices = reading.notices;
    session.notices.extend(notices);
    // After the read: what the statement itself shows of settings is from before it.
    for (name, value, local) in set {
        super::set::run(session, &name, Some(&value), local)?;
    }
    Ok(Response::Rows { schema: query.schema.clone(), rows, tag: RowsTag::Select })
}
