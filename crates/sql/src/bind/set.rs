//! UNION, EXCEPT and INTERSECT, and what DISTINCT means for values that are equal without being the same.
//!
//! EXCEPT ALL and INTERSECT ALL count the copies of each row on either side and repeat the row as often as is left:
//! an aggregate and an unnest, which both engines do exactly.

use datafusion::common::{Column, JoinType, ScalarValue};
use datafusion::functions_nested::range::gen_series_udf;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, Union, lit};
use repr::{PgError, SqlState, SqlType};
use sqlparser::ast::{SetExpr, SetOperator, SetQuantifier};
use std::sync::Arc;

use super::Binder;
use super::build::{aggregate, case, extend, filter, internal, join, project};
use super::query::{Output, OutputColumn};
use super::scope::Env;
use super::table_function::unnest;
use crate::cast::{CastContext, cast, common_type};
use crate::functions::resolve_aggregate;
use crate::operators::{equality_key, equality_keys};
use crate::typed::TypedExpr;

impl Binder<'_> {
    pub(crate) fn bind_set_operation(
        &self,
        op: SetOperator,
        quantifier: SetQuantifier,
        left: &SetExpr,
        right: &SetExpr,
        env: &Env,
        keep_unknown: bool,
    ) -> Result<Output, PgError> {
        let all = match quantifier {
            SetQuantifier::All => true,
            SetQuantifier::Distinct | SetQuantifier::None => false,
            other => return Err(PgError::unsupported(format!("{op} {other}"))),
        };
        let name = match op {
            SetOperator::Minus => {
                return Err(PgError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"MINUS\""));
            }
            SetOperator::Union => "UNION",
            SetOperator::Except => "EXCEPT",
            SetOperator::Intersect => "INTERSECT",
        };
        let left = self.bind_set_expr(left, env, true)?;
        let right = self.bind_set_expr(right, env, true)?;
        if left.columns.len() != right.columns.len() {
            let message = format!("each {name} query must have the same number of columns");
            return Err(PgError::new(SqlState::SYNTAX_ERROR, message));
        }
        let (left, right) = self.align(name, left, right, keep_unknown)?;
        match (op, all) {
            (SetOperator::Union, true) => union_output(left, right),
            (SetOperator::Union, false) => self.distinct_rows(union_output(left, right)?),
            (SetOperator::Except, false) => self.matched_rows(left, right, JoinType::LeftAnti),
            (SetOperator::Intersect, false) => self.matched_rows(left, right, JoinType::LeftSemi),
            (op, _) => self.counted_rows(left, right, op),
        }
    }

    /// Both sides with the column types that PostgreSQL resolves them to, under fresh names.
    fn align(&self, name: &str, left: Output, right: Output, keep_unknown: bool) -> Result<(Output, Output), PgError> {
        let mut sides = [Vec::new(), Vec::new()];
        let mut columns = [Vec::new(), Vec::new()];
        for (left, right) in left.columns.into_iter().zip(right.columns) {
            let (l, r) = (left.value(), right.value());
            let mut sql_type = common_type(name, &[&l, &r])?;
            if l.is_unknown() && r.is_unknown() {
                sql_type = if keep_unknown { SqlType::Unknown } else { SqlType::Text };
            }
            let shared = l.typmod == r.typmod && l.sql_type == sql_type && r.sql_type == sql_type;
            let typmod = if shared { l.typmod } else { -1 };
            for (side, (column, value)) in [(left, l), (right, r)].into_iter().enumerate() {
                let typed =
                    if value.sql_type == sql_type { value } else { cast(value, &sql_type, -1, CastContext::Implicit)? };
                let (expr, name) = self.named(typed.expr);
                sides[side].push(expr);
                let typed = TypedExpr { expr: Expr::Column(name), sql_type: sql_type.clone(), typmod };
                columns[side].push(OutputColumn { typed, constant: None, ..column });
            }
        }
        let [left_exprs, right_exprs] = sides;
        let [left_columns, right_columns] = columns;
        Ok((
            Output { plan: project(left.plan, left_exprs)?, columns: left_columns },
            Output { plan: project(right.plan, right_exprs)?, columns: right_columns },
        ))
    }

    /// Each row once. Of rows that are equal without being the same (1.0 and 1.00) one stands for all.
    pub(crate) fn distinct_rows(&self, output: Output) -> Result<Output, PgError> {
        if output.columns.iter().all(|column| equality_key(column.typed.clone()) == column.typed.expr) {
            return Ok(Output { plan: self.distinct(output.plan)?, columns: output.columns });
        }
        let (mut exprs, mut groups, mut aggregates, mut columns) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for column in output.columns {
            let key = self.group_key(&column.typed)?;
            exprs.extend(key.inputs);
            groups.push(key.group);
            aggregates.extend(key.aggregate);
            columns.push(column.with_expr(key.value));
        }
        let plan = aggregate(project(output.plan, exprs)?, groups, aggregates)?;
        let wanted = columns.iter().map(|column| column.typed.expr.clone()).collect();
        Ok(Output { plan: project(plan, wanted)?, columns })
    }

    /// How to group by `typed`: by what is equal where SQL says equal, while the value shown is one of the group's.
    pub(crate) fn group_key(&self, typed: &TypedExpr) -> Result<GroupKey, PgError> {
        let key = equality_key(typed.clone());
        let same = key == typed.expr;
        let (expr, name) = self.named(key);
        let (group, value) = self.named(Expr::Column(name));
        if same || !matches!(typed.sql_type, SqlType::Numeric | SqlType::Interval | SqlType::Bpchar) {
            return Ok(GroupKey { inputs: vec![expr], group, aggregate: None, value: Expr::Column(value) });
        }
        let (raw, raw_name) = self.named(typed.expr.clone());
        let raw_column = TypedExpr { expr: Expr::Column(raw_name), ..typed.clone() };
        let least = resolve_aggregate("min", vec![raw_column], false, None, Vec::new())?;
        let (least, least_name) = self.named(least.expr);
        Ok(GroupKey { inputs: vec![expr, raw], group, aggregate: Some(least), value: Expr::Column(least_name) })
    }

    fn matched_rows(&self, left: Output, right: Output, join_type: JoinType) -> Result<Output, PgError> {
        let keys = left
            .columns
            .iter()
            .zip(&right.columns)
            .map(|(left, right)| equality_keys(left.typed.clone(), right.typed.clone()))
            .collect();
        let left = self.distinct_rows(left)?;
        let keys = rebase(keys, &left, &right);
        let plan = join(left.plan, right.plan, join_type, Vec::new(), keys, Vec::new())?;
        Ok(Output { plan, columns: left.columns })
    }

    fn counted_rows(&self, left: Output, right: Output, op: SetOperator) -> Result<Output, PgError> {
        let (on_left, on_right) = (self.fresh("c"), self.fresh("c"));
        let (one, none) = (lit(1i64), lit(ScalarValue::Int64(None)));
        let tag = |output: Output, left: &Expr, right: &Expr| -> Result<Output, PgError> {
            let plan = extend(output.plan, vec![left.clone().alias(&on_left), right.clone().alias(&on_right)])?;
            let mut columns = output.columns;
            for name in [&on_left, &on_right] {
                let typed = TypedExpr::new(Expr::Column(Column::new_unqualified(name)), SqlType::Int8);
                columns.push(OutputColumn { name: name.clone(), typed, nullable: true, constant: None });
            }
            Ok(Output { plan, columns })
        };
        let mut both = union_output(tag(left, &one, &none)?, tag(right, &none, &one)?)?;
        let tags = both.columns.split_off(both.columns.len() - 2);

        let (mut exprs, mut groups, mut aggregates, mut columns) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for column in both.columns {
            let key = self.group_key(&column.typed)?;
            exprs.extend(key.inputs);
            groups.push(key.group);
            aggregates.extend(key.aggregate);
            columns.push(column.with_expr(key.value));
        }
        let mut counts = Vec::new();
        for tag in tags {
            exprs.push(tag.typed.expr.clone());
            let count = resolve_aggregate("count", vec![tag.typed], false, None, Vec::new())?;
            let (count, name) = self.named(count.expr);
            aggregates.push(count);
            counts.push(Expr::Column(name));
        }
        let plan = aggregate(project(both.plan, exprs)?, groups, aggregates)?;

        let (left_count, right_count) = (counts[0].clone(), counts[1].clone());
        let more_left = left_count.clone().gt(right_count.clone());
        let copies = match op {
            SetOperator::Except => {
                let rest = BinaryExpr::new(Box::new(left_count), Operator::Minus, Box::new(right_count));
                case(vec![(more_left, Expr::BinaryExpr(rest))], lit(0i64))
            }
            _ => case(vec![(more_left, right_count)], left_count),
        };
        let plan = filter(plan, copies.clone().gt(lit(0i64)))?;
        let (copies, copies_name) = self.named(gen_series_udf().call(vec![lit(1i64), copies, lit(1i64)]));
        let wanted: Vec<Expr> = columns.iter().map(|column| column.typed.expr.clone()).collect();
        let plan = project(plan, wanted.iter().cloned().chain([copies]).collect())?;
        Ok(Output { plan: project(unnest(plan, vec![copies_name])?, wanted)?, columns })
    }
}

/// How one column is grouped by.
pub(crate) struct GroupKey {
    /// Columns to project before the aggregate.
    pub(crate) inputs: Vec<Expr>,
    /// What to group by.
    pub(crate) group: Expr,
    /// The aggregate that finds the value to show, where that is not what is grouped by.
    pub(crate) aggregate: Option<Expr>,
    /// The column that shows the value after the aggregate.
    pub(crate) value: Expr,
}

impl OutputColumn {
    fn with_expr(mut self, expr: Expr) -> OutputColumn {
        self.typed.expr = expr;
        self.constant = None;
        self
    }
}

/// The rows of all of `inputs`, whose columns have the same names.
pub(crate) fn union(mut inputs: Vec<LogicalPlan>) -> Result<LogicalPlan, PgError> {
    if inputs.len() == 1 {
        return Ok(inputs.remove(0));
    }
    Union::try_new(inputs.into_iter().map(Arc::new).collect()).map(LogicalPlan::Union).map_err(internal)
}

/// Left rows and right rows under the left side's column names.
fn union_output(left: Output, right: Output) -> Result<Output, PgError> {
    let (mut exprs, mut columns) = (Vec::new(), Vec::new());
    for (left, right) in left.columns.into_iter().zip(right.columns) {
        exprs.push(match &left.typed.expr {
            Expr::Column(name) => right.typed.expr.alias(&name.name),
            _ => right.typed.expr,
        });
        columns.push(OutputColumn { nullable: left.nullable || right.nullable, ..left });
    }
    Ok(Output { plan: union(vec![left.plan, project(right.plan, exprs)?])?, columns })
}

/// The keys of a join whose left side was replaced by its distinct rows.
fn rebase(keys: Vec<(Expr, Expr)>, left: &Output, right: &Output) -> Vec<(Expr, Expr)> {
    keys.into_iter()
        .zip(left.columns.iter().zip(&right.columns))
        .map(|((_, right_key), (left, right))| (equality_keys(left.typed.clone(), right.typed.clone()).0, right_key))
        .collect()
}
