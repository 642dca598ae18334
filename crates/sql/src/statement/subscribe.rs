//! SUBSCRIBE: follow a relation or a query.

use sqlparser::ast::{Expr, Query};

use repr::{ObjectId, PgError};

use super::{BoundStatement, resolve};
use crate::bind::{BindContext, BoundQuery, bind_moment, bind_query};
use crate::parse::{Name, Subscribe, SubscribeTarget, parse_query};

pub(super) fn bind(subscribe: &Subscribe, context: &BindContext) -> Result<BoundStatement, PgError> {
    let (relation, query) = match &subscribe.target {
        SubscribeTarget::Query(query) => (None, bind_query(query, context)?),
        SubscribeTarget::Relation(name) => {
            let (id, query) = relation_query(name, context)?;
            (Some(id), query)
        }
    };
    let moment = |expr: &Option<Expr>| expr.as_ref().map(|expr| bind_moment(expr, context)).transpose();
    let query = BoundQuery { as_of: moment(&subscribe.as_of)?, ..query };
    let (snapshot, progress, up_to) = (subscribe.snapshot, subscribe.progress, moment(&subscribe.up_to)?);
    Ok(BoundStatement::Subscribe { query, relation, snapshot, progress, up_to })
}

/// `SELECT *` from the relation.
fn relation_query(name: &Name, context: &BindContext) -> Result<(ObjectId, BoundQuery), PgError> {
    let object = resolve(name, context)?;
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let query: Query = parse_query(&format!("SELECT * FROM {}.{}", quoted(&object.schema), quoted(&object.name)))?;
    let bound = bind_query(&query, context).map_err(|error| PgError { position: Some(name.position), ..error })?;
    Ok((object.id, bound))
}
