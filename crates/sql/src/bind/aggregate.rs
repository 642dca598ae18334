//! GROUP BY: what stands after it may read the grouping expressions and aggregates only.
//!
//! Every expression of the later clauses is bound over FROM first. Here its aggregates and grouping expressions are replaced
//! by columns of one `Aggregate` node, whose input is projected to exactly the columns it groups by and aggregates. A
//! column left over is an error, unless the primary key of its relation is grouped by: then it becomes a key as well.

use std::cell::RefCell;

use datafusion::common::Column;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, SortExpr, lit};
use repr::{PgError, SqlState};

use super::Binder;
use super::build::{aggregate, any_expr, outer_reference, project, replace};
use super::grouping::{Above, GroupBy, aggregate_sets, grouping_arguments};
use super::query::ordering;
use super::scope::Scope;
use super::set::GroupKey;
use crate::functions::{keeps_order, resolve_aggregate};
use crate::typed::TypedExpr;

/// The columns that the aggregate node will have.
struct Grouping<'s> {
    scope: &'s Scope,
    groups: Vec<Group>,
    /// Each aggregate as it was bound, as it is computed, and its column.
    aggregates: Vec<(Expr, Expr, Expr)>,
    /// Columns to project before: expression and name.
    inputs: Vec<(Expr, Column)>,
    /// What the rows are sorted by, which is the order of aggregates that name none: PostgreSQL takes rows as they come.
    order: Vec<SortExpr>,
    /// Where there are several: each of indexes into `groups`.
    sets: Option<Vec<Vec<usize>>>,
    /// Columns to project after, of several sets, and their names.
    above: Vec<(Above, String)>,
    error: Option<PgError>,
}

struct Group {
    expr: Expr,
    key: GroupKey,
    /// What the later clauses read.
    value: Expr,
}

impl Binder<'_> {
    /// Groups `plan` by `groups` and rewrites `exprs`, which were bound over `scope`, to read the result.
    pub(crate) fn group(
        &self,
        plan: LogicalPlan,
        scope: &Scope,
        groups: GroupBy,
        exprs: &mut [&mut Expr],
    ) -> Result<LogicalPlan, PgError> {
        let (plan, order) = ordering(plan);
        let grouping = RefCell::new(Grouping {
            scope,
            groups: Vec::new(),
            aggregates: Vec::new(),
            inputs: Vec::new(),
            order,
            sets: groups.sets,
            above: Vec::new(),
            error: None,
        });
        for typed in groups.exprs {
            self.add_group(&grouping, typed)?;
        }
        for expr in exprs.iter_mut() {
            **expr = self.grouped(&grouping, std::mem::take(&mut **expr))?;
        }
        self.build_groups(plan, grouping.into_inner())
    }

    fn add_group(&self, grouping: &RefCell<Grouping>, typed: TypedExpr) -> Result<Expr, PgError> {
        let mut key = self.group_key(&typed)?;
        let mut grouping = grouping.borrow_mut();
        if grouping.sets.is_some() {
            key.group = key.group.unalias();
        }
        let value = match (&grouping.sets, &key.aggregate, &key.value) {
            (None, ..) => key.value.clone(),
            (Some(_), None, _) => key.group.clone(),
            (Some(_), Some(_), Expr::Column(value)) => {
                let name = self.fresh("c");
                let index = grouping.groups.len();
                grouping.above.push((Above::KeyOf(index, value.clone()), name.clone()));
                Expr::Column(Column::new_unqualified(name))
            }
            (Some(_), Some(_), other) => return Err(PgError::internal(format!("{other} is no column"))),
        };
        grouping.groups.push(Group { expr: typed.expr, key, value: value.clone() });
        Ok(value)
    }

    /// `expr` over the columns of the aggregate node.
    fn grouped(&self, grouping: &RefCell<Grouping>, expr: Expr) -> Result<Expr, PgError> {
        let result = replace(expr, |expr| {
            if let Some(group) = grouping.borrow().groups.iter().find(|group| group.expr == *expr) {
                return Some(group.value.clone());
            }
            match expr {
                Expr::AggregateFunction(call) if grouping_arguments(call).is_some() => {
                    Some(self.grouping_bits(grouping, grouping_arguments(call).unwrap_or_default()))
                }
                Expr::AggregateFunction(call) => Some(self.add_aggregate(grouping, expr, call)),
                Expr::Column(column) if grouping.borrow().scope.find(column).is_some() => {
                    Some(self.dependent(grouping, column, false))
                }
                _ => None,
            }
        })?;
        self.rewrite_subqueries(&result, &mut |operand| self.grouped(grouping, operand), &mut |expr| {
            self.refer_to_group(grouping, expr)
        })?;
        match grouping.borrow_mut().error.take() {
            Some(error) => Err(error),
            None => Ok(result),
        }
    }

    /// What GROUPING of these arguments becomes.
    fn grouping_bits(&self, grouping: &RefCell<Grouping>, arguments: &[Expr]) -> Expr {
        let mut grouping = grouping.borrow_mut();
        let index = |argument: &Expr| grouping.groups.iter().position(|group| group.expr == *argument);
        let Some(keys) = arguments.iter().map(index).collect::<Option<Vec<usize>>>() else {
            let message = "arguments to GROUPING must be grouping expressions of the associated query level";
            grouping.error.get_or_insert(PgError::new(SqlState::GROUPING_ERROR, message));
            return lit(0i32);
        };
        if grouping.sets.is_none() {
            return lit(0i32);
        }
        let name = self.fresh("c");
        grouping.above.push((Above::Missing(keys), name.clone()));
        Expr::Column(Column::new_unqualified(name))
    }

    /// A column that is not grouped by: fine if the grouped primary key of its relation determines it.
    fn dependent(&self, grouping: &RefCell<Grouping>, column: &Column, in_subquery: bool) -> Expr {
        let scope = grouping.borrow().scope;
        let in_every_set = |index: &usize| grouping.borrow().sets.iter().flatten().all(|set| set.contains(index));
        let count = grouping.borrow().groups.len();
        let grouped: Vec<Expr> =
            (0..count).filter(in_every_set).map(|index| grouping.borrow().groups[index].expr.clone()).collect();
        let determined = scope.relation_of(column).is_some_and(|relation| relation.key_within(&grouped));
        if let (true, Some(found)) = (determined, scope.find(column)) {
            match self.add_group(grouping, found.typed.clone()) {
                Ok(value) => {
                    let sets = &mut grouping.borrow_mut().sets;
                    sets.iter_mut().flatten().for_each(|set| set.push(count));
                    return value;
                }
                Err(error) => grouping.borrow_mut().error = Some(error),
            }
        } else {
            let label = scope.label(column);
            let message = if in_subquery {
                format!("subquery uses ungrouped column \"{label}\" from outer query")
            } else {
                format!("column \"{label}\" must appear in the GROUP BY clause or be used in an aggregate function")
            };
            let error = self.at(PgError::new(SqlState::GROUPING_ERROR, message), self.span_of(column, in_subquery));
            grouping.borrow_mut().error.get_or_insert(error);
        }
        Expr::Column(column.clone())
    }

    /// What a subquery's reference to a column of this query's FROM becomes after grouping.
    fn refer_to_group(&self, grouping: &RefCell<Grouping>, expr: &Expr) -> Option<Expr> {
        let Expr::OuterReferenceColumn(_, column) = expr else { return None };
        let found = grouping.borrow().scope.find(column)?.typed.sql_type.arrow();
        let local = Expr::Column(column.clone());
        let known = grouping.borrow().groups.iter().find(|group| group.expr == local).map(|group| group.value.clone());
        match known.unwrap_or_else(|| self.dependent(grouping, column, true)) {
            Expr::Column(value) => Some(outer_reference(value, found)),
            other => Some(other),
        }
    }

    fn add_aggregate(&self, grouping: &RefCell<Grouping>, expr: &Expr, call: &AggregateFunction) -> Expr {
        let mut grouping = grouping.borrow_mut();
        if let Some((_, _, column)) = grouping.aggregates.iter().find(|(known, ..)| known == expr) {
            return column.clone();
        }
        let mut call = call.clone();
        if keeps_order(call.func.name()) && call.params.order_by.is_empty() && !call.params.distinct {
            call.params.order_by = grouping.order.clone();
        }
        let mut input = |expr: &mut Expr| {
            if matches!(expr, Expr::Literal(..)) {
                return;
            }
            let known = grouping.inputs.iter().find(|(known, _)| known == expr).map(|(_, name)| name.clone());
            let name = known.unwrap_or_else(|| {
                let name = Column::new_unqualified(self.fresh("c"));
                grouping.inputs.push((expr.clone(), name.clone()));
                name
            });
            *expr = Expr::Column(name);
        };
        call.params.args.iter_mut().for_each(&mut input);
        call.params.order_by.iter_mut().for_each(|key| input(&mut key.expr));
        if let Some(filter) = &mut call.params.filter {
            input(filter);
        }
        let (named, column) = self.named(Expr::AggregateFunction(call));
        grouping.aggregates.push((expr.clone(), named, Expr::Column(column.clone())));
        Expr::Column(column)
    }

    fn build_groups(&self, plan: LogicalPlan, grouping: Grouping) -> Result<LogicalPlan, PgError> {
        let mut inputs: Vec<Expr> = Vec::new();
        let mut groups = Vec::new();
        let mut aggregates = Vec::new();
        for group in grouping.groups {
            inputs.extend(group.key.inputs);
            groups.push(group.key.group);
            aggregates.extend(group.key.aggregate);
        }
        inputs.extend(grouping.inputs.into_iter().map(|(expr, name)| expr.alias(name.name)));
        aggregates.extend(grouping.aggregates.into_iter().map(|(_, named, _)| named));
        if groups.is_empty() && aggregates.is_empty() {
            // HAVING makes one group even if nothing is asked of it.
            let count = resolve_aggregate("count", Vec::new(), false, None, Vec::new())?;
            aggregates.push(self.named(count.expr).0);
        }
        let mut plan = self.resolve_subqueries(plan, &mut inputs.iter_mut().collect::<Vec<_>>())?;
        plan = self.unnest_calls(plan, &mut inputs.iter_mut().collect::<Vec<_>>())?;
        if !inputs.is_empty() {
            plan = project(plan, inputs)?;
        }
        match grouping.sets {
            None => aggregate(plan, groups, aggregates),
            Some(sets) => aggregate_sets(plan, &groups, &sets, aggregates, grouping.above),
        }
    }
}

/// Whether an aggregate of this query stands in `expr`.
pub(crate) fn holds_aggregate(expr: &Expr) -> bool {
    any_expr(expr, |expr| matches!(expr, Expr::AggregateFunction(_)))
}

/// Whether a window function stands in `expr`.
pub(crate) fn holds_window(expr: &Expr) -> bool {
    any_expr(expr, |expr| matches!(expr, Expr::WindowFunction(_)))
}
