//! The dependent join: a plan that reads columns of another plan becomes one that is joined to it.
//!
//! Two ways, tried in this order:
//!
//! - [`Binder::pull`] lifts the predicates that read outer columns to the top, where they become the join's condition. An
//!   aggregate, DISTINCT, LIMIT or window on the way groups by the inner side of each predicate, which must be an equality.
//!   Nothing is computed twice.
//! - [`Binder::push`] works for everything else (Neumann and Kemper, "Unnesting Arbitrary Queries", 2015): the distinct
//!   values of the outer columns, the *domain*, are joined in below, so that every outer reference becomes a column; the
//!   result is joined back on IS NOT DISTINCT FROM.
//!
//! An outer reference to a query further out than the other plan is left for the join with that one.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::common::{Column, JoinType, NullEquality, ScalarValue};
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::provider_as_source;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, DistinctOn, Expr, Join, LogicalPlan, LogicalPlanBuilder, Operator, RecursiveQuery,
    Sort, SortExpr, TableScan, Unnest, Window, WindowFrame, WindowFunctionDefinition, lit,
};
use repr::PgError;

use super::Binder;
use super::build::{
    aggregate, any_expr, any_plan_expr, case, column_types, columns, columns_in, conjuncts, cross, equality, filter,
    internal, join, project, replace,
};
use super::query::{limit, sort};
use super::window::window;

/// An inner plan that holds no reference to the outer plan, and what joins the two.
pub(crate) struct Correlated {
    /// All columns of the inner plan, and what the conditions need.
    pub(crate) plan: LogicalPlan,
    /// Outer expression = inner expression.
    pub(crate) on: Vec<(Expr, Expr)>,
    /// Outer expression IS NOT DISTINCT FROM inner expression.
    pub(crate) null_on: Vec<(Expr, Expr)>,
    /// Other conditions over both.
    pub(crate) filters: Vec<Expr>,
}

/// The outer plan's columns that an inner plan reads.
type OuterColumns = [(Column, DataType)];

/// The distinct values of the outer columns.
struct Domain<'o> {
    outer: &'o OuterColumns,
    plan: LogicalPlan,
}

/// Whether `plan` reads columns of `outer`.
pub(crate) fn has_outer(plan: &LogicalPlan, outer: &LogicalPlan) -> bool {
    !outer_columns(plan, outer).is_empty()
}

/// Whether `expr` reads columns of `plan` and nothing else.
pub(crate) fn reads_only(expr: &Expr, plan: &LogicalPlan) -> bool {
    let columns = columns_in(expr);
    !columns.is_empty()
        && columns.iter().all(|column| plan.schema().has_column(column))
        && !any_expr(expr, |expr| matches!(expr, Expr::OuterReferenceColumn(..)))
}

/// The columns of `outer` that `inner` reads, each once.
fn outer_columns(inner: &LogicalPlan, outer: &LogicalPlan) -> Vec<(Column, DataType)> {
    let types = column_types(outer);
    let mut found: Vec<(Column, DataType)> = Vec::new();
    any_plan_expr(inner, |expr| {
        if let Expr::OuterReferenceColumn(_, column) = expr
            && let Some(data_type) = types.get(column)
            && !found.iter().any(|(known, _)| known == column)
        {
            found.push((column.clone(), data_type.clone()));
        }
        false
    });
    found
}

fn is_outer(expr: &Expr, outer: &OuterColumns) -> bool {
    matches!(expr, Expr::OuterReferenceColumn(_, column) if outer.iter().any(|(known, _)| known == column))
}

fn mentions(expr: &Expr, outer: &OuterColumns) -> bool {
    any_expr(expr, |expr| is_outer(expr, outer))
}

fn mentions_any<'e>(exprs: impl IntoIterator<Item = &'e Expr>, outer: &OuterColumns) -> bool {
    exprs.into_iter().any(|expr| mentions(expr, outer))
}

fn plan_mentions(plan: &LogicalPlan, outer: &OuterColumns) -> bool {
    any_plan_expr(plan, |expr| is_outer(expr, outer))
}

/// `expr` where the outer plan's columns are at hand.
pub(crate) fn as_columns(expr: Expr, outer: &LogicalPlan) -> Result<Expr, PgError> {
    replace(expr, |expr| match expr {
        Expr::OuterReferenceColumn(_, column) if outer.schema().has_column(column) => {
            Some(Expr::Column(column.clone()))
        }
        _ => None,
    })
}

/// The sides of an equality between an outer and an inner expression: (outer, inner).
fn key(predicate: &Expr, outer: &OuterColumns) -> Option<(Expr, Expr)> {
    let (a, b) = equality(predicate)?;
    let outer_side = |expr: &Expr| {
        mentions(expr, outer)
            && columns_in(expr).is_empty()
            && !any_expr(expr, |expr| matches!(expr, Expr::OuterReferenceColumn(..)) && !is_outer(expr, outer))
    };
    let inner_side = |expr: &Expr| {
        !columns_in(expr).is_empty() && !any_expr(expr, |expr| matches!(expr, Expr::OuterReferenceColumn(..)))
    };
    if outer_side(a) && inner_side(b) {
        Some((a.clone(), b.clone()))
    } else if outer_side(b) && inner_side(a) {
        Some((b.clone(), a.clone()))
    } else {
        None
    }
}

/// The working table of a recursion that is computed for a whole domain.
struct WorkTable<'w> {
    name: &'w str,
    /// The domain's columns, as the recursion's own rows call them.
    columns: &'w [Column],
    domain: &'w Domain<'w>,
}

impl WorkTable<'_> {
    /// The scan with the domain's columns behind its own, and those.
    fn scan(&self, old: &TableScan) -> Result<(LogicalPlan, Vec<Expr>), PgError> {
        let own = old.projected_schema.fields().iter().map(|field| (**field).clone());
        let added = self.columns.iter().zip(self.domain.outer);
        let added = added.map(|(column, (_, data_type))| Field::new(&column.name, data_type.clone(), true));
        let fields: Fields = own.chain(added).collect();
        let table = CteWorkTable::new(self.name, Arc::new(Schema::new(fields)));
        let scan = LogicalPlanBuilder::scan(self.name, provider_as_source(Arc::new(table)), None);
        let plan = scan.and_then(LogicalPlanBuilder::build).map_err(internal)?;
        let carried = self.columns.iter().map(|column| Expr::Column(Column::new(Some(self.name), &column.name)));
        Ok((plan, carried.collect()))
    }
}

fn holds_scan(plan: &LogicalPlan, name: &str) -> bool {
    matches!(plan, LogicalPlan::TableScan(node) if node.table_name.table() == name)
        || plan.inputs().into_iter().any(|input| holds_scan(input, name))
}

impl Domain<'_> {
    /// A copy with columns of its own: the plan and its columns, in the order of the outer columns.
    fn instance(&self, binder: &Binder) -> Result<(LogicalPlan, Vec<Expr>), PgError> {
        let (exprs, names): (Vec<Expr>, Vec<Column>) =
            columns(&self.plan).into_iter().map(|expr| binder.named(expr)).unzip();
        Ok((project(self.plan.clone(), exprs)?, names.into_iter().map(Expr::Column).collect()))
    }

    /// `expr` with the domain's columns for outer references.
    fn bound(&self, expr: Expr, domain_columns: &[Expr]) -> Result<Expr, PgError> {
        replace(expr, |expr| match expr {
            Expr::OuterReferenceColumn(_, column) => {
                let index = self.outer.iter().position(|(known, _)| known == column)?;
                Some(domain_columns[index].clone())
            }
            _ => None,
        })
    }

    fn all_bound(&self, exprs: Vec<Expr>, domain_columns: &[Expr]) -> Result<Vec<Expr>, PgError> {
        exprs.into_iter().map(|expr| self.bound(expr, domain_columns)).collect()
    }

    fn sort_bound(&self, keys: Vec<SortExpr>, domain_columns: &[Expr]) -> Result<Vec<SortExpr>, PgError> {
        keys.into_iter().map(|key| Ok(SortExpr { expr: self.bound(key.expr, domain_columns)?, ..key })).collect()
    }
}

impl Binder<'_> {
    /// Takes the references to `outer` out of `inner`. Conditions other than equalities only where `allow_filters`.
    pub(crate) fn correlate(
        &self,
        outer: &LogicalPlan,
        inner: LogicalPlan,
        allow_filters: bool,
    ) -> Result<Correlated, PgError> {
        let set = outer_columns(&inner, outer);
        let mut result = Correlated { plan: inner, on: Vec::new(), null_on: Vec::new(), filters: Vec::new() };
        if set.is_empty() {
            return Ok(result);
        }
        if let Some((plan, predicates)) = self.pull(result.plan.clone(), &set)? {
            let keys: Vec<Option<(Expr, Expr)>> = predicates.iter().map(|predicate| key(predicate, &set)).collect();
            if allow_filters || keys.iter().all(Option::is_some) {
                result.plan = plan;
                for (key, predicate) in keys.into_iter().zip(predicates) {
                    match key {
                        Some((outside, inside)) => result.on.push((as_columns(outside, outer)?, inside)),
                        None => result.filters.push(as_columns(predicate, outer)?),
                    }
                }
                return Ok(result);
            }
        }
        let domain = self.domain(outer, &set)?;
        let (plan, domain_columns) = self.push(result.plan, &domain)?;
        result.plan = plan;
        result.null_on = set.iter().map(|(column, _)| Expr::Column(column.clone())).zip(domain_columns).collect();
        Ok(result)
    }

    fn domain<'o>(&self, outer: &LogicalPlan, set: &'o OuterColumns) -> Result<Domain<'o>, PgError> {
        let exprs = set.iter().map(|(column, _)| self.named(Expr::Column(column.clone())).0).collect();
        Ok(Domain { outer: set, plan: self.distinct(project(rows_of(outer, set).clone(), exprs)?)? })
    }

    /// Joins `inner`, which has exactly one row for every row of `outer`, to it: all columns of both.
    pub(crate) fn apply_one_row(&self, outer: LogicalPlan, inner: LogicalPlan) -> Result<LogicalPlan, PgError> {
        let set = outer_columns(&inner, &outer);
        if set.is_empty() {
            return cross(outer, inner);
        }
        match inner {
            LogicalPlan::Projection(projection) => {
                let kept = columns(&outer);
                let plan = self.apply_one_row(outer.clone(), Arc::unwrap_or_clone(projection.input))?;
                let mut exprs = kept;
                for expr in projection.expr {
                    exprs.push(as_columns(expr, &outer)?);
                }
                project(plan, exprs)
            }
            LogicalPlan::Aggregate(node) if node.group_expr.is_empty() => self.apply_aggregate(outer, node, &set),
            inner => {
                let domain = self.domain(&outer, &set)?;
                let (plan, domain_columns) = self.push(inner.clone(), &domain)?;
                let on = set.iter().map(|(column, _)| Expr::Column(column.clone())).zip(domain_columns).collect();
                let kept = columns(&outer).into_iter().chain(columns(&inner)).collect();
                project(join(outer, plan, JoinType::Inner, Vec::new(), on, Vec::new())?, kept)
            }
        }
    }

    /// An aggregate without GROUP BY for each row of `outer`: grouped by what joins it, and joined so that an empty group
    /// still has its row.
    fn apply_aggregate(&self, outer: LogicalPlan, node: Aggregate, set: &OuterColumns) -> Result<LogicalPlan, PgError> {
        let input = Arc::unwrap_or_clone(node.input);
        let outputs = node.schema.columns();
        let values: Vec<(Expr, Column)> = node.aggr_expr.iter().cloned().zip(outputs).collect();
        let pulled = if mentions_any(&node.aggr_expr, set) { None } else { self.pull(input.clone(), set)? };
        let keys = pulled.and_then(|(plan, predicates)| {
            let keys: Option<Vec<(Expr, Expr)>> = predicates.iter().map(|predicate| key(predicate, set)).collect();
            keys.map(|keys| (plan, keys))
        });
        let (grouped, on, null_on) = match keys {
            Some((plan, keys)) => {
                let (outside, inside): (Vec<Expr>, Vec<Expr>) = keys.into_iter().unzip();
                let (plan, keys) = self.with_keys(plan, columns(&input), inside)?;
                let (groups, names) = self.group_names(keys);
                let outside =
                    outside.into_iter().map(|expr| as_columns(expr, &outer)).collect::<Result<Vec<_>, _>>()?;
                let on = outside.into_iter().zip(names).collect();
                (aggregate(plan, groups, node.aggr_expr)?, on, Vec::new())
            }
            None => {
                let domain = self.domain(&outer, set)?;
                let (plan, domain_columns) = self.push(input, &domain)?;
                let aggregates = domain.all_bound(node.aggr_expr, &domain_columns)?;
                let (groups, names) = self.group_names(domain_columns);
                let on = set.iter().map(|(column, _)| Expr::Column(column.clone())).zip(names).collect();
                (aggregate(plan, groups, aggregates)?, Vec::new(), on)
            }
        };
        let mut exprs = columns(&outer);
        for (call, column) in values {
            exprs.push(on_empty_group(&call, column)?);
        }
        project(join(outer, grouped, JoinType::Left, on, null_on, Vec::new())?, exprs)
    }

    /// `kept` columns of `plan` and its keys, the latter as columns.
    fn with_keys(
        &self,
        plan: LogicalPlan,
        kept: Vec<Expr>,
        keys: Vec<Expr>,
    ) -> Result<(LogicalPlan, Vec<Expr>), PgError> {
        let mut exprs = kept;
        let mut names = Vec::new();
        for key in keys {
            let (expr, name) = self.named(key);
            exprs.push(expr);
            names.push(Expr::Column(name));
        }
        Ok((project(plan, exprs)?, names))
    }

    /// Columns to group by under names of their own, and those names.
    fn group_names(&self, keys: Vec<Expr>) -> (Vec<Expr>, Vec<Expr>) {
        keys.into_iter()
            .map(|key| {
                let (group, name) = self.named(key);
                (group, Expr::Column(name))
            })
            .unzip()
    }

    /// [`Self::pull`], where every predicate must be an equality: the plan with exactly `plan`'s columns and the keys as
    /// further columns, those columns, and what each of them must be equal to.
    fn pull_keys(
        &self,
        plan: LogicalPlan,
        outer: &OuterColumns,
    ) -> Result<Option<(LogicalPlan, Vec<Expr>, Vec<Expr>)>, PgError> {
        let kept = columns(&plan);
        let Some((plan, predicates)) = self.pull(plan, outer)? else { return Ok(None) };
        let keys: Option<Vec<(Expr, Expr)>> = predicates.iter().map(|predicate| key(predicate, outer)).collect();
        let Some(keys) = keys else { return Ok(None) };
        let (outside, inside): (Vec<Expr>, Vec<Expr>) = keys.into_iter().unzip();
        let (plan, names) = self.with_keys(plan, kept, inside)?;
        Ok(Some((plan, names, outside)))
    }

    /// `plan` without its references to `outer`, and the predicates that were taken out: for one outer row, `plan`'s rows
    /// are those that satisfy them. It keeps all columns and has those that the predicates need. None where that cannot be.
    fn pull(&self, plan: LogicalPlan, outer: &OuterColumns) -> Result<Option<(LogicalPlan, Vec<Expr>)>, PgError> {
        if !plan_mentions(&plan, outer) {
            return Ok(Some((plan, Vec::new())));
        }
        match plan {
            LogicalPlan::Filter(node) => {
                let Some((mut input, mut predicates)) = self.pull(Arc::unwrap_or_clone(node.input), outer)? else {
                    return Ok(None);
                };
                let (lifted, kept): (Vec<Expr>, Vec<Expr>) =
                    conjuncts(node.predicate).into_iter().partition(|conjunct| mentions(conjunct, outer));
                predicates.extend(lifted);
                for conjunct in kept {
                    input = filter(input, conjunct)?;
                }
                Ok(Some((input, predicates)))
            }
            LogicalPlan::Projection(node) => {
                if mentions_any(&node.expr, outer) {
                    return Ok(None);
                }
                let Some((input, predicates)) = self.pull(Arc::unwrap_or_clone(node.input), outer)? else {
                    return Ok(None);
                };
                let mut exprs = node.expr;
                let mut names: Vec<(Column, Expr)> = Vec::new();
                for column in predicates.iter().flat_map(columns_in) {
                    if names.iter().any(|(known, _)| *known == column) {
                        continue;
                    }
                    // A fresh name: the same plan may stand on the other side of a join above, under names of its own.
                    let (expr, name) = self.named(Expr::Column(column.clone()));
                    exprs.push(expr);
                    names.push((column, Expr::Column(name)));
                }
                let predicates = predicates
                    .into_iter()
                    .map(|predicate| {
                        replace(predicate, |expr| match expr {
                            Expr::Column(column) => {
                                names.iter().find(|(known, _)| known == column).map(|(_, name)| name.clone())
                            }
                            _ => None,
                        })
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                Ok(Some((project(input, exprs)?, predicates)))
            }
            LogicalPlan::Aggregate(node) => {
                if node.group_expr.is_empty() || mentions_any(node.group_expr.iter().chain(&node.aggr_expr), outer) {
                    return Ok(None);
                }
                let pulled = self.pull_keys(Arc::unwrap_or_clone(node.input), outer)?;
                let Some((input, keys, outside)) = pulled else { return Ok(None) };
                let (keys, names) = self.group_names(keys);
                let groups = node.group_expr.into_iter().chain(keys).collect();
                Ok(Some((aggregate(input, groups, node.aggr_expr)?, equalities(outside, &names))))
            }
            LogicalPlan::Distinct(Distinct::On(node)) => {
                let sorts = node.sort_expr.iter().flatten().map(|key| &key.expr);
                if mentions_any(node.on_expr.iter().chain(&node.select_expr).chain(sorts), outer) {
                    return Ok(None);
                }
                let pulled = self.pull_keys(Arc::unwrap_or_clone(node.input), outer)?;
                let Some((input, keys, outside)) = pulled else { return Ok(None) };
                let plan = distinct_on_per(input, &keys, node.on_expr, node.select_expr, node.sort_expr)?;
                Ok(Some((plan, equalities(outside, &keys))))
            }
            LogicalPlan::Sort(node) => {
                if mentions_any(node.expr.iter().map(|key| &key.expr), outer) {
                    return Ok(None);
                }
                let pulled = self.pull(Arc::unwrap_or_clone(node.input), outer)?;
                Ok(pulled.map(|(input, predicates)| (sort(input, node.expr), predicates)))
            }
            LogicalPlan::Limit(node) => {
                let (input, order) = sorted_input(Arc::unwrap_or_clone(node.input));
                if mentions_any(order.iter().map(|key| &key.expr), outer) {
                    return Ok(None);
                }
                let pulled = self.pull_keys(input, outer)?;
                let Some((input, keys, outside)) = pulled else { return Ok(None) };
                let plan = self.limit_per(input, &keys, order, node.skip, node.fetch)?;
                Ok(Some((plan, equalities(outside, &keys))))
            }
            LogicalPlan::Window(node) => {
                if mentions_any(&node.window_expr, outer) {
                    return Ok(None);
                }
                let pulled = self.pull_keys(Arc::unwrap_or_clone(node.input), outer)?;
                let Some((input, keys, outside)) = pulled else { return Ok(None) };
                let calls = node.window_expr.into_iter().map(|call| partitioned(call, &keys)).collect();
                Ok(Some((window(input, calls)?, equalities(outside, &keys))))
            }
            LogicalPlan::Join(node) => self.pull_join(node, outer),
            _ => Ok(None),
        }
    }

    fn pull_join(&self, node: Join, outer: &OuterColumns) -> Result<Option<(LogicalPlan, Vec<Expr>)>, PgError> {
        if mentions_any(node.on.iter().flat_map(|(left, right)| [left, right]), outer) {
            return Ok(None);
        }
        let inner = node.join_type == JoinType::Inner;
        if !matches!(node.join_type, JoinType::Inner | JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti) {
            return Ok(None);
        }
        let (lifted, kept): (Vec<Expr>, Vec<Expr>) =
            node.filter.map(conjuncts).unwrap_or_default().into_iter().partition(|expr| mentions(expr, outer));
        if !inner && (!lifted.is_empty() || plan_mentions(&node.right, outer)) {
            return Ok(None);
        }
        let Some((left, mut predicates)) = self.pull(Arc::unwrap_or_clone(node.left), outer)? else {
            return Ok(None);
        };
        let Some((right, more)) = self.pull(Arc::unwrap_or_clone(node.right), outer)? else { return Ok(None) };
        predicates.extend(more);
        predicates.extend(lifted);
        let (on, null_on) = match node.null_equality {
            NullEquality::NullEqualsNull => (Vec::new(), node.on),
            NullEquality::NullEqualsNothing => (node.on, Vec::new()),
        };
        Ok(Some((join(left, right, node.join_type, on, null_on, kept)?, predicates)))
    }

    /// `plan` for every row of the domain at once: its columns, and the domain's, which are given back.
    fn push(&self, plan: LogicalPlan, domain: &Domain) -> Result<(LogicalPlan, Vec<Expr>), PgError> {
        stacker::maybe_grow(256 * 1024, 4 * 1024 * 1024, || self.push_node(plan, domain))
    }

    fn push_node(&self, plan: LogicalPlan, domain: &Domain) -> Result<(LogicalPlan, Vec<Expr>), PgError> {
        if !plan_mentions(&plan, domain.outer) {
            let (instance, domain_columns) = domain.instance(self)?;
            return Ok((cross(plan, instance)?, domain_columns));
        }
        match plan {
            LogicalPlan::Filter(node) => {
                let (input, domain_columns) = self.push(Arc::unwrap_or_clone(node.input), domain)?;
                Ok((filter(input, domain.bound(node.predicate, &domain_columns)?)?, domain_columns))
            }
            LogicalPlan::Projection(node) => {
                let (input, domain_columns) = self.push(Arc::unwrap_or_clone(node.input), domain)?;
                let mut exprs = domain.all_bound(node.expr, &domain_columns)?;
                exprs.extend(domain_columns.iter().cloned());
                Ok((project(input, exprs)?, domain_columns))
            }
            LogicalPlan::Aggregate(node) => self.push_aggregate(node, domain),
            LogicalPlan::Distinct(Distinct::On(node)) => {
                let (input, domain_columns) = self.push(Arc::unwrap_or_clone(node.input), domain)?;
                let on = domain.all_bound(node.on_expr, &domain_columns)?;
                let select = domain.all_bound(node.select_expr, &domain_columns)?;
                let order = node.sort_expr.map(|keys| domain.sort_bound(keys, &domain_columns)).transpose()?;
                Ok((distinct_on_per(input, &domain_columns, on, select, order)?, domain_columns))
            }
            LogicalPlan::Sort(node) => {
                let (input, domain_columns) = self.push(Arc::unwrap_or_clone(node.input), domain)?;
                Ok((sort(input, domain.sort_bound(node.expr, &domain_columns)?), domain_columns))
            }
            LogicalPlan::Limit(node) => {
                let (input, order) = sorted_input(Arc::unwrap_or_clone(node.input));
                let (input, domain_columns) = self.push_exactly(input, domain)?;
                let order = domain.sort_bound(order, &domain_columns)?;
                Ok((self.limit_per(input, &domain_columns, order, node.skip, node.fetch)?, domain_columns))
            }
            LogicalPlan::Window(node) => {
                let (input, domain_columns) = self.push(Arc::unwrap_or_clone(node.input), domain)?;
                let calls = domain.all_bound(node.window_expr, &domain_columns)?;
                let calls = calls.into_iter().map(|call| partitioned(call, &domain_columns)).collect();
                Ok((window(input, calls)?, domain_columns))
            }
            LogicalPlan::Union(node) => {
                let names: Vec<String> = domain.outer.iter().map(|_| self.fresh("c")).collect();
                let mut inputs = Vec::new();
                for input in node.inputs {
                    let mut exprs = columns(&input);
                    let (input, domain_columns) = self.push(Arc::unwrap_or_clone(input), domain)?;
                    exprs.extend(domain_columns.into_iter().zip(&names).map(|(expr, name)| expr.alias(name)));
                    inputs.push(project(input, exprs)?);
                }
                let domain_columns =
                    names.into_iter().map(|name| Expr::Column(Column::new_unqualified(name))).collect();
                Ok((super::set::union(inputs)?, domain_columns))
            }
            LogicalPlan::Join(node) => self.push_join(node, domain),
            LogicalPlan::RecursiveQuery(node) => self.push_recursion(node, domain),
            LogicalPlan::Unnest(node) => {
                let (input, domain_columns) = self.push_exactly(Arc::unwrap_or_clone(node.input), domain)?;
                let plan = Unnest::try_new(Arc::new(input), node.exec_columns, node.options).map_err(internal)?;
                Ok((LogicalPlan::Unnest(plan), domain_columns))
            }
            other => {
                let line = other.display().to_string();
                Err(PgError::internal(format!("a correlated subquery reaches into {line}")))
            }
        }
    }

    /// [`Self::push`], with no columns but the plan's and the domain's.
    fn push_exactly(&self, plan: LogicalPlan, domain: &Domain) -> Result<(LogicalPlan, Vec<Expr>), PgError> {
        let mut exprs = columns(&plan);
        let (plan, domain_columns) = self.push(plan, domain)?;
        exprs.extend(domain_columns.iter().cloned());
        Ok((super::query::narrowed(plan, exprs)?, domain_columns))
    }

    fn push_aggregate(&self, node: Aggregate, domain: &Domain) -> Result<(LogicalPlan, Vec<Expr>), PgError> {
        let outputs = node.schema.columns();
        let (input, domain_columns) = self.push(Arc::unwrap_or_clone(node.input), domain)?;
        let aggregates = domain.all_bound(node.aggr_expr, &domain_columns)?;
        let scalar = node.group_expr.is_empty();
        let mut groups = domain.all_bound(node.group_expr, &domain_columns)?;
        let (domain_groups, domain_columns) = self.group_names(domain_columns);
        groups.extend(domain_groups);
        let plan = aggregate(input, groups, aggregates.clone())?;
        if !scalar {
            return Ok((plan, domain_columns));
        }
        // Without GROUP BY there is a row even for nothing: one for each row of the domain.
        let (instance, names) = domain.instance(self)?;
        let on = names.iter().cloned().zip(domain_columns).collect();
        let plan = join(instance, plan, JoinType::Left, Vec::new(), on, Vec::new())?;
        let calls = aggregates.iter().zip(outputs);
        let mut exprs = calls.map(|(call, column)| on_empty_group(call, column)).collect::<Result<Vec<_>, _>>()?;
        exprs.extend(names.iter().cloned());
        Ok((project(plan, exprs)?, names))
    }

    fn push_join(&self, node: Join, domain: &Domain) -> Result<(LogicalPlan, Vec<Expr>), PgError> {
        let right_mentions = plan_mentions(&node.right, domain.outer);
        let left_mentions = plan_mentions(&node.left, domain.outer);
        let (into_left, into_right) = match node.join_type {
            JoinType::Inner => (left_mentions || !right_mentions, right_mentions),
            JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti => (true, right_mentions),
            JoinType::Right => (left_mentions, true),
            JoinType::Full => (true, true),
            other => return Err(PgError::internal(format!("a correlated subquery reaches into a {other} join"))),
        };
        let push = |plan: Arc<LogicalPlan>, wanted: bool| {
            let plan = Arc::unwrap_or_clone(plan);
            if wanted { self.push(plan, domain).map(|(plan, names)| (plan, Some(names))) } else { Ok((plan, None)) }
        };
        let (left, left_columns) = push(node.left, into_left)?;
        let (right, right_columns) = push(node.right, into_right)?;
        let domain_columns = match (&left_columns, &right_columns, node.join_type) {
            (_, Some(right), JoinType::Right) => right.clone(),
            (Some(left), ..) => left.clone(),
            (None, Some(right), _) => right.clone(),
            (None, None, _) => return Err(PgError::internal("a join without a correlated side")),
        };
        let (mut on, mut null_on) = (Vec::new(), Vec::new());
        let mut conditions = Vec::new();
        for condition in node.filter.map(conjuncts).unwrap_or_default() {
            conditions.push(domain.bound(condition, &domain_columns)?);
        }
        for (l, r) in node.on {
            let op = match node.null_equality {
                NullEquality::NullEqualsNull => Operator::IsNotDistinctFrom,
                NullEquality::NullEqualsNothing => Operator::Eq,
            };
            if mentions_any([&l, &r], domain.outer) {
                let l = domain.bound(l, &domain_columns)?;
                let r = domain.bound(r, &domain_columns)?;
                conditions.push(Expr::BinaryExpr(BinaryExpr::new(Box::new(l), op, Box::new(r))));
            } else if op == Operator::Eq {
                on.push((l, r));
            } else {
                null_on.push((l, r));
            }
        }
        if let (Some(left), Some(right)) = (&left_columns, &right_columns) {
            null_on.extend(left.iter().cloned().zip(right.iter().cloned()));
        }
        let plan = join(left, right, node.join_type, on, null_on, conditions)?;
        let (JoinType::Full, Some(right)) = (node.join_type, right_columns) else {
            return Ok((plan, domain_columns));
        };
        // Either side may be the one that is there.
        let (exprs, names): (Vec<Expr>, Vec<Column>) = domain_columns
            .into_iter()
            .zip(right)
            .map(|(left, right)| self.named(case(vec![(left.clone().is_not_null(), left)], right)))
            .unzip();
        Ok((super::build::extend(plan, exprs)?, names.into_iter().map(Expr::Column).collect()))
    }

    /// A recursion for every row of the domain at once: its rows, and so its working table, have the domain's columns too.
    fn push_recursion(&self, node: RecursiveQuery, domain: &Domain) -> Result<(LogicalPlan, Vec<Expr>), PgError> {
        let start = Arc::unwrap_or_clone(node.static_term);
        let mut exprs = columns(&start);
        let (start, domain_columns) = self.push(start, domain)?;
        let (named, names): (Vec<Expr>, Vec<Column>) =
            domain_columns.into_iter().map(|column| self.named(column)).unzip();
        exprs.extend(named);
        let start = project(start, exprs)?;
        let step = Arc::unwrap_or_clone(node.recursive_term);
        let mut exprs = columns(&step);
        let work = WorkTable { name: &node.name, columns: &names, domain };
        let (step, carried) =
            self.carry(step, &work)?.ok_or_else(|| PgError::internal("a recursion without a step"))?;
        exprs.extend(carried.into_iter().map(|column| self.named(column).0));
        let step = project(step, exprs)?;
        if plan_mentions(&step, domain.outer) {
            return Err(PgError::unsupported("a recursive query whose step reads columns of the query around it"));
        }
        let query = RecursiveQuery::try_new(node.name, Arc::new(start), Arc::new(step), node.is_distinct);
        let plan = LogicalPlan::RecursiveQuery(query.map_err(internal)?);
        Ok((plan, names.into_iter().map(Expr::Column).collect()))
    }

    /// The step of a recursion with the domain's columns of its working table; None where that is not below.
    fn carry(&self, plan: LogicalPlan, work: &WorkTable) -> Result<Option<(LogicalPlan, Vec<Expr>)>, PgError> {
        match plan {
            LogicalPlan::TableScan(node) if node.table_name.table() == work.name => work.scan(&node).map(Some),
            LogicalPlan::Filter(node) => {
                let Some((input, carried)) = self.carry(Arc::unwrap_or_clone(node.input), work)? else {
                    return Ok(None);
                };
                Ok(Some((filter(input, work.domain.bound(node.predicate, &carried)?)?, carried)))
            }
            LogicalPlan::Projection(node) => {
                let Some((input, carried)) = self.carry(Arc::unwrap_or_clone(node.input), work)? else {
                    return Ok(None);
                };
                let mut exprs = work.domain.all_bound(node.expr, &carried)?;
                exprs.extend(carried.iter().cloned());
                Ok(Some((project(input, exprs)?, carried)))
            }
            LogicalPlan::Join(node) if node.join_type == JoinType::Inner => {
                let (left, right) = (Arc::unwrap_or_clone(node.left), Arc::unwrap_or_clone(node.right));
                let (left, right, carried) = match self.carry(left.clone(), work)? {
                    Some((left, carried)) => (left, right, carried),
                    None => match self.carry(right, work)? {
                        Some((right, carried)) => (left, right, carried),
                        None => return Ok(None),
                    },
                };
                let conditions = node.filter.map(conjuncts).unwrap_or_default();
                let conditions = work.domain.all_bound(conditions, &carried)?;
                let (on, null_on) = match node.null_equality {
                    NullEquality::NullEqualsNothing => (node.on, Vec::new()),
                    NullEquality::NullEqualsNull => (Vec::new(), node.on),
                };
                Ok(Some((join(left, right, JoinType::Inner, on, null_on, conditions)?, carried)))
            }
            other => match holds_scan(&other, work.name) {
                true => Err(PgError::unsupported("a correlated recursive query of this form")),
                false => Ok(None),
            },
        }
    }

    /// LIMIT for each combination of `keys` by itself.
    fn limit_per(
        &self,
        plan: LogicalPlan,
        keys: &[Expr],
        order: Vec<SortExpr>,
        skip: Option<Box<Expr>>,
        fetch: Option<Box<Expr>>,
    ) -> Result<LogicalPlan, PgError> {
        if keys.is_empty() {
            return Ok(limit(sort(plan, order), skip.map(|skip| *skip), fetch.map(|fetch| *fetch)));
        }
        let kept = columns(&plan);
        if skip.is_none() && fetch.as_deref() == Some(&lit(1i64)) {
            let order = keys.iter().map(|key| key.clone().sort(true, false)).chain(order).collect();
            let order = super::window::ties::extended(order, keys, &plan.schema().columns());
            let node = DistinctOn::try_new(keys.to_vec(), kept, Some(order), Arc::new(plan)).map_err(internal)?;
            return Ok(LogicalPlan::Distinct(Distinct::On(node)));
        }
        let order = super::window::ties::extended(order, keys, &plan.schema().columns());
        let call = WindowFunction {
            fun: WindowFunctionDefinition::WindowUDF(row_number_udwf()),
            params: WindowFunctionParams {
                args: Vec::new(),
                partition_by: keys.to_vec(),
                order_by: order,
                window_frame: WindowFrame::new(Some(true)),
                filter: None,
                null_treatment: None,
                distinct: false,
            },
        };
        let (call, number) = self.named(Expr::WindowFunction(Box::new(call)));
        let mut plan = window(plan, vec![call])?;
        let number = datafusion::logical_expr::cast(Expr::Column(number), DataType::Int64);
        let last = match (skip.as_deref(), fetch) {
            (None, Some(fetch)) => Some(*fetch),
            (Some(skip), Some(fetch)) => {
                Some(Expr::BinaryExpr(BinaryExpr::new(Box::new(skip.clone()), Operator::Plus, fetch)))
            }
            (_, None) => None,
        };
        if let Some(skip) = skip {
            plan = filter(plan, number.clone().gt(*skip))?;
        }
        if let Some(last) = last {
            plan = filter(plan, number.lt_eq(last))?;
        }
        project(plan, kept)
    }
}

/// The part of `plan` that has the same values in `set`'s columns: without the subqueries that were joined to it before,
/// or each of them would double the plan.
fn rows_of<'p>(plan: &'p LogicalPlan, set: &OuterColumns) -> &'p LogicalPlan {
    let has = |plan: &LogicalPlan| set.iter().all(|(column, _)| plan.schema().has_column(column));
    let input = match plan {
        LogicalPlan::Projection(node) => {
            let passed = |column: &Column| node.expr.contains(&Expr::Column(column.clone()));
            set.iter().all(|(column, _)| passed(column)).then_some(&node.input)
        }
        LogicalPlan::Join(node) if node.join_type == JoinType::Left => Some(&node.left),
        LogicalPlan::Join(node) => {
            let crossed = node.join_type == JoinType::Inner && node.on.is_empty() && node.filter.is_none();
            (crossed && is_single_row(&node.right)).then_some(&node.left)
        }
        LogicalPlan::Window(node) => Some(&node.input),
        LogicalPlan::Sort(node) => Some(&node.input),
        _ => None,
    };
    match input {
        Some(input) if has(input) => rows_of(input, set),
        _ => plan,
    }
}

/// The order beneath a LIMIT, and what it orders.
fn sorted_input(plan: LogicalPlan) -> (LogicalPlan, Vec<SortExpr>) {
    match plan {
        LogicalPlan::Sort(Sort { expr, input, fetch: None }) => (Arc::unwrap_or_clone(input), expr),
        plan => (plan, Vec::new()),
    }
}

/// What `pull` lifts: each of `keys` is equal to its outer expression.
fn equalities(outside: Vec<Expr>, keys: &[Expr]) -> Vec<Expr> {
    outside.into_iter().zip(keys).map(|(outside, key)| outside.eq(key.clone())).collect()
}

/// DISTINCT ON for each combination of `keys`, which are also selected.
fn distinct_on_per(
    input: LogicalPlan,
    keys: &[Expr],
    on: Vec<Expr>,
    select: Vec<Expr>,
    order: Option<Vec<SortExpr>>,
) -> Result<LogicalPlan, PgError> {
    let on = keys.iter().cloned().chain(on).collect();
    let select = select.into_iter().chain(keys.iter().cloned()).collect();
    let order = order.map(|order| keys.iter().map(|key| key.clone().sort(true, false)).chain(order).collect());
    let node = DistinctOn::try_new(on, select, order, Arc::new(input)).map_err(internal)?;
    Ok(LogicalPlan::Distinct(Distinct::On(node)))
}

/// A window function computed for each combination of `keys` by itself.
fn partitioned(call: Expr, keys: &[Expr]) -> Expr {
    match call {
        Expr::Alias(mut alias) => {
            alias.expr = Box::new(partitioned(*alias.expr, keys));
            Expr::Alias(alias)
        }
        Expr::WindowFunction(mut function) => {
            function.params.partition_by.extend(keys.iter().cloned());
            Expr::WindowFunction(function)
        }
        other => other,
    }
}

/// An aggregate's column after an outer join: an empty group has no row there, and what the call says of nothing: NULL, or
/// a count's 0.
fn on_empty_group(call: &Expr, column: Column) -> Result<Expr, PgError> {
    let value = Expr::Column(column.clone());
    let Some(nothing) = of_nothing(call)? else { return Ok(value) };
    Ok(case(vec![(value.clone().is_null(), lit(nothing))], value).alias(column.name))
}

/// What an aggregate comes to over no rows, if that is not NULL.
fn of_nothing(call: &Expr) -> Result<Option<ScalarValue>, PgError> {
    match call {
        Expr::Alias(alias) => of_nothing(&alias.expr),
        Expr::AggregateFunction(function) => {
            let value = function.func.default_value(&DataType::Null).map_err(internal)?;
            Ok((!value.is_null()).then_some(value))
        }
        _ => Ok(None),
    }
}

/// Whether a plan has exactly one row whatever the outer row.
pub(crate) fn is_single_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(node) => is_single_row(&node.input),
        LogicalPlan::SubqueryAlias(node) => is_single_row(&node.input),
        LogicalPlan::Sort(node) => is_single_row(&node.input),
        LogicalPlan::Aggregate(Aggregate { group_expr, .. }) => group_expr.is_empty(),
        LogicalPlan::EmptyRelation(node) => node.produce_one_row,
        LogicalPlan::Values(node) => node.values.len() == 1,
        LogicalPlan::Window(Window { input, .. }) => is_single_row(input),
        LogicalPlan::Join(node) => {
            node.join_type == JoinType::Inner
                && node.on.is_empty()
                && node.filter.is_none()
                && is_single_row(&node.left)
                && is_single_row(&node.right)
        }
        _ => false,
    }
}
