//! EXPLAIN: of a statement that has a plan, or of a view or index that runs already.

use repr::{ObjectId, PgError};

use super::show::object_of_kind;
use super::{BoundStatement, bind_inner};
use crate::bind::BindContext;
use crate::parse::Explain;

/// What is explained.
#[derive(Clone, Debug)]
pub enum Explained {
    /// A Query, Insert, Update, Delete, CreateView, Subscribe or Declare.
    Statement(Box<BoundStatement>),
    /// An object's running dataflow.
    Object(ObjectId),
}

pub(super) fn bind(explain: &Explain, context: &BindContext) -> Result<BoundStatement, PgError> {
    let explained = match explain {
        Explain::Object(kind, name) => Explained::Object(object_of_kind(*kind, name, context)?),
        Explain::Statement(statement) => match bind_inner(statement, context)? {
            planned @ (BoundStatement::Query(_)
            | BoundStatement::Insert { .. }
            | BoundStatement::Update { .. }
            | BoundStatement::Delete { .. }
            | BoundStatement::CreateView { .. }
            | BoundStatement::Subscribe { .. }
            | BoundStatement::Declare { .. }) => Explained::Statement(Box::new(planned)),
            _ => return Err(PgError::unsupported("EXPLAIN of a statement without a plan")),
        },
    };
    Ok(BoundStatement::Explain(explained))
}
