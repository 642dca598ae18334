//! SUBSCRIBE: follow a relation or a query.

use sqlparser::ast::Query;

use repr::{ObjectId, PgError};

use super::{BoundStatement, resolve};
use crate::bind::{BindContext, BoundQuery, bind_query};
use crate::parse::{Name, Subscribe, SubscribeTarget, parse_query};

pub(super) fn bind(subscribe: &Subscribe, context: &BindContext) -> Result<BoundStatement, PgError> {
    let (relation, query) = match &subscribe.target {
        SubscribeTarget::Query(query) => (None, bind_query(query, context)?),
        SubscribeTarget::Relation(name) => {
            let (id, query) = relation_query(name, context)?;
            (Some(id), query)
        }
    };
    Ok(BoundStatement::Subscribe { query, relation, snapshot: subscribe.snapshot, progress: subscribe.progress })
}

/// `SELECT *` from the relation.
fn relation_query(name: &Name, context: &BindContext) -> Result<(ObjectId, BoundQuery), PgError> {
    let object = resolve(name, context)?;
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let query: Query = parse_query(&format!("SELECT * FROM {}.{}", quoted(&object.schema), quoted(&object.name)))?;
    let bound = bind_query(&query, context).map_err(|error| PgError { position: Some(name.position), ..error })?;
    Ok((object.id, bound))
}
