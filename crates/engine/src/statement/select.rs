//! SELECT, VALUES, TABLE.

use std::time::Duration;

use arrow::array::ArrayRef;
use repr::PgError;
use sql::bind::BoundQuery;
use sql::functions::catalog::{Effect, effects};

use crate::constant::moment;
use crate::response::{Response, RowsTag};
use crate::session::{Prepared, Session};

pub(super) async fn run(
    session: &mut Session,
    prepared: &Prepared,
    query: &BoundQuery,
    parameters: Vec<ArrayRef>,
) -> Result<Response, PgError> {
    let plan = prepared.optimized(&query.plan)?;
    let effects = effects(&plan, &parameters)?;
    for effect in &effects {
        if let Effect::Sleep(seconds) = effect {
            let duration = Duration::try_from_secs_f64(*seconds).unwrap_or_default();
            tokio::time::sleep(duration).await;
        }
    }
    if query.locks {
        super::transaction::lock(session, &query.relations);
    }
    let mut reading = session.reading(prepared.catalog());
    reading.as_of = query.as_of.as_ref().map(|at| moment(session, at)).transpose()?;
    let rows = reading.run(plan, &parameters).await?;
    let notices = reading.notices;
    session.notices.extend(notices);
    // After the read: what the statement itself shows of settings is from before it.
    for effect in effects {
        if let Effect::Set { name, value, local } = effect {
            super::set::run(session, &name, Some(&value), local)?;
        }
    }
    Ok(Response::Rows { schema: query.schema.clone(), rows, tag: RowsTag::Select })
}
