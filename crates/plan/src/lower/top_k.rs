//! ORDER BY with LIMIT, and LIMIT alone: the first rows of one group.
//!
//! A view has no order, so a sort without a limit is dropped; a limit takes the sort below it, also through
//! projections.

use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::{Expr, FetchType, Limit, LogicalPlan, SkipType, Sort, SortExpr};
use repr::{PgError, SqlState};

use super::{Lowering, resolve_all};
use crate::dataflow_plan::{NodeId, Operator, SortKey};
use crate::expression::resolve;

/// One expression of an order.
pub(super) struct Order {
    pub(super) expr: Expr,
    pub(super) descending: bool,
    pub(super) nulls_first: bool,
}

impl Lowering<'_> {
    pub(super) fn sort(&mut self, sort: &Sort) -> Result<NodeId, PgError> {
        let input = self.plan(&sort.input)?;
        match sort.fetch {
            None => Ok(input),
            Some(fetch) => {
                let order = resolve_order(&sort.expr, sort.input.schema())?;
                self.top_k(input, &[], order, 0, Some(fetch as u64))
            }
        }
    }

    pub(super) fn limit(&mut self, limit: &Limit) -> Result<NodeId, PgError> {
        let unknown = || PgError::unsupported("LIMIT or OFFSET that is not a constant in a materialized view");
        let skip = match limit.get_skip_type().map_err(|error| invalid_limit(&error))? {
            SkipType::Literal(skip) => skip as u64,
            SkipType::UnsupportedExpr => return Err(unknown()),
        };
        let fetch = match limit.get_fetch_type().map_err(|error| invalid_limit(&error))? {
            FetchType::Literal(fetch) => fetch.map(|fetch| fetch as u64),
            FetchType::UnsupportedExpr => return Err(unknown()),
        };
        self.limited(&limit.input, skip, fetch)
    }

    /// The rows of `plan` from `skip` on, `fetch` of them.
    fn limited(&mut self, plan: &LogicalPlan, skip: u64, fetch: Option<u64>) -> Result<NodeId, PgError> {
        match plan {
            LogicalPlan::Projection(projection) => {
                let input = self.limited(&projection.input, skip, fetch)?;
                let columns = resolve_all(&projection.expr, projection.input.schema())?;
                self.graph.map(input, Vec::new(), columns)
            }
            LogicalPlan::SubqueryAlias(alias) => self.limited(&alias.input, skip, fetch),
            LogicalPlan::Sort(sort) => {
                let input = self.plan(&sort.input)?;
                let order = resolve_order(&sort.expr, sort.input.schema())?;
                let kept = sort.fetch.map(|kept| (kept as u64).saturating_sub(skip));
                let fetch = match (kept, fetch) {
                    (Some(kept), Some(fetch)) => Some(kept.min(fetch)),
                    (kept, fetch) => kept.or(fetch),
                };
                self.top_k(input, &[], order, skip, fetch)
            }
            _ => {
                let input = self.plan(plan)?;
                self.first_rows(input, skip, fetch)
            }
        }
    }

    /// Any rows will do, so the least by all columns.
    pub(super) fn first_rows(&mut self, input: NodeId, skip: u64, fetch: Option<u64>) -> Result<NodeId, PgError> {
        self.top_k(input, &[], Vec::new(), skip, fetch)
    }

    /// The rows of each group from `offset` on by `order`, `limit` of them; columns as those of `input`.
    pub(super) fn top_k(
        &mut self,
        input: NodeId,
        key: &[Expr],
        order: Vec<Order>,
        offset: u64,
        limit: Option<u64>,
    ) -> Result<NodeId, PgError> {
        if offset == 0 && limit.is_none() {
            return Ok(input);
        }
        if limit == Some(0) {
            let nothing = arrow::record_batch::RecordBatch::new_empty(self.graph.schema(input));
            return self.constant(nothing);
        }
        let width = self.graph.width(input);
        let (extended, key, order) = self.ordered(input, key, order)?;
        let top = self.graph.add(Operator::TopK { input: extended, key, order, offset, limit })?;
        self.graph.project(top, &(0..width).collect::<Vec<_>>())
    }

    /// The rows of each group whose rank by `order` is at most `limit`; columns as those of `input`.
    pub(super) fn top_ranks(
        &mut self,
        input: NodeId,
        key: &[Expr],
        order: Vec<Order>,
        limit: u64,
        dense: bool,
    ) -> Result<NodeId, PgError> {
        let width = self.graph.width(input);
        let (extended, key, order) = self.ordered(input, key, order)?;
        let top = self.graph.add(Operator::TopRanks { input: extended, key, order, limit, dense })?;
        self.graph.project(top, &(0..width).collect::<Vec<_>>())
    }

    /// `input` with columns for key and order, and which these are.
    fn ordered(
        &mut self,
        input: NodeId,
        key: &[Expr],
        order: Vec<Order>,
    ) -> Result<(NodeId, Vec<usize>, Vec<SortKey>), PgError> {
        let not_literal = |expr: &&Expr| !matches!(expr, Expr::Literal(..));
        let key: Vec<Expr> = key.iter().filter(not_literal).cloned().collect();
        let exprs: Vec<Expr> = key.iter().cloned().chain(order.iter().map(|order| order.expr.clone())).collect();
        let (extended, positions) = self.graph.extend(input, &exprs)?;
        let (key, order_columns) = positions.split_at(key.len());
        let mut sort_keys: Vec<SortKey> = Vec::new();
        for (column, order) in order_columns.iter().zip(&order) {
            if !sort_keys.iter().any(|other| other.column == *column) {
                sort_keys.push(SortKey {
                    column: *column,
                    descending: order.descending,
                    nulls_first: order.nulls_first,
                });
            }
        }
        Ok((extended, key.to_vec(), sort_keys))
    }
}

/// An order over positions; literals order nothing.
pub(super) fn resolve_order(sorts: &[SortExpr], schema: &DFSchema) -> Result<Vec<Order>, PgError> {
    let mut order = Vec::new();
    for sort in sorts {
        let expr = resolve(&sort.expr, &[schema])?;
        if !matches!(expr, Expr::Literal(..)) {
            order.push(Order { expr, descending: !sort.asc, nulls_first: sort.nulls_first });
        }
    }
    Ok(order)
}

fn invalid_limit(error: &DataFusionError) -> PgError {
    let message = error.strip_backtrace();
    match message.contains("OFFSET") {
        true => PgError::new(SqlState::INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE, "OFFSET must not be negative"),
        false => PgError::new(SqlState::INVALID_ROW_COUNT_IN_LIMIT_CLAUSE, "LIMIT must not be negative"),
    }
}
