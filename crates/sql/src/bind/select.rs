//! SELECT: the stages FROM, WHERE, GROUP BY, HAVING, window functions, select list, DISTINCT, ORDER BY, LIMIT.
//!
//! All expressions are bound over FROM; then each stage replaces the parts it computes by its columns.

use std::sync::Arc;

use datafusion::logical_expr::{Distinct, DistinctOn, Expr, LogicalPlan, SortExpr};
use repr::{PgError, SqlState, SqlType};
use sqlparser::ast;
use sqlparser::tokenizer::Span;

use super::Binder;
use super::aggregate::{holds_aggregate, holds_window};
use super::build::{internal, project};
use super::expr::{At, Clause, Inside, column_name, span_of};
use super::grouping::{GroupBy, expand};
use super::query::{Output, OutputColumn, Tail, definite, narrowed, sort_key};
use super::scope::{Env, Scope, fold};
use crate::cast::{CastContext, cast};
use crate::operators::equality_key;
use crate::typed::TypedExpr;

/// What an item of ORDER BY or DISTINCT ON means.
enum Target {
    /// An output column.
    Column(usize),
    /// An expression of its own: index among the hidden ones.
    Hidden(usize),
}

impl Binder<'_> {
    pub(crate) fn bind_select(
        &self,
        select: &ast::Select,
        tail: Tail,
        env: &Env,
        keep_unknown: bool,
    ) -> Result<Output, PgError> {
        refuse_extras(select)?;
        let (mut plan, scope) = self.bind_from(&select.from, env)?;
        let env = &Env::Scope { scope: &scope, parent: env };
        let at = |clause| At { env, clause, inside: Inside::Neither, windows: &select.named_window };
        if let Some(condition) = &select.selection {
            let bound = self.condition(condition, "WHERE", at(Clause::Where))?;
            plan = self.filter_rows(plan, bound)?;
        }

        let around = self.begin_spans();
        let aggregated_around = self.aggregated.replace(false);
        let mut items = self.bind_items(select, &scope, at(Clause::Select), keep_unknown)?;
        let groups = self.bind_group_by(&select.group_by, &items, &scope, at(Clause::GroupBy))?;
        let mut having = match &select.having {
            Some(having) => Some(self.condition(having, "HAVING", at(Clause::Having))?),
            None => None,
        };
        let mut hidden: Vec<TypedExpr> = Vec::new();
        let mut target = |expr: &ast::Expr, clause: Clause| -> Result<Target, PgError> {
            if let Some(index) = self.output_named(expr, &items, clause.name())? {
                return Ok(Target::Column(index));
            }
            let typed = self.bind_at(expr, at(clause))?;
            if let Some(index) = items.iter().position(|item| item.typed.expr == typed.expr) {
                return Ok(Target::Column(index));
            }
            let known = hidden.iter().position(|known| known.expr == typed.expr);
            Ok(Target::Hidden(known.unwrap_or_else(|| {
                hidden.push(typed);
                hidden.len() - 1
            })))
        };
        let mut distinct_on = Vec::new();
        if let Some(ast::Distinct::On(exprs)) = &select.distinct {
            for expr in exprs {
                distinct_on.push(target(expr, Clause::DistinctOn)?);
            }
        }
        let mut order = Vec::new();
        for item in tail.order_by {
            if item.with_fill.is_some() {
                return Err(PgError::unsupported("WITH FILL"));
            }
            order.push((target(&item.expr, Clause::OrderBy)?, item.options));
        }

        let grouped = self.aggregated.replace(aggregated_around) || groups.is_some() || having.is_some();
        if grouped {
            let later = items.iter_mut().map(|item| &mut item.typed).chain(&mut hidden);
            let exprs = later.map(|typed| &mut typed.expr).chain(having.as_mut());
            let groups = groups.unwrap_or_default();
            let several_sets = groups.sets.is_some();
            plan = self.group(plan, &scope, groups, &mut exprs.collect::<Vec<_>>())?;
            // A key is NULL in the rows of the sets that lack it.
            items.iter_mut().for_each(|item| item.nullable |= several_sets);
        }
        self.end_spans(around);
        if let Some(having) = having {
            plan = self.filter_rows(plan, having)?;
        }
        let later = items.iter_mut().map(|item| &mut item.typed).chain(&mut hidden);
        let mut exprs: Vec<&mut Expr> = later.map(|typed| &mut typed.expr).collect();
        plan = self.resolve_windows(plan, (!grouped).then_some(&scope), &mut exprs)?;
        plan = self.resolve_subqueries(plan, &mut exprs)?;
        plan = self.unnest_calls(plan, &mut exprs)?;

        let mut projected = Vec::new();
        for typed in items.iter_mut().map(|item| &mut item.typed).chain(hidden.iter_mut()) {
            let (expr, column) = self.named(std::mem::take(&mut typed.expr));
            projected.push(expr);
            typed.expr = Expr::Column(column);
        }
        plan = project(plan, projected)?;

        let mut output = Output { plan, columns: items };
        match &select.distinct {
            Some(ast::Distinct::Distinct) => {
                if !hidden.is_empty() {
                    let message = "for SELECT DISTINCT, ORDER BY expressions must appear in select list";
                    let error = PgError::new(SqlState::INVALID_COLUMN_REFERENCE, message);
                    let hidden = order.iter().position(|(target, _)| matches!(target, Target::Hidden(_)));
                    let span = hidden.map_or(Span::empty(), |index| span_of(&tail.order_by[index].expr));
                    return Err(self.at(error, span));
                }
                output = self.distinct_rows(output)?;
            }
            Some(ast::Distinct::On(_)) => {
                output.plan = self.distinct_on(output.plan, &output.columns, &hidden, &distinct_on, &order)?;
            }
            Some(ast::Distinct::All) | None => {}
        }
        let keys = sort_keys(&order, &output.columns, &hidden)?;
        let plan = self.cut(output.plan, keys, tail)?;
        let wanted = output.columns.iter().map(|column| column.typed.expr.clone()).collect();
        Ok(Output { plan: narrowed(plan, wanted)?, columns: output.columns })
    }

    /// A condition: the expression of WHERE or HAVING.
    fn condition(&self, expr: &ast::Expr, clause: &str, at: At) -> Result<Expr, PgError> {
        let typed = self.bind_at(expr, at)?;
        self.boolean(typed, clause).map_err(|error| self.at(error, span_of(expr)))
    }

    /// The select list, `*` expanded.
    fn bind_items(
        &self,
        select: &ast::Select,
        scope: &Scope,
        at: At,
        keep_unknown: bool,
    ) -> Result<Vec<OutputColumn>, PgError> {
        let mut items = Vec::new();
        let mut push = |name: String, typed: TypedExpr| -> Result<(), PgError> {
            let typed = if typed.is_unknown() && !keep_unknown {
                cast(typed, &SqlType::Text, -1, CastContext::Implicit)?
            } else {
                typed
            };
            let constant = matches!(typed.expr, Expr::Literal(..) | Expr::Placeholder(_)).then(|| typed.expr.clone());
            let nullable = scope.is_nullable(&typed.expr);
            items.push(OutputColumn { name, nullable, constant, typed });
            Ok(())
        };
        for item in &select.projection {
            match item {
                ast::SelectItem::UnnamedExpr(expr) => push(column_name(expr), self.bind_at(expr, at)?)?,
                ast::SelectItem::ExprWithAlias { expr, alias } => push(fold(alias), self.bind_at(expr, at)?)?,
                ast::SelectItem::ExprWithAliases { .. } => return Err(PgError::unsupported("several aliases")),
                ast::SelectItem::Wildcard(options) => {
                    refuse_wildcard_options(options)?;
                    if scope.relations.is_empty() {
                        let message = "SELECT * with no tables specified is not valid";
                        let error = PgError::new(SqlState::SYNTAX_ERROR, message);
                        return Err(self.at(error, options.wildcard_token.0.span));
                    }
                    for visible in &scope.visible {
                        push(visible.column.name.clone(), visible.column.typed.clone())?;
                    }
                }
                ast::SelectItem::QualifiedWildcard(kind, options) => {
                    refuse_wildcard_options(options)?;
                    let ast::SelectItemQualifiedWildcardKind::ObjectName(name) = kind else {
                        return Err(PgError::unsupported("(value).*"));
                    };
                    let mut qualifier = Vec::new();
                    for part in &name.0 {
                        match part {
                            ast::ObjectNamePart::Identifier(ident) => qualifier.push(ident.clone()),
                            _ => return Err(PgError::unsupported(format!("{name}.*"))),
                        }
                    }
                    let (depth, relation) = self.resolve_relation(&qualifier, at.env)?;
                    for column in &relation.columns {
                        let mut typed = column.typed.clone();
                        if let (true, Expr::Column(plan_column)) = (depth > 0, &column.typed.expr) {
                            typed.expr = super::build::outer_reference(plan_column.clone(), typed.sql_type.arrow());
                        }
                        push(column.name.clone(), typed)?;
                    }
                }
            }
        }
        Ok(items)
    }

    /// The grouping expressions and sets; None without GROUP BY.
    fn bind_group_by(
        &self,
        group_by: &ast::GroupByExpr,
        items: &[OutputColumn],
        scope: &Scope,
        at: At,
    ) -> Result<Option<GroupBy>, PgError> {
        let ast::GroupByExpr::Expressions(exprs, modifiers) = group_by else {
            return Err(PgError::unsupported("GROUP BY ALL"));
        };
        if !modifiers.is_empty() {
            return Err(PgError::unsupported("GROUP BY .. WITH"));
        }
        if exprs.is_empty() {
            return Ok(None);
        }
        let local = Env::Scope { scope, parent: &Env::Root };
        let mut groups: Vec<TypedExpr> = Vec::new();
        let (written, as_sets) = expand(exprs)?;
        let mut sets: Vec<Vec<usize>> = Vec::new();
        // Each expression as it is written is bound once, however many sets it is in.
        let mut known: Vec<(&ast::Expr, usize)> = Vec::new();
        for set in &written {
            let mut indexes = Vec::new();
            for expr in set {
                let index = match known.iter().find(|(other, _)| std::ptr::eq(*other, *expr)) {
                    Some((_, index)) => *index,
                    None => {
                        let index = self.bind_group_expr(expr, items, &local, at, &mut groups)?;
                        known.push((expr, index));
                        index
                    }
                };
                if !indexes.contains(&index) {
                    indexes.push(index);
                }
            }
            sets.push(indexes);
        }
        let several = as_sets && sets.len() > 1;
        Ok(Some(GroupBy { exprs: groups, sets: several.then_some(sets) }))
    }

    /// Binds a grouping expression to its index among `groups`, where it is put if it is new.
    fn bind_group_expr(
        &self,
        expr: &ast::Expr,
        items: &[OutputColumn],
        local: &Env,
        at: At,
        groups: &mut Vec<TypedExpr>,
    ) -> Result<usize, PgError> {
        // A name means an input column before it means an output column.
        let input = match expr {
            ast::Expr::Identifier(ident) => self.find_column(ident, local)?,
            _ => None,
        };
        let typed = match input {
            Some(typed) => typed,
            None => match self.output_named(expr, items, "GROUP BY")? {
                Some(index) => items[index].typed.clone(),
                None => self.bind_at(expr, at)?,
            },
        };
        if holds_aggregate(&typed.expr) {
            let message = "aggregate functions are not allowed in GROUP BY";
            return Err(PgError::new(SqlState::GROUPING_ERROR, message));
        }
        if holds_window(&typed.expr) {
            return Err(PgError::new(SqlState("42P20"), "window functions are not allowed in GROUP BY"));
        }
        if let Some(index) = groups.iter().position(|other| other.expr == typed.expr) {
            return Ok(index);
        }
        groups.push(typed);
        Ok(groups.len() - 1)
    }

    /// The first row, by ORDER BY, of each combination of the DISTINCT ON expressions.
    fn distinct_on(
        &self,
        plan: LogicalPlan,
        columns: &[OutputColumn],
        hidden: &[TypedExpr],
        on: &[Target],
        order: &[(Target, ast::OrderByOptions)],
    ) -> Result<LogicalPlan, PgError> {
        let mut keys = Vec::new();
        for target in on {
            let key = equality_key(typed_of(target, columns, hidden).clone());
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let mut sorted: Vec<SortExpr> = sort_keys(order, columns, hidden)?;
        // ORDER BY starts with the DISTINCT ON expressions, in any order; the node wants them in the same.
        let matched = sorted.iter().take_while(|key| keys.contains(&key.expr)).map(|key| key.expr.clone());
        let mut leading: Vec<Expr> = Vec::new();
        for key in matched {
            if !leading.contains(&key) {
                leading.push(key);
            }
        }
        if leading.len() < keys.len() && leading.len() < sorted.len() {
            let message = "SELECT DISTINCT ON expressions must match initial ORDER BY expressions";
            return Err(PgError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
        }
        let missing: Vec<Expr> = keys.iter().filter(|key| !leading.contains(key)).cloned().collect();
        sorted.retain({
            let mut seen: Vec<Expr> = Vec::new();
            move |key| {
                let new = !seen.contains(&key.expr);
                seen.push(key.expr.clone());
                new
            }
        });
        sorted.extend(missing.iter().map(|key| key.clone().sort(true, false)));
        leading.extend(missing);
        let select = super::build::columns(&plan);
        let sorted = Some(definite(&plan, sorted));
        let node = DistinctOn::try_new(leading, select, sorted, Arc::new(plan)).map_err(internal)?;
        Ok(LogicalPlan::Distinct(Distinct::On(node)))
    }
}

fn typed_of<'t>(target: &Target, columns: &'t [OutputColumn], hidden: &'t [TypedExpr]) -> &'t TypedExpr {
    match target {
        Target::Column(index) => &columns[*index].typed,
        Target::Hidden(index) => &hidden[*index],
    }
}

fn sort_keys(
    order: &[(Target, ast::OrderByOptions)],
    columns: &[OutputColumn],
    hidden: &[TypedExpr],
) -> Result<Vec<SortExpr>, PgError> {
    order.iter().map(|(target, options)| sort_key(typed_of(target, columns, hidden).clone(), options)).collect()
}

fn refuse_wildcard_options(options: &ast::WildcardAdditionalOptions) -> Result<(), PgError> {
    let plain = options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none();
    if plain { Ok(()) } else { Err(PgError::unsupported("* with EXCEPT, REPLACE or the like")) }
}

fn refuse_extras(select: &ast::Select) -> Result<(), PgError> {
    let refusals = [
        (select.top.is_some(), "TOP"),
        (select.into.is_some(), "SELECT INTO"),
        (select.exclude.is_some(), "EXCLUDE"),
        (!select.lateral_views.is_empty(), "LATERAL VIEW"),
        (select.prewhere.is_some(), "PREWHERE"),
        (!select.connect_by.is_empty(), "CONNECT BY"),
        (!select.cluster_by.is_empty(), "CLUSTER BY"),
        (!select.distribute_by.is_empty(), "DISTRIBUTE BY"),
        (!select.sort_by.is_empty(), "SORT BY"),
        (select.qualify.is_some(), "QUALIFY"),
        (select.value_table_mode.is_some(), "SELECT AS STRUCT or VALUE"),
        (select.flavor != ast::SelectFlavor::Standard, "FROM before SELECT"),
        (select.select_modifiers.as_ref().is_some_and(|modifiers| modifiers.is_any_set()), "this modifier of SELECT"),
    ];
    match refusals.iter().find(|(present, _)| *present) {
        Some((_, what)) => Err(PgError::unsupported(what)),
        None => Ok(()),
    }
}
