//! Subqueries in expressions.
//!
//! A subquery is bound where it stands and stays in the expression as a column of no plan (`sq7`) until the stage that
//! evaluates the expression: [`Binder::resolve_subqueries`] joins it to that stage's plan and puts its value in place.
//! A WHERE conjunct that is nothing but EXISTS or IN becomes a semi or anti join instead ([`Binder::filter_rows`]).
//!
//! `x IN (..)` in general has three answers. With `keys` the distinct non-NULL values and two counts over all rows:
//!
//! ```text
//! CASE WHEN x met a key THEN true  WHEN there are no rows THEN false
//!      WHEN x IS NULL OR some value is NULL THEN NULL  ELSE false END
//! ```

use std::sync::Arc;

use datafusion::arrow::array::Array;
use datafusion::common::{Column, JoinType, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, lit};
use repr::{PgError, SqlState, SqlType};
use sqlparser::ast;

use super::Binder;
use super::build::{
    aggregate, any_expr, any_plan_expr, case, columns, columns_in, conjuncts, cross, extend, filter, join,
    null_boolean, or_zero, outer_reference, project, replace, replace_in_plan,
};
use super::decorrelate::{has_outer, is_single_row};
use super::expr::{At, boolean, compare_rows, negate, span_of, without_parens};
use super::query::{Output, ordering};
use crate::cast::{CastContext, cast, common_type};
use crate::functions::{resolve_aggregate, resolve_function};
use crate::operators::{equality_key, resolve_operator};
use crate::typed::TypedExpr;

/// A subquery that waits for the plan that evaluates it.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// What is asked of its rows.
    kind: Kind,
    /// Its rows. References to the query around it are outer references.
    plan: LogicalPlan,
    /// Expressions of the query around it that are computed first, under these names.
    operands: Vec<(Expr, Column)>,
    /// The value it came to, once it has been joined to a plan.
    value: Option<Expr>,
}

#[derive(Clone, Debug)]
enum Kind {
    /// The value of this column in its only row; NULL where there is none.
    Scalar(TypedExpr),
    /// Whether there is a row.
    Exists,
    /// Whether the only operand is among the values of this expression; whether either can be NULL.
    In { key: TypedExpr, nullable: bool },
}

impl Binder<'_> {
    pub(crate) fn bind_scalar_subquery(&self, query: &ast::Query, at: At) -> Result<TypedExpr, PgError> {
        let output = self.bind_query(query, at.env, false)?;
        let [column] = output.columns.as_slice() else {
            // The parenthesis before the query, where PostgreSQL points.
            let mut span = span_of(&ast::Expr::Subquery(Box::new(query.clone())));
            span.start.column = span.start.column.saturating_sub(1);
            return Err(self.at(one_column_only(), span));
        };
        let typed = column.typed.clone();
        let expr = self.pend(Kind::Scalar(typed.clone()), output.plan, Vec::new());
        Ok(TypedExpr { expr, ..typed })
    }

    pub(crate) fn bind_exists(&self, query: &ast::Query, negated: bool, at: At) -> Result<TypedExpr, PgError> {
        let output = self.bind_query(query, at.env, false)?;
        negate(boolean(self.pend(Kind::Exists, output.plan, Vec::new())), negated)
    }

    /// `ARRAY(SELECT ..)`: its rows in order; empty where there are none.
    pub(crate) fn bind_array_subquery(&self, query: &ast::Query, at: At) -> Result<TypedExpr, PgError> {
        let output = self.bind_query(query, at.env, false)?;
        let [column] = output.columns.as_slice() else { return Err(one_column_only()) };
        let element = column.typed.sql_type.clone();
        if matches!(element, SqlType::Array(_)) {
            return Err(PgError::unsupported("an array of arrays"));
        }
        let (plan, order) = ordering(output.plan);
        let call = resolve_aggregate("array_agg", vec![column.typed.clone()], false, None, order)?;
        let (call, name) = self.named(call.expr);
        let empty = ScalarValue::new_list_nullable(&[], &element.arrow());
        let empty = lit(ScalarValue::List(empty));
        let plan = aggregate(plan, Vec::new(), vec![call])?;
        let name = Expr::Column(name);
        let (value, value_name) = self.named(case(vec![(name.clone().is_null(), empty)], name));
        let plan = project(plan, vec![value])?;
        let typed = TypedExpr::new(Expr::Column(value_name), SqlType::Array(Box::new(element)));
        let expr = self.pend(Kind::Scalar(typed.clone()), plan, Vec::new());
        Ok(TypedExpr { expr, ..typed })
    }

    pub(crate) fn bind_in_subquery(
        &self,
        expr: &ast::Expr,
        query: &ast::Query,
        negated: bool,
        at: At,
    ) -> Result<TypedExpr, PgError> {
        if let ast::Expr::Tuple(row) = without_parens(expr) {
            let row = row.iter().map(|expr| self.bind_at(expr, at)).collect::<Result<Vec<_>, _>>()?;
            return negate(self.any_of(row, "=", query, at)?, negated);
        }
        let left = self.bind_at(expr, at)?;
        let left_nullable = match at.env {
            super::scope::Env::Scope { scope, .. } => scope.is_nullable(&left.expr),
            _ => true,
        };
        let output = self.bind_query(query, at.env, false)?;
        let [column] = output.columns.as_slice() else {
            let message = if output.columns.is_empty() {
                "subquery has too few columns"
            } else {
                "subquery has too many columns"
            };
            return Err(PgError::new(SqlState::SYNTAX_ERROR, message));
        };
        let right = column.typed.clone();
        // Asked for its error only: whether there is such an operator.
        resolve_operator("=", Some(left.clone()), right.clone())?;
        let Ok(sql_type) = common_type("IN", &[&left, &right]) else {
            return negate(self.any_of_output(vec![left], "=", output)?, negated);
        };
        let as_key = |typed: TypedExpr| {
            let typed =
                if typed.sql_type == sql_type { typed } else { cast(typed, &sql_type, -1, CastContext::Implicit)? };
            Ok::<Expr, PgError>(equality_key(TypedExpr { typmod: -1, ..typed }))
        };
        let key = TypedExpr::new(as_key(right)?, sql_type.clone());
        let kind = Kind::In { key, nullable: left_nullable || column.nullable };
        let operand = (as_key(left)?, Column::new_unqualified(self.fresh("c")));
        negate(boolean(self.pend(kind, output.plan, vec![operand])), negated)
    }

    /// `left op ANY (right)` and `left op ALL (right)`, over a subquery or an array.
    pub(crate) fn bind_quantified(
        &self,
        left: &ast::Expr,
        op: &str,
        right: &ast::Expr,
        all: bool,
        at: At,
    ) -> Result<TypedExpr, PgError> {
        let query = match without_parens(right) {
            ast::Expr::Subquery(query) => query,
            array => return self.bind_array_comparison(left, op, array, all, at),
        };
        match (op, all) {
            ("=", false) => self.bind_in_subquery(left, query, false, at),
            ("<>", true) => self.bind_in_subquery(left, query, true, at),
            _ => {
                let row = match without_parens(left) {
                    ast::Expr::Tuple(row) => row.as_slice(),
                    single => std::slice::from_ref(single),
                };
                let row = row.iter().map(|expr| self.bind_at(expr, at)).collect::<Result<Vec<_>, _>>()?;
                if !all {
                    return self.any_of(row, op, query, at);
                }
                // All rows compare true unless some row compares false.
                let output = self.bind_query(query, at.env, false)?;
                let opposite = match op {
                    "=" => "<>",
                    "<" => ">=",
                    "<=" => ">",
                    ">" => "<=",
                    ">=" => "<",
                    other => return Err(PgError::unsupported(format!("operator {other} ALL"))),
                };
                negate(self.any_of_output(row, opposite, output)?, true)
            }
        }
    }

    /// `(a, b) op (SELECT x, y ..)`: the subquery gives at most one row.
    pub(crate) fn bind_row_subquery(
        &self,
        row: &[ast::Expr],
        op: &str,
        query: &ast::Query,
        at: At,
    ) -> Result<TypedExpr, PgError> {
        let row = row.iter().map(|expr| self.bind_at(expr, at)).collect::<Result<Vec<_>, _>>()?;
        let output = self.bind_query(query, at.env, false)?;
        let (operands, row) = self.operands(row);
        if output.columns.len() != row.len() {
            let which = if output.columns.len() > row.len() { "many" } else { "few" };
            return Err(PgError::new(SqlState::SYNTAX_ERROR, format!("subquery has too {which} columns")));
        }
        let right = output.columns.into_iter().map(|column| column.typed).collect();
        let (expr, name) = self.named(compare_rows(op, row, right)?.expr);
        let plan = project(output.plan, vec![expr])?;
        Ok(boolean(self.pend(Kind::Scalar(boolean(Expr::Column(name))), plan, operands)))
    }

    fn bind_array_comparison(
        &self,
        left: &ast::Expr,
        op: &str,
        array: &ast::Expr,
        all: bool,
        at: At,
    ) -> Result<TypedExpr, PgError> {
        if let ast::Expr::Array(array) = array {
            // Written out, it is a chain of comparisons.
            let left = self.bind_at(left, at)?;
            let mut result: Option<TypedExpr> = None;
            for element in &array.elem {
                let next = resolve_operator(op, Some(left.clone()), self.bind_at(element, at)?)?;
                result = Some(match result {
                    None => next,
                    Some(before) => resolve_operator(if all { "and" } else { "or" }, Some(before), next)?,
                });
            }
            return Ok(result.unwrap_or_else(|| crate::literal::boolean(all)));
        }
        let left = self.bind_at(left, at)?;
        let right = self.bind_at(array, at)?.vector_as_array();
        let right = match (&right.sql_type, &left.sql_type) {
            (SqlType::Unknown, SqlType::Unknown) => {
                cast(right, &SqlType::Array(Box::new(SqlType::Text)), -1, CastContext::Implicit)?
            }
            (SqlType::Unknown, element) => {
                let element = element.clone();
                cast(right, &SqlType::Array(Box::new(element)), -1, CastContext::Implicit)?
            }
            _ => right,
        };
        let SqlType::Array(_) = &right.sql_type else {
            let message = "op ANY/ALL (array) requires array on right side";
            return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, message));
        };
        if any_expr(&right.expr, |expr| matches!(expr, Expr::Column(_) | Expr::OuterReferenceColumn(..)))
            || super::function::constant(&right.expr)?.is_none()
        {
            let name = if all { "all" } else { "any" };
            return resolve_function(name, vec![left, crate::literal::string(op), right])
                .map_err(|_| PgError::unsupported(format!("operator {op} {name} of an array that is not constant")));
        }
        // A constant array is a list.
        let (SqlType::Array(element), Some(ScalarValue::List(list))) =
            (right.sql_type.clone(), super::function::constant(&right.expr)?)
        else {
            return Ok(boolean(null_boolean()));
        };
        if list.is_empty() || list.is_null(0) {
            return Ok(boolean(null_boolean()));
        }
        let values = list.value(0);
        let mut result: Option<TypedExpr> = None;
        for index in 0..values.len() {
            let value = ScalarValue::try_from_array(&values, index).map_err(super::build::internal)?;
            let next = resolve_operator(op, Some(left.clone()), TypedExpr::new(lit(value), (*element).clone()))?;
            result = Some(match result {
                None => next,
                Some(before) => resolve_operator(if all { "and" } else { "or" }, Some(before), next)?,
            });
        }
        Ok(result.unwrap_or_else(|| crate::literal::boolean(all)))
    }

    fn any_of(&self, row: Vec<TypedExpr>, op: &str, query: &ast::Query, at: At) -> Result<TypedExpr, PgError> {
        let output = self.bind_query(query, at.env, false)?;
        self.any_of_output(row, op, output)
    }

    /// Whether `row op` some row, in three values, as two aggregates over the comparison with every row.
    fn any_of_output(&self, row: Vec<TypedExpr>, op: &str, output: Output) -> Result<TypedExpr, PgError> {
        if output.columns.len() != row.len() {
            let which = if output.columns.len() > row.len() { "many" } else { "few" };
            return Err(PgError::new(SqlState::SYNTAX_ERROR, format!("subquery has too {which} columns")));
        }
        let (operands, row) = self.operands(row);
        let right = output.columns.into_iter().map(|column| column.typed).collect();
        let compared = compare_rows(op, row, right)?;
        let (met, met_name) = self.named(compared.expr.clone());
        let (unsure, unsure_name) = self.named(compared.expr.is_null());
        let plan = project(output.plan, vec![met, unsure])?;
        let any = |name: Column| {
            let call = resolve_aggregate("bool_or", vec![boolean(Expr::Column(name))], false, None, Vec::new())?;
            Ok::<_, PgError>(self.named(call.expr))
        };
        let (met, met_name) = any(met_name)?;
        let (unsure, unsure_name) = any(unsure_name)?;
        let plan = aggregate(plan, Vec::new(), vec![met, unsure])?;
        let answer =
            case(vec![(Expr::Column(met_name), lit(true)), (Expr::Column(unsure_name), null_boolean())], lit(false));
        let (answer, answer_name) = self.named(answer);
        let plan = project(plan, vec![answer])?;
        Ok(boolean(self.pend(Kind::Scalar(boolean(Expr::Column(answer_name))), plan, operands)))
    }

    /// A row of the query around a subquery as the subquery's plan refers to it. Constants are taken in as they are.
    fn operands(&self, row: Vec<TypedExpr>) -> (Vec<(Expr, Column)>, Vec<TypedExpr>) {
        let mut operands = Vec::new();
        let mut references = Vec::new();
        for typed in row {
            if columns_in(&typed.expr).is_empty() {
                references.push(typed);
                continue;
            }
            let column = Column::new_unqualified(self.fresh("c"));
            let expr = outer_reference(column.clone(), typed.sql_type.arrow());
            operands.push((typed.expr.clone(), column));
            references.push(TypedExpr { expr, ..typed });
        }
        (operands, references)
    }

    fn pend(&self, kind: Kind, plan: LogicalPlan, operands: Vec<(Expr, Column)>) -> Expr {
        let name = self.fresh("sq");
        self.pending.borrow_mut().insert(name.clone(), Pending { kind, plan, operands, value: None });
        Expr::Column(Column::new_unqualified(name))
    }

    fn pending_name(&self, expr: &Expr) -> Option<String> {
        match expr {
            Expr::Column(column) if column.relation.is_none() && self.pending.borrow().contains_key(&column.name) => {
                Some(column.name.clone())
            }
            _ => None,
        }
    }

    /// Whether a subquery stands in `expr`.
    pub(crate) fn holds_subquery(&self, expr: &Expr) -> bool {
        any_expr(expr, |expr| self.pending_name(expr).is_some())
    }

    /// The columns that `expr` reads, by itself or in a subquery.
    pub(crate) fn columns_read(&self, expr: &Expr) -> Vec<Column> {
        let mut found = Vec::new();
        for column in columns_in(expr) {
            let Some(pending) = self.pending.borrow().get(&column.name).cloned() else {
                found.push(column);
                continue;
            };
            for (operand, _) in &pending.operands {
                found.extend(self.columns_read(operand));
            }
            any_plan_expr(&pending.plan, |expr| {
                if let Expr::OuterReferenceColumn(_, column) = expr {
                    found.push(column.clone());
                }
                false
            });
        }
        found
    }

    /// Whether every subquery has been joined to a plan.
    pub(crate) fn all_resolved(&self) -> bool {
        self.pending.borrow().values().all(|pending| pending.value.is_some())
    }

    /// Rewrites what the subqueries within `expr` hold of the query around them: operands as expressions, the plans'
    /// outer references one by one.
    pub(crate) fn rewrite_subqueries(
        &self,
        expr: &Expr,
        rewrite: &mut dyn FnMut(Expr) -> Result<Expr, PgError>,
        refer: &mut dyn FnMut(&Expr) -> Option<Expr>,
    ) -> Result<(), PgError> {
        let mut names = Vec::new();
        any_expr(expr, |expr| {
            names.extend(self.pending_name(expr));
            false
        });
        for name in names {
            let Some(mut pending) = self.pending.borrow().get(&name).cloned() else { continue };
            for (operand, _) in &mut pending.operands {
                *operand = rewrite(std::mem::take(operand))?;
            }
            pending.plan = replace_in_plan(pending.plan, |expr| refer(expr))?;
            self.pending.borrow_mut().insert(name, pending);
        }
        Ok(())
    }

    /// Joins every subquery within `exprs` to `plan` and puts its value in its place.
    pub(crate) fn resolve_subqueries(
        &self,
        mut plan: LogicalPlan,
        exprs: &mut [&mut Expr],
    ) -> Result<LogicalPlan, PgError> {
        let mut names: Vec<String> = Vec::new();
        for expr in exprs.iter() {
            any_expr(expr, |expr| {
                names.extend(self.pending_name(expr).filter(|name| !names.contains(name)));
                false
            });
        }
        for name in names {
            let Some(mut pending) = self.pending.borrow().get(&name).cloned() else { continue };
            let value = match pending.value.clone() {
                Some(value) => value,
                None => {
                    let (joined, value) = self.apply(plan, pending.clone())?;
                    plan = joined;
                    pending.value = Some(value.clone());
                    self.pending.borrow_mut().insert(name.clone(), pending);
                    value
                }
            };
            if !columns_in(&value).iter().all(|column| plan.schema().has_column(column)) {
                return Err(PgError::internal("a subquery is needed in two stages of a query"));
            }
            let column = Expr::Column(Column::new_unqualified(&name));
            for expr in exprs.iter_mut() {
                let taken = std::mem::take(&mut **expr);
                **expr = replace(taken, |expr| (*expr == column).then(|| value.clone()))?;
            }
        }
        Ok(plan)
    }

    /// `plan`'s rows for which `predicate` is true, with `plan`'s columns.
    pub(crate) fn filter_rows(&self, mut plan: LogicalPlan, predicate: Expr) -> Result<LogicalPlan, PgError> {
        let kept = columns(&plan);
        let (with, without): (Vec<Expr>, Vec<Expr>) =
            conjuncts(predicate).into_iter().partition(|conjunct| self.holds_subquery(conjunct));
        if let Some(predicate) = datafusion::logical_expr::utils::conjunction(without) {
            plan = filter(plan, predicate)?;
        }
        for mut conjunct in with {
            let (bare, negated) = match &conjunct {
                Expr::Not(inner) => (inner.as_ref(), true),
                other => (other, false),
            };
            let name = self.pending_name(bare);
            let pending = name.as_ref().and_then(|name| self.pending.borrow().get(name).cloned());
            match (name, pending) {
                (Some(name), Some(pending)) if is_semi_join(&pending, negated) => {
                    self.pending.borrow_mut().entry(name).and_modify(|pending| pending.value = Some(lit(true)));
                    plan = self.semi_join(plan, pending, negated)?;
                }
                _ => {
                    plan = self.resolve_subqueries(plan, &mut [&mut conjunct])?;
                    plan = filter(plan, conjunct)?;
                }
            }
        }
        super::query::narrowed(plan, kept)
    }

    fn semi_join(&self, plan: LogicalPlan, pending: Pending, negated: bool) -> Result<LogicalPlan, PgError> {
        let join_type = if negated { JoinType::LeftAnti } else { JoinType::LeftSemi };
        let (plan, operands) = self.with_operands(plan, pending.operands)?;
        let mut on = Vec::new();
        let inner = match (pending.kind, operands.first()) {
            (Kind::In { key, .. }, Some(operand)) => {
                on.push((operand.clone(), key.expr));
                pending.plan
            }
            _ => rows_only(pending.plan),
        };
        if on.is_empty() && !has_outer(&inner, &plan) {
            // One row that says whether there are any, and is there only if the answer suits.
            let (inner, count) = self.counted(inner)?;
            let wanted = if negated { count.eq(lit(0i64)) } else { count.gt(lit(0i64)) };
            let kept = columns(&plan);
            return project(cross(plan, filter(inner, wanted)?)?, kept);
        }
        let correlated = self.correlate(&plan, inner, true)?;
        on.extend(correlated.on);
        join(plan, correlated.plan, join_type, on, correlated.null_on, correlated.filters)
    }

    /// Joins a subquery to `plan`: the plan with further columns, and the subquery's value over it.
    fn apply(&self, plan: LogicalPlan, pending: Pending) -> Result<(LogicalPlan, Expr), PgError> {
        let in_operand = matches!(pending.kind, Kind::In { .. });
        let (plan, operands) = if in_operand {
            self.with_operands(plan, pending.operands)?
        } else {
            let mut exprs: Vec<Expr> = pending.operands.iter().map(|(expr, _)| expr.clone()).collect();
            let plan = self.resolve_subqueries(plan, &mut exprs.iter_mut().collect::<Vec<_>>())?;
            let named = exprs.into_iter().zip(&pending.operands).map(|(expr, (_, name))| expr.alias(&name.name));
            (extend(plan, named.collect())?, Vec::new())
        };
        match (pending.kind, operands.into_iter().next()) {
            (Kind::Scalar(value), _) => self.apply_scalar(plan, pending.plan, value),
            (Kind::Exists, _) => self.apply_exists(plan, pending.plan),
            (Kind::In { key, nullable }, Some(operand)) => self.apply_in(plan, pending.plan, operand, key, nullable),
            (Kind::In { .. }, None) => Err(PgError::internal("IN without an operand")),
        }
    }

    /// `plan` with each operand as a column, and those columns.
    fn with_operands(
        &self,
        plan: LogicalPlan,
        operands: Vec<(Expr, Column)>,
    ) -> Result<(LogicalPlan, Vec<Expr>), PgError> {
        let (mut exprs, names): (Vec<Expr>, Vec<Column>) = operands.into_iter().unzip();
        let plan = self.resolve_subqueries(plan, &mut exprs.iter_mut().collect::<Vec<_>>())?;
        let mut computed = Vec::new();
        let mut columns = Vec::new();
        for (expr, name) in exprs.into_iter().zip(names) {
            if matches!(expr, Expr::Column(_)) {
                columns.push(expr);
            } else {
                computed.push(expr.alias(&name.name));
                columns.push(Expr::Column(name));
            }
        }
        Ok((extend(plan, computed)?, columns))
    }

    fn apply_scalar(
        &self,
        plan: LogicalPlan,
        inner: LogicalPlan,
        value: TypedExpr,
    ) -> Result<(LogicalPlan, Expr), PgError> {
        if is_single_row(&inner) {
            return Ok((self.apply_one_row(plan, inner)?, value.expr));
        }
        let call = resolve_aggregate("single_value", vec![value], false, None, Vec::new())?;
        let (call, name) = self.named(call.expr);
        let inner = match inner {
            // The order of a single row is no matter.
            LogicalPlan::Sort(node) => Arc::unwrap_or_clone(node.input),
            inner => inner,
        };
        let inner = aggregate(inner, Vec::new(), vec![call])?;
        Ok((self.apply_one_row(plan, inner)?, Expr::Column(name)))
    }

    fn apply_exists(&self, plan: LogicalPlan, inner: LogicalPlan) -> Result<(LogicalPlan, Expr), PgError> {
        let inner = rows_only(inner);
        if !has_outer(&inner, &plan) {
            let (inner, count) = self.counted(inner)?;
            return Ok((cross(plan, inner)?, count.gt(lit(0i64))));
        }
        let correlated = self.correlate(&plan, inner, false)?;
        let (keys, on, null_on) = self.keys_of(correlated.on, correlated.null_on);
        let (mark, mark_name) = self.named(lit(true));
        let marks = extend(self.distinct(project(correlated.plan, keys)?)?, vec![mark])?;
        let plan = join(plan, marks, JoinType::Left, on, null_on, Vec::new())?;
        Ok((plan, Expr::Column(mark_name).is_not_null()))
    }

    fn apply_in(
        &self,
        plan: LogicalPlan,
        inner: LogicalPlan,
        operand: Expr,
        key: TypedExpr,
        nullable: bool,
    ) -> Result<(LogicalPlan, Expr), PgError> {
        let (value, value_name) = self.named(key.expr);
        let correlated = self.correlate(&plan, project(inner, vec![value])?, false)?;
        let value = Expr::Column(value_name);
        let outer_keys: Vec<Expr> =
            correlated.on.iter().chain(&correlated.null_on).map(|(outside, _)| outside.clone()).collect();
        let null_equal = correlated.on.is_empty();
        let (keys, on, null_on) = self.keys_of(correlated.on, correlated.null_on);
        let key_columns: Vec<Expr> = on.iter().chain(&null_on).map(|(_, inside)| inside.clone()).collect();
        let rows = project(correlated.plan, std::iter::once(value.clone()).chain(keys).collect())?;

        let (mark, mark_name) = self.named(lit(true));
        let marks = extend(self.distinct(filter(rows.clone(), value.clone().is_not_null())?)?, vec![mark])?;
        let mut value_on = on;
        value_on.push((operand.clone(), value.clone()));
        let mut plan = join(plan, marks, JoinType::Left, value_on, null_on, Vec::new())?;
        let met = Expr::Column(mark_name).is_not_null();
        if !nullable {
            return Ok((plan, met));
        }

        let (groups, names): (Vec<Expr>, Vec<Column>) = key_columns.into_iter().map(|key| self.named(key)).unzip();
        let (value, value_name) = self.named(value);
        let rows = project(rows, groups.into_iter().chain([value]).collect())?;
        let (groups, names): (Vec<Expr>, Vec<Column>) =
            names.into_iter().map(|name| self.named(Expr::Column(name))).unzip();
        let all = self.count(Vec::new())?;
        let known = self.count(vec![TypedExpr::new(Expr::Column(value_name), key.sql_type)])?;
        let counts = aggregate(rows, groups, vec![all.0, known.0])?;
        let (all, known) = (Expr::Column(all.1), Expr::Column(known.1));
        let (all, known) = if names.is_empty() {
            plan = cross(plan, counts)?;
            (all, known)
        } else {
            let names = names.into_iter().map(Expr::Column);
            let pairs: Vec<(Expr, Expr)> = outer_keys.into_iter().zip(names).collect();
            let (on, null_on) = if null_equal { (Vec::new(), pairs) } else { (pairs, Vec::new()) };
            plan = join(plan, counts, JoinType::Left, on, null_on, Vec::new())?;
            (or_zero(all), or_zero(known))
        };
        let answer = case(
            vec![
                (met, lit(true)),
                (all.clone().eq(lit(0i64)), lit(false)),
                (operand.is_null().or(all.gt(known)), null_boolean()),
            ],
            lit(false),
        );
        Ok((plan, answer))
    }

    /// Inner sides of join keys as projections with names, and the keys with those names.
    fn keys_of(
        &self,
        on: Vec<(Expr, Expr)>,
        null_on: Vec<(Expr, Expr)>,
    ) -> (Vec<Expr>, Vec<(Expr, Expr)>, Vec<(Expr, Expr)>) {
        let mut exprs = Vec::new();
        let mut named = |pairs: Vec<(Expr, Expr)>| {
            pairs
                .into_iter()
                .map(|(outside, inside)| {
                    let (expr, name) = self.named(inside);
                    exprs.push(expr);
                    (outside, Expr::Column(name))
                })
                .collect::<Vec<_>>()
        };
        let on = named(on);
        let null_on = named(null_on);
        (exprs, on, null_on)
    }

    /// One row that counts the rows of `plan`, and the count's column.
    fn counted(&self, plan: LogicalPlan) -> Result<(LogicalPlan, Expr), PgError> {
        let (call, name) = self.count(Vec::new())?;
        Ok((aggregate(plan, Vec::new(), vec![call])?, Expr::Column(name)))
    }

    fn count(&self, args: Vec<TypedExpr>) -> Result<(Expr, Column), PgError> {
        resolve_aggregate("count", args, false, None, Vec::new()).map(|typed| self.named(typed.expr))
    }
}

/// Whether a WHERE conjunct that is this subquery, or its negation, is a join that keeps or drops rows.
fn is_semi_join(pending: &Pending, negated: bool) -> bool {
    pending.value.is_none()
        && match &pending.kind {
            Kind::Scalar(_) => false,
            Kind::Exists => true,
            // NULL is not true, so IN keeps a row exactly if it met a value; NOT IN also asks about NULLs.
            Kind::In { nullable, .. } => !negated || !nullable,
        }
}

/// As many rows as `plan` has, or at least as few: what EXISTS needs to know of it.
fn rows_only(plan: LogicalPlan) -> LogicalPlan {
    match plan {
        LogicalPlan::Projection(node) => match Arc::unwrap_or_clone(node.input) {
            LogicalPlan::Sort(sort) => Arc::unwrap_or_clone(sort.input),
            input => input,
        },
        LogicalPlan::Sort(node) => rows_only(Arc::unwrap_or_clone(node.input)),
        plan => plan,
    }
}

fn one_column_only() -> PgError {
    PgError::new(SqlState::SYNTAX_ERROR, "subquery must return only one column")
}
