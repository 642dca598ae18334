//! DataFusion's optimizer with the rules we trust.
//!
//! A bound plan has no subquery and every cast, so no analyzer runs and none of the decorrelating rules. What the two
//! purposes need differs: a one-shot plan goes to DataFusion's physical planner, which knows DISTINCT only as an aggregate
//! and likes limits in its scans; a maintained plan keeps both as they are, because `plan` lowers them itself, and keeps a
//! join's inputs unfiltered where the filter would stop views from sharing an arrangement.
//!
//! No clock is read here: `now()` stays a call.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::common::alias::AliasGenerator;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, NullEquality};
use datafusion::execution::registry::{FunctionRegistry, MemoryFunctionRegistry};
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::{Distinct, LogicalPlan};
use datafusion::optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::eliminate_limit::EliminateLimit;
use datafusion::optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::filter_null_join_keys::FilterNullJoinKeys;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::optimize_unions::OptimizeUnions;
use datafusion::optimizer::propagate_empty_relation::PropagateEmptyRelation;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::push_down_limit::PushDownLimit;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{ApplyOrder, Optimizer, OptimizerConfig, OptimizerContext, OptimizerRule};
use repr::PgError;

use crate::clock_bounds;

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Lowered to a dataflow that keeps the answer.
    Maintain,
    /// Run once by DataFusion.
    Read,
}

/// The same rows by a cheaper plan: the same number of columns, of the same types, in the same order.
///
/// Errors: what evaluating a constant raises, with its own SQLSTATE; XX000 if a rule breaks the plan.
pub fn optimize(plan: LogicalPlan, purpose: Purpose) -> Result<LogicalPlan, PgError> {
    let types = |plan: &LogicalPlan| -> Vec<_> {
        plan.schema().fields().iter().map(|field| field.data_type().clone()).collect()
    };
    let expected = types(&plan);
    let plan = if purpose == Purpose::Maintain { clock_bounds::derive(plan)? } else { plan };
    let context = Context::new()?;
    let optimizer = Optimizer::with_rules(rules(purpose, joins_null_keys(&plan)?));
    let optimized = optimizer.optimize(plan, &context, |_, _| {}).map_err(plan_error)?;
    match types(&optimized) {
        found if found == expected => Ok(optimized),
        found => {
            Err(PgError::internal(format!("the optimizer changed a plan's columns from {expected:?} to {found:?}")))
        }
    }
}

/// No clock, and the one function that a rule looks up by its name: DISTINCT ON becomes an aggregate of `first_value`.
struct Context {
    options: OptimizerContext,
    functions: MemoryFunctionRegistry,
}

impl Context {
    fn new() -> Result<Context, PgError> {
        let mut functions = MemoryFunctionRegistry::new();
        functions.register_udaf(first_value_udaf()).map_err(plan_error)?;
        Ok(Context { options: OptimizerContext::new().without_query_execution_start_time(), functions })
    }
}

impl OptimizerConfig for Context {
    fn query_execution_start_time(&self) -> Option<DateTime<Utc>> {
        self.options.query_execution_start_time()
    }

    fn alias_generator(&self) -> &Arc<AliasGenerator> {
        self.options.alias_generator()
    }

    fn options(&self) -> Arc<ConfigOptions> {
        OptimizerConfig::options(&self.options)
    }

    fn function_registry(&self) -> Option<&dyn FunctionRegistry> {
        Some(&self.functions)
    }
}

/// Whether some join of the plan lets NULL keys meet.
fn joins_null_keys(plan: &LogicalPlan) -> Result<bool, PgError> {
    let meets = |node: &LogicalPlan| {
        let null_equal = matches!(node, LogicalPlan::Join(join) if join.null_equality == NullEquality::NullEqualsNull);
        Ok(null_equal)
    };
    plan.exists(meets).map_err(plan_error)
}

/// In DataFusion's order, which its rules rely on.
///
/// Two of them take an `=` beside a join where NULL keys meet for a key of that join, and then NULLs meet there too: a plan
/// with such a join goes without them.
fn rules(purpose: Purpose, joins_null_keys: bool) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let read = purpose == Purpose::Read;
    let mut rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> =
        vec![Arc::new(OptimizeUnions::new()), Arc::new(SimplifyExpressions::new())];
    if read {
        rules.push(Arc::new(ReplaceDistinctWithAggregate::new()));
    }
    if !joins_null_keys {
        rules.push(Arc::new(ExtractEquijoinPredicate::new()));
    }
    rules.push(Arc::new(EliminateDuplicatedExpr::new()));
    rules.push(Arc::new(EliminateFilter::new()));
    if !joins_null_keys {
        rules.push(Arc::new(EliminateCrossJoin::new()));
    }
    rules.push(Arc::new(EliminateLimit::new()));
    rules.push(Arc::new(PropagateEmptyRelation::new()));
    if read {
        rules.push(Arc::new(FilterNullJoinKeys::default()));
    }
    rules.push(Arc::new(EliminateOuterJoin::new()));
    if read {
        rules.push(Arc::new(PushDownLimit::new()));
    }
    rules.push(Arc::new(PushDownFilterAboveDistinctOn(PushDownFilter::new())));
    // Not SingleDistinctToGroupBy: it sums sums, and the sum of a sum has another type in PostgreSQL.
    rules.push(Arc::new(CommonSubexprEliminate::new()));
    rules.push(Arc::new(OptimizeProjections::new()));
    rules
}

/// DataFusion's rule, kept from pushing a filter below DISTINCT ON: there it would choose another row of a group, not drop
/// the group. (DataFusion itself never meets DISTINCT ON here, having made an aggregate of it.)
#[derive(Debug)]
struct PushDownFilterAboveDistinctOn(PushDownFilter);

impl OptimizerRule for PushDownFilterAboveDistinctOn {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>, DataFusionError> {
        let fenced = matches!(&plan, LogicalPlan::Filter(filter)
            if matches!(&*filter.input, LogicalPlan::Distinct(Distinct::On(_))));
        if fenced { Ok(Transformed::no(plan)) } else { self.0.rewrite(plan, config) }
    }
}

/// A user's error out of a constant that was evaluated, or a defect.
fn plan_error(error: DataFusionError) -> PgError {
    let mut cause = &error;
    loop {
        match cause {
            DataFusionError::External(source) => {
                if let Some(error) = source.downcast_ref::<PgError>() {
                    return error.clone();
                }
                break;
            }
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => cause = inner,
            DataFusionError::Shared(inner) => cause = inner,
            _ => break,
        }
    }
    PgError::internal(format!("the optimizer failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::{LogicalPlanBuilder, col, lit};

    #[test]
    fn a_filter_stays_above_distinct_on() {
        let plan = LogicalPlanBuilder::values(vec![vec![lit(1i32), lit(2i32)], vec![lit(1i32), lit(3i32)]])
            .and_then(|plan| plan.distinct_on(vec![col("column1")], vec![col("column1"), col("column2")], None))
            .and_then(|plan| plan.filter(col("column2").eq(lit(3i32))))
            .and_then(|plan| plan.build())
            .unwrap();
        let optimized = optimize(plan.clone(), Purpose::Maintain).unwrap();
        let shown = optimized.display_indent().to_string();
        assert!(shown.starts_with("Filter") && shown.contains("DistinctOn"), "{shown}");
        let read = optimize(plan, Purpose::Read).unwrap().display_indent().to_string();
        assert!(!read.contains("DistinctOn"), "{read}");
    }
}
