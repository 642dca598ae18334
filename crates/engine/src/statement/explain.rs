//! EXPLAIN: the dataflow that would maintain a query, or that maintains an object.

use std::sync::Arc;

use catalog::Catalog;
use datafusion::logical_expr::LogicalPlan;
use plan::DataflowPlan;
use repr::{ObjectId, PgError, RelationSchema, SqlState, ViewOptions};
use sql::bind::BoundQuery;
use sql::statement::Explained;
use sql::{BoundStatement, Purpose};

use crate::ddl::view_plans;
use crate::read::stream_of;
use crate::response::{Response, RowsTag};
use crate::session::Session;
use crate::statement::{text_columns, text_rows};

pub(super) fn schema() -> RelationSchema {
    text_columns(&["QUERY PLAN"])
}

// Async as its siblings are.
#[allow(clippy::unused_async)]
pub(super) async fn run(
    session: &mut Session,
    catalog: &Arc<Catalog>,
    explained: &Explained,
) -> Result<Response, PgError> {
    let text = match explained {
        Explained::Object(id) => running(session, catalog, *id)?,
        Explained::Statement(statement) => match &**statement {
            BoundStatement::CreateView { query, options, .. } => of_query(session, catalog, query, *options)?,
            BoundStatement::Query(query) | BoundStatement::Subscribe { query, .. } => {
                of_query(session, catalog, query, ViewOptions::default())?
            }
            BoundStatement::Insert { rows, .. }
            | BoundStatement::Update { rows, .. }
            | BoundStatement::Delete { rows, .. } => one_shot(&rows.plan)?,
            BoundStatement::Declare { statement, .. } => match &**statement {
                BoundStatement::Query(query) => of_query(session, catalog, query, ViewOptions::default())?,
                _ => return Err(PgError::unsupported("EXPLAIN of this statement")),
            },
            _ => return Err(PgError::unsupported("EXPLAIN of this statement")),
        },
    };
    let rows: Vec<Vec<Option<String>>> = text.lines().map(|line| vec![Some(line.to_string())]).collect();
    let schema = schema();
    let batch = text_rows(&schema, &rows)?;
    Ok(Response::Rows { schema, rows: stream_of(vec![batch]), tag: RowsTag::Explain })
}

fn of_query(session: &Session, catalog: &Catalog, query: &BoundQuery, options: ViewOptions) -> Result<String, PgError> {
    let id = session.shared.allocate_id();
    match view_plans(&session.shared, catalog, id, "query", query, options) {
        Ok(plans) => {
            let plans: Vec<DataflowPlan> = plans.into_iter().map(|(plan, _)| plan).collect();
            Ok(explain(session, catalog, &plans))
        }
        // It can be read, if not maintained.
        Err(error) if error.state == SqlState::FEATURE_NOT_SUPPORTED => {
            Ok(format!("Cannot be maintained: {}\n{}", error.message, one_shot(&query.plan)?))
        }
        Err(error) => Err(error),
    }
}

fn running(session: &Session, catalog: &Catalog, id: ObjectId) -> Result<String, PgError> {
    let dataflows = session.shared.dataflows.read();
    let Some(running) = dataflows.get(id) else {
        return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, "it has no dataflow of its own"));
    };
    let shared = running.plan.imports().into_iter().filter(|import| catalog.get(*import).is_none());
    let mut plans: Vec<DataflowPlan> =
        shared.filter_map(|import| dataflows.get(import)).map(|running| (*running.plan).clone()).collect();
    plans.push((*running.plan).clone());
    drop(dataflows);
    Ok(explain(session, catalog, &plans))
}

fn explain(session: &Session, catalog: &Catalog, plans: &[DataflowPlan]) -> String {
    let dataflows = session.shared.dataflows.read();
    plan::explain(plans, &|id| match catalog.get(id) {
        Some(object) => object.name.clone(),
        None => dataflows.get(id).map_or_else(|| id.to_string(), |running| running.plan.name.clone()),
    })
}

/// DataFusion's plan, for what is only run once.
fn one_shot(plan: &LogicalPlan) -> Result<String, PgError> {
    Ok(sql::optimize(plan.clone(), Purpose::Read)?.display_indent().to_string())
}
