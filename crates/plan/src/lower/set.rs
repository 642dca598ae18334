//! UNION ALL and DISTINCT; the binder makes the other set operations out of these, joins and counts.

use datafusion::logical_expr::{Distinct, DistinctOn, Union};
use repr::PgError;

use super::{Lowering, resolve_all, top_k};
use crate::dataflow_plan::{NodeId, column};
use crate::expression::{cast, resolve};

impl Lowering<'_> {
    pub(super) fn union(&mut self, union: &Union) -> Result<NodeId, PgError> {
        let types: Vec<_> = union.schema.fields().iter().map(|field| field.data_type().clone()).collect();
        let mut inputs = Vec::new();
        for input in &union.inputs {
            let node = self.plan(input)?;
            let from = self.graph.types(node);
            if from.len() != types.len() {
                return Err(PgError::internal("union of inputs with different numbers of columns"));
            }
            let columns =
                from.iter().zip(&types).enumerate().map(|(index, (from, to))| cast(column(index), from, to)).collect();
            inputs.push(self.graph.map(node, Vec::new(), columns)?);
        }
        self.graph.union(inputs)
    }

    pub(super) fn distinct(&mut self, distinct: &Distinct) -> Result<NodeId, PgError> {
        match distinct {
            Distinct::All(input) => {
                let input = self.plan(input)?;
                self.graph.distinct(input)
            }
            Distinct::On(on) => self.distinct_on(on),
        }
    }

    /// The first row of each group by the order; what is selected of it is computed after.
    fn distinct_on(&mut self, on: &DistinctOn) -> Result<NodeId, PgError> {
        let input = self.plan(&on.input)?;
        let schema = on.input.schema();
        let key = resolve_all(&on.on_expr, schema)?;
        let mut order = Vec::new();
        for sort in on.sort_expr.iter().flatten() {
            let expr = resolve(&sort.expr, &[schema])?;
            // The order begins with the grouping expressions, which do not order within a group.
            if !key.contains(&expr) {
                order.push(top_k::Order { expr, descending: !sort.asc, nulls_first: sort.nulls_first });
            }
        }
        let first = self.top_k(input, &key, order, 0, Some(1))?;
        let columns = resolve_all(&on.select_expr, schema)?;
        self.graph.map(first, Vec::new(), columns)
    }
}
