//! `ASOF [LEFT] JOIN`: each left row with the right row of its key that is nearest in time, on one side of it.
//!
//! A running maximum over both sides' moments says, for each moment of the left side, which one of the right side is the
//! nearest; with that the join is one of equality, and a change costs the rows whose partner really changes:
//!
//! ```text
//! moments   distinct (key, moment) of the left side  U  (key, moment) of the right side
//! nearest   max(right's moment) OVER (PARTITION BY key ORDER BY moment), of the left side's moments
//! partner   DISTINCT ON (key, moment) of the right side, joined with nearest
//! answer    left side  [LEFT] JOIN  partner  ON key and moment
//! ```
//!
//! Of right rows at one moment the first in the order of all columns is taken, so that the answer is definite.

use std::sync::Arc;

use datafusion::common::{Column, JoinType};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::{
    BinaryExpr, Case, Distinct, DistinctOn, Expr, LogicalPlan, Operator, SortExpr, Union, WindowFrame,
    WindowFunctionDefinition, lit,
};
use repr::{PgError, SqlState};
use sqlparser::ast::{self, JoinConstraint};

use super::Binder;
use super::build::{columns, conjuncts, equality, extend, filter, internal, join, project};
use super::decorrelate::{has_outer, reads_only};
use super::expr::Clause;
use super::from::Item;
use super::scope::Env;
use super::window::{Over, window, window_call};

/// What an ASOF join is on.
struct Condition {
    /// Equal expressions, of the left side and of the right one.
    keys: Vec<(Expr, Expr)>,
    /// The left side's moment, how it is compared, and the right side's.
    nearest: (Expr, Operator, Expr),
}

impl Binder<'_> {
    /// Binds a join whose condition has equalities and one inequality, the latter perhaps by itself.
    ///
    /// Errors: `0A000` for other conditions and for LATERAL, `42601` without an inequality.
    pub(super) fn asof_join(
        &self,
        left: Item,
        right: Item,
        (join_type, nearest): (JoinType, Option<&ast::Expr>),
        constraint: &JoinConstraint,
        env: &Env,
    ) -> Result<Item, PgError> {
        let scope = left.1.clone().join(right.1.clone())?;
        let condition_env = Env::Scope { scope: &scope, parent: env };
        let on = match constraint {
            JoinConstraint::On(condition) => Some(condition),
            JoinConstraint::None => None,
            JoinConstraint::Using(_) | JoinConstraint::Natural => {
                return Err(PgError::unsupported("ASOF JOIN with USING").with_hint("Write the condition with ON."));
            }
        };
        let mut conditions = Vec::new();
        for condition in on.into_iter().chain(nearest) {
            let typed = self.bind_expr(condition, &condition_env, Clause::JoinOn)?;
            conditions.extend(conjuncts(self.boolean(typed, "JOIN/ON")?));
        }
        if has_outer(&right.0, &left.0) || conditions.iter().any(|condition| self.holds_subquery(condition)) {
            return Err(PgError::unsupported("ASOF JOIN with LATERAL or a subquery in its condition"));
        }
        let (left_plan, right_plan) = (left.0, right.0);
        let condition = take_apart(conditions, &left_plan, &right_plan)?;
        let mut right_scope = right.1;
        if join_type == JoinType::Left {
            right_scope.make_nullable();
        }
        let scope = left.1.join(right_scope)?;
        Ok((self.join_nearest(left_plan, right_plan, join_type, condition)?, scope))
    }

    fn join_nearest(
        &self,
        left: LogicalPlan,
        right: LogicalPlan,
        join_type: JoinType,
        condition: Condition,
    ) -> Result<LogicalPlan, PgError> {
        let (left_moment, operator, right_moment) = condition.nearest;
        let (left_keys, right_keys): (Vec<Expr>, Vec<Expr>) = condition.keys.into_iter().unzip();
        let right = filter(right, right_moment.clone().is_not_null())?;
        let (right, right_columns) = self.with_columns(right, right_keys, right_moment)?;
        let left_columns: Vec<Expr> = left_keys.into_iter().chain([left_moment]).collect();
        let (nearest, keys, moment, found) = self.nearest(&left, &left_columns, &right, &right_columns, operator)?;

        let partner = one_at_each_moment(right, &right_columns)?;
        let on_found = keys.iter().cloned().chain([found]).zip(right_columns).collect();
        let partner = join(nearest, partner, JoinType::Inner, on_found, Vec::new(), Vec::new())?;
        let on_moment = left_columns.into_iter().zip(keys.into_iter().chain([moment])).collect();
        join(left, partner, join_type, on_moment, Vec::new(), Vec::new())
    }

    /// Of each key and moment of the left side, the nearest moment of the right side, where there is one. Also where the
    /// keys, the moment and the nearest one are.
    fn nearest(
        &self,
        left: &LogicalPlan,
        left_columns: &[Expr],
        right: &LogicalPlan,
        right_columns: &[Expr],
        operator: Operator,
    ) -> Result<(LogicalPlan, Vec<Expr>, Expr, Expr), PgError> {
        let side = |plan: &LogicalPlan, columns: &[Expr], is_right: bool| {
            let exprs: Vec<(Expr, Column)> =
                columns.iter().cloned().chain([lit(is_right)]).map(|expr| self.named(expr)).collect();
            let (exprs, names): (Vec<Expr>, Vec<Column>) = exprs.into_iter().unzip();
            Ok::<_, PgError>((project(plan.clone(), exprs)?, names))
        };
        let (of_left, names) = side(left, left_columns, false)?;
        let of_left = self.distinct(of_left)?;
        let (of_right, _) = side(right, right_columns, true)?;
        let both = Union::try_new(vec![Arc::new(of_left), Arc::new(of_right)]).map(LogicalPlan::Union);
        let both = both.map_err(internal)?;

        let mut columns: Vec<Expr> = names.into_iter().map(Expr::Column).collect();
        let is_right = columns.pop().ok_or_else(|| PgError::internal("an ASOF join without a side"))?;
        let moment = columns.pop().ok_or_else(|| PgError::internal("an ASOF join without a moment"))?;
        let backwards = matches!(operator, Operator::GtEq | Operator::Gt);
        // Where equal moments match, the right side's come first.
        let right_first = matches!(operator, Operator::GtEq | Operator::LtEq);
        let order_by =
            vec![SortExpr::new(moment.clone(), backwards, false), SortExpr::new(is_right.clone(), !right_first, false)];
        let extreme = WindowFunctionDefinition::AggregateUDF(if backwards { max_udaf() } else { min_udaf() });
        let of_right = Case::new(None, vec![(Box::new(is_right.clone()), Box::new(moment.clone()))], None);
        let (rights, rights_name) = self.named(Expr::Case(of_right));
        let over = Over { partition_by: columns.clone(), order_by, frame: WindowFrame::new(Some(true)) };
        let call = window_call(extreme, vec![Expr::Column(rights_name)], over, None);
        let (call, found) = self.named(call);
        let rows = window(extend(both, vec![rights])?, vec![call])?;
        let found = Expr::Column(found);
        let is_answer =
            Expr::Not(Box::new(is_right)).and(found.clone().is_not_null()).and(moment.clone().is_not_null());
        Ok((filter(rows, is_answer)?, columns, moment, found))
    }

    /// `plan` with columns for `keys` and `moment`, and what those are called.
    fn with_columns(
        &self,
        plan: LogicalPlan,
        keys: Vec<Expr>,
        moment: Expr,
    ) -> Result<(LogicalPlan, Vec<Expr>), PgError> {
        let (exprs, names): (Vec<Expr>, Vec<Column>) =
            keys.into_iter().chain([moment]).map(|expr| self.named(expr)).unzip();
        Ok((extend(plan, exprs)?, names.into_iter().map(Expr::Column).collect()))
    }
}

/// The first row of each key and moment, by all columns.
fn one_at_each_moment(plan: LogicalPlan, on: &[Expr]) -> Result<LogicalPlan, PgError> {
    let all = columns(&plan);
    let further = all.iter().filter(|column| !on.contains(column));
    let order = on.iter().chain(further).map(|column| SortExpr::new(column.clone(), true, false)).collect();
    let node = DistinctOn::try_new(on.to_vec(), all, Some(order), Arc::new(plan)).map_err(internal)?;
    Ok(LogicalPlan::Distinct(Distinct::On(node)))
}

fn take_apart(conditions: Vec<Expr>, left: &LogicalPlan, right: &LogicalPlan) -> Result<Condition, PgError> {
    let mut keys = Vec::new();
    let mut nearest = None;
    for condition in conditions {
        let sides = |a: &Expr, b: &Expr| reads_only(a, left) && reads_only(b, right);
        if let Some((a, b)) = equality(&condition) {
            if sides(a, b) {
                keys.push((a.clone(), b.clone()));
                continue;
            }
            if sides(b, a) {
                keys.push((b.clone(), a.clone()));
                continue;
            }
        }
        let compared = match &condition {
            Expr::BinaryExpr(BinaryExpr { left: a, op, right: b }) if is_inequality(*op) => {
                if sides(a, b) {
                    Some((a.as_ref().clone(), *op, b.as_ref().clone()))
                } else if sides(b, a) {
                    op.swap().map(|op| (b.as_ref().clone(), op, a.as_ref().clone()))
                } else {
                    None
                }
            }
            _ => None,
        };
        match (compared, &nearest) {
            (Some(compared), None) => nearest = Some(compared),
            _ => {
                return Err(PgError::unsupported(
                    "ASOF JOIN on more than equalities and one inequality of its two sides",
                )
                .with_hint("Filter the sides in subqueries, or the result in WHERE."));
            }
        }
    }
    match nearest {
        Some(nearest) => Ok(Condition { keys, nearest }),
        None => Err(PgError::new(SqlState::SYNTAX_ERROR, "ASOF JOIN needs an inequality of its two sides")
            .with_hint("For example: ASOF JOIN r ON l.k = r.k AND l.ts >= r.ts")),
    }
}

fn is_inequality(op: Operator) -> bool {
    matches!(op, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
}
