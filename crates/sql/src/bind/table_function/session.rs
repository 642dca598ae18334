//! `SESSION(t, ts, gap [, key ..])`: windows that last as long as no pause between two rows is longer than `gap`.
//!
//! A session is known by its start. A row starts one if the row before it, by time and within the key, is more than a
//! gap ago; every row's session is the latest such start up to it, and its end is its last row plus the gap:
//!
//! ```text
//! previous     = lag(ts)            OVER (PARTITION BY key ORDER BY ts)
//! start        = ts where ts - previous > gap, or nothing is before it
//! window_start = max(start)         OVER (PARTITION BY key ORDER BY ts)
//! window_end   = max(ts) + gap      OVER (PARTITION BY key, window_start)
//! ```
//!
//! So a late or retracted row that joins or splits sessions changes those and no others: a session is numbered by no
//! counter that the ones behind it would share. A row without a time is in no session.

use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::functions_window::lead_lag::lag_udwf;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{Expr, LogicalPlan, ScalarUDF, WindowFrame, WindowFunctionDefinition, lit};
use repr::{PgError, SqlState, SqlType};
use sqlparser::ast;

use super::window_udf::{WindowFunction, WindowPart};
use crate::bind::Binder;
use crate::bind::build::{extend, filter};
use crate::bind::expr::Clause;
use crate::bind::from::Item;
use crate::bind::scope::Env;
use crate::bind::window::{Over, window, window_call};
use crate::cast::{CastContext, cast};
use crate::operators::equality_key;

impl Binder<'_> {
    pub(super) fn bind_session(
        &self,
        args: &[&ast::Expr],
        alias: Option<&ast::TableAlias>,
        env: &Env,
    ) -> Result<Item, PgError> {
        let [relation, time, gap, keys @ ..] = args else {
            let message = "SESSION takes SESSION(relation, time column, gap [, key ..])";
            return Err(PgError::new(SqlState::UNDEFINED_FUNCTION, message));
        };
        let (plan, scope) = self.window_input(relation, env, "SESSION")?;
        let over = Env::Scope { scope: &scope, parent: &Env::Root };
        let time = self.window_time(time, &over, "SESSION")?;
        let gap = self.window_length(gap, &time.sql_type, "SESSION")?;
        if gap <= 0 {
            let message = "SESSION needs a gap greater than zero";
            return Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
        let mut partition = Vec::new();
        let mut key_columns = Vec::new();
        for key in keys {
            let key = self.bind_expr(key, &over, Clause::FromFunction)?;
            let key = if key.is_unknown() { cast(key, &SqlType::Text, -1, CastContext::Implicit)? } else { key };
            let (expr, column) = self.named(equality_key(key));
            key_columns.push(expr);
            partition.push(Expr::Column(column));
        }
        let (moment, time_column) = self.named(time.expr.clone());
        key_columns.push(moment);
        let plan = filter(extend(plan, key_columns)?, Expr::Column(time_column.clone()).is_not_null())?;
        let (plan, start, end) = self.sessions(plan, Expr::Column(time_column), partition, gap)?;
        self.window_item(plan, &scope, [start, end], &time.sql_type, alias)
    }

    /// `plan` with the start and the end of each row's session.
    fn sessions(
        &self,
        plan: LogicalPlan,
        time: Expr,
        partition: Vec<Expr>,
        gap: i64,
    ) -> Result<(LogicalPlan, Expr, Expr), PgError> {
        let by_time = vec![Sort::new(time.clone(), true, false)];
        let kernel = |part: WindowPart, mut args: Vec<Expr>| {
            args.extend([lit(gap), lit(gap), lit(0i64)]);
            ScalarUDF::from(WindowFunction::new(part)).call(args)
        };
        let lag = WindowFunctionDefinition::WindowUDF(lag_udwf());
        let (call, previous) = self.named(over(lag, vec![time.clone(), lit(1i64)], &partition, &by_time));
        let plan = window(plan, vec![call])?;
        let starts = kernel(WindowPart::SessionStart, vec![time.clone(), Expr::Column(previous)]);
        let (starts, start) = self.named(starts);
        let plan = extend(plan, vec![starts])?;
        let max = || WindowFunctionDefinition::AggregateUDF(max_udaf());
        let (call, start) = self.named(over(max(), vec![Expr::Column(start)], &partition, &by_time));
        let plan = window(plan, vec![call])?;
        let start = Expr::Column(start);
        let session: Vec<Expr> = partition.into_iter().chain([start.clone()]).collect();
        let (call, last) = self.named(over(max(), vec![time], &session, &[]));
        let plan = window(plan, vec![call])?;
        let (end, end_column) = self.named(kernel(WindowPart::End, vec![Expr::Column(last)]));
        Ok((extend(plan, vec![end])?, start, Expr::Column(end_column)))
    }
}

/// A call over the default frame.
fn over(fun: WindowFunctionDefinition, args: Vec<Expr>, partition: &[Expr], order: &[Sort]) -> Expr {
    let frame = WindowFrame::new((!order.is_empty()).then_some(false));
    window_call(fun, args, Over { partition_by: partition.to_vec(), order_by: order.to_vec(), frame }, None)
}
