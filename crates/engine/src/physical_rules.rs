//! Which of DataFusion's rules a physical plan goes through, and two of ours.
//!
//! Filters are not pushed down a second time, as they are in the logical plan already. DataFusion's physical rule knows columns
//! by their names: over an outer join that leaves columns out, a condition on a column of one side became one on the other
//! side's column of the same name, a wrong answer.
//!
//! `MissingSorts` sorts where an operator's input is not known to be in the order it needs. DataFusion's own rule moves
//! sorts down and leaves them out where rows are known to be in order, for instance of one constant value. On the way up again
//! a join may forget what was known below it, and the check of the finished plan then refuses the query. `PaddedSides` comes
//! before all of them.

mod padded_side;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

/// DataFusion's rules but those for filters, `PaddedSides` before them and `MissingSorts` after the one that puts sorts in.
pub(crate) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    rules.retain(|rule| !rule.name().starts_with("FilterPushdown"));
    let after = rules.iter().position(|rule| rule.name() == "EnsureRequirements").map_or(0, |position| position + 1);
    rules.insert(after, Arc::new(NodeRule { name: "MissingSorts", rewrite: sort_inputs }));
    rules.insert(0, Arc::new(NodeRule { name: "PaddedSides", rewrite: padded_side::forget }));
    rules
}

/// A rule that rewrites a plan node by node, inputs first.
#[derive(Debug)]
struct NodeRule {
    name: &'static str,
    rewrite: fn(Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>>,
}

impl PhysicalOptimizerRule for NodeRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(plan.transform_up(self.rewrite)?.data)
    }

    fn name(&self) -> &str {
        self.name
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn sort_inputs(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let mut changed = false;
    let mut inputs = Vec::with_capacity(plan.children().len());
    for (input, required) in plan.children().into_iter().zip(plan.required_input_ordering()) {
        let input = Arc::clone(input);
        let Some(required) = required.map(|required| required.into_single()) else {
            inputs.push(input);
            continue;
        };
        if input.equivalence_properties().ordering_satisfy_requirement(required.clone())? {
            inputs.push(input);
            continue;
        }
        changed = true;
        inputs.push(Arc::new(SortExec::new(LexOrdering::from(required), input)));
    }
    match changed {
        true => Ok(Transformed::yes(replace_children_if_necessary(plan, inputs)?)),
        false => Ok(Transformed::no(plan)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules are found by their names, which another version of DataFusion may change.
    #[test]
    fn the_rules_have_the_names_they_are_found_by() {
        let names = |rules: &[Arc<dyn PhysicalOptimizerRule + Send + Sync>]| -> Vec<String> {
            rules.iter().map(|rule| rule.name().to_string()).collect()
        };
        let (theirs, ours) = (names(&PhysicalOptimizer::new().rules), names(&physical_rules()));
        assert_eq!(theirs.iter().filter(|name| name.starts_with("FilterPushdown")).count(), 2);
        assert!(!ours.iter().any(|name| name.starts_with("FilterPushdown")));
        assert!(ours.windows(2).any(|pair| pair == ["EnsureRequirements", "MissingSorts"]), "{ours:?}");
    }
}
