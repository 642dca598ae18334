//! FROM: relations, joins, derived tables, LATERAL.
//!
//! Every item is bound to a plan and a scope. An item that reads columns of the items before it (LATERAL, and any table
//! function) holds outer references until it is joined, where [`super::decorrelate`] turns the join into a plain one.

use std::sync::Arc;

use catalog::{NamedRelation, Object, ObjectKind};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Column, JoinType, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan, SubqueryAlias, TableScanBuilder, TableSource, lit};
use repr::{PgError, RelationSchema, SqlState, SqlType};
use sqlparser::ast::{self, JoinConstraint, JoinOperator, TableFactor};
use sqlparser::tokenizer::Span;

use super::Binder;
use super::build::{case, columns_in, conjuncts, equality, extend, internal, join, one_row, replace};
use super::decorrelate::{has_outer, reads_only};
use super::expr::Clause;
use super::query::{Output, OutputColumn};
use super::scope::{Env, Scope, ScopeColumn, ScopeRelation, VisibleColumn, fold};
use super::temporal_join::{self, versioned};
use crate::cast::{CastContext, cast, common_type};
use crate::operators::{equality_keys, resolve_operator};
use crate::parse::asof::match_of;
use crate::typed::TypedExpr;

/// A relation's columns, for plans. No filter is taken over by a scan, so that whoever supplies the rows need not know of
/// filters: they stay nodes of the plan.
#[derive(Debug)]
struct RelationSource(SchemaRef);

impl TableSource for RelationSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }
}

/// A plan and the names for its columns.
pub(crate) type Item = (LogicalPlan, Scope);

impl Binder<'_> {
    /// Binds a FROM clause; without one, a single row without columns.
    pub(crate) fn bind_from(&self, from: &[ast::TableWithJoins], env: &Env) -> Result<Item, PgError> {
        let mut item: Item = (one_row(), Scope::default());
        for (index, tables) in from.iter().enumerate() {
            let next = self.bind_joins(tables, &item.1, env)?;
            item = if index == 0 { next } else { self.join_items(item, next, JoinType::Inner, Vec::new())? };
        }
        Ok(item)
    }

    /// One item of the comma list: a table and the joins after it. `before` holds the names of the items to its left.
    fn bind_joins(&self, tables: &ast::TableWithJoins, before: &Scope, env: &Env) -> Result<Item, PgError> {
        let mut item = self.bind_factor(&tables.relation, before, env)?;
        for clause in &tables.joins {
            if clause.global {
                return Err(PgError::unsupported("GLOBAL JOIN"));
            }
            let visible = before.clone().join(item.1.clone())?;
            if versioned(&clause.relation).is_some() {
                item = self.temporal_join(item, &clause.relation, &clause.join_operator, env)?;
                continue;
            }
            let next = self.bind_factor(&clause.relation, &visible, env)?;
            item = self.bind_join(item, next, &clause.join_operator, env)?;
        }
        Ok(item)
    }

    fn bind_join(&self, left: Item, right: Item, operator: &JoinOperator, env: &Env) -> Result<Item, PgError> {
        let (join_type, constraint) = match operator {
            JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => (JoinType::Inner, constraint),
            JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => (JoinType::Left, constraint),
            JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => (JoinType::Right, constraint),
            JoinOperator::FullOuter(constraint) => (JoinType::Full, constraint),
            JoinOperator::CrossJoin(JoinConstraint::None) => {
                return self.join_items(left, right, JoinType::Inner, Vec::new());
            }
            JoinOperator::AsOf { match_condition, constraint } => {
                return self.asof_join(left, right, match_of(match_condition), constraint, env);
            }
            _ => return Err(PgError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"JOIN\"")),
        };
        match constraint {
            JoinConstraint::On(condition) => self.join_on(left, right, join_type, condition, env),
            JoinConstraint::Using(names) => {
                let mut columns = Vec::new();
                for name in names {
                    match name.0.as_slice() {
                        [ast::ObjectNamePart::Identifier(ident)] => columns.push((fold(ident), ident.span)),
                        _ => return Err(PgError::new(SqlState::SYNTAX_ERROR, "USING takes plain column names")),
                    }
                }
                self.join_using(left, right, join_type, columns)
            }
            JoinConstraint::Natural => {
                let right_names: Vec<&str> =
                    right.1.visible.iter().map(|visible| visible.column.name.as_str()).collect();
                let mut columns: Vec<(String, Span)> = Vec::new();
                for visible in &left.1.visible {
                    let name = &visible.column.name;
                    if right_names.contains(&name.as_str()) && !columns.iter().any(|(known, _)| known == name) {
                        columns.push((name.clone(), Span::empty()));
                    }
                }
                self.join_using(left, right, join_type, columns)
            }
            JoinConstraint::None => Err(PgError::new(SqlState::SYNTAX_ERROR, "a join needs ON or USING")),
        }
    }

    fn join_on(
        &self,
        left: Item,
        right: Item,
        join_type: JoinType,
        condition: &ast::Expr,
        env: &Env,
    ) -> Result<Item, PgError> {
        let scope = left.1.clone().join(right.1.clone())?;
        let condition_env = Env::Scope { scope: &scope, parent: env };
        let typed = self.bind_expr(condition, &condition_env, Clause::JoinOn)?;
        let condition = self.boolean(typed, "JOIN/ON")?;
        if !self.holds_subquery(&condition) {
            return self.join_items(left, right, join_type, conjuncts(condition));
        }
        if join_type == JoinType::Inner {
            let (plan, scope) = self.join_items(left, right, JoinType::Inner, Vec::new())?;
            return Ok((self.filter_rows(plan, condition)?, scope));
        }
        // The condition decides what matches, not what stays, so a subquery is computed on the side that it reads.
        let (mut left, mut right) = (left, right);
        let mut conditions = conjuncts(condition);
        for condition in &mut conditions {
            if !self.holds_subquery(condition) {
                continue;
            }
            for subquery in columns_in(condition) {
                let column = Expr::Column(subquery);
                let mut subquery = column.clone();
                if !self.holds_subquery(&subquery) {
                    continue;
                }
                let read = self.columns_read(&subquery);
                let of_scope = |scope: &Scope| read.iter().any(|column| scope.find(column).is_some());
                if !of_scope(&left.1) {
                    right.0 = self.resolve_subqueries(right.0, &mut [&mut subquery])?;
                } else if !of_scope(&right.1) {
                    left.0 = self.resolve_subqueries(left.0, &mut [&mut subquery])?;
                } else {
                    return Err(PgError::unsupported(
                        "a subquery in the ON condition of an outer join that reads both of its sides",
                    ));
                }
                // It is a column of that side by now.
                *condition = replace(std::mem::take(condition), |expr| (*expr == column).then(|| subquery.clone()))?;
            }
        }
        self.join_items(left, right, join_type, conditions)
    }

    /// Joins two items on conditions over their columns. Outer references of the right item to the left one are resolved.
    pub(crate) fn join_items(
        &self,
        left: Item,
        right: Item,
        join_type: JoinType,
        conditions: Vec<Expr>,
    ) -> Result<Item, PgError> {
        let (left_plan, mut left_scope) = left;
        let (right_plan, mut right_scope) = right;
        if matches!(join_type, JoinType::Right | JoinType::Full) {
            left_scope.make_nullable();
        }
        if matches!(join_type, JoinType::Left | JoinType::Full) {
            right_scope.make_nullable();
        }
        let scope = left_scope.join(right_scope)?;
        if has_outer(&right_plan, &left_plan) {
            if !matches!(join_type, JoinType::Inner | JoinType::Left) {
                return Err(PgError::new(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    "invalid reference to FROM-clause entry: the combining JOIN type must be INNER or LEFT for a LATERAL reference",
                ));
            }
            let plan = self.lateral_join(left_plan, right_plan, join_type, conditions)?;
            return Ok((plan, scope));
        }
        let mut on = Vec::new();
        let mut rest = Vec::new();
        for condition in conditions {
            let keys = equality(&condition).and_then(|(a, b)| {
                let pair = |l: &Expr, r: &Expr| (l.clone(), r.clone());
                if reads_only(a, &left_plan) && reads_only(b, &right_plan) {
                    Some(pair(a, b))
                } else if reads_only(b, &left_plan) && reads_only(a, &right_plan) {
                    Some(pair(b, a))
                } else {
                    None
                }
            });
            match keys {
                Some(keys) => on.push(keys),
                None => rest.push(condition),
            }
        }
        if join_type == JoinType::Inner && on.is_empty() && rest.is_empty() {
            return Ok((super::build::cross(left_plan, right_plan)?, scope));
        }
        Ok((join(left_plan, right_plan, join_type, on, Vec::new(), rest)?, scope))
    }

    /// JOIN USING and NATURAL: one visible column for each pair, then the rest of the left side and of the right.
    fn join_using(
        &self,
        left: Item,
        right: Item,
        join_type: JoinType,
        names: Vec<(String, Span)>,
    ) -> Result<Item, PgError> {
        let mut conditions = Vec::new();
        let mut merged = Vec::new();
        for (name, span) in &names {
            let l = self.using_column(&left.1, name, "left", *span)?;
            let r = self.using_column(&right.1, name, "right", *span)?;
            let sql_type = common_type("JOIN/USING", &[&l.typed, &r.typed])?;
            let as_common = |typed: &TypedExpr| {
                if typed.sql_type == sql_type {
                    Ok(typed.clone())
                } else {
                    cast(typed.clone(), &sql_type, -1, CastContext::Implicit)
                }
            };
            let (lv, rv) = (as_common(&l.typed)?, as_common(&r.typed)?);
            // Asked for its error only: whether the type has equality at all.
            resolve_operator("=", Some(lv.clone()), rv.clone())?;
            let (left_key, right_key) = equality_keys(lv.clone(), rv.clone());
            conditions.push(left_key.eq(right_key));
            let expr = match join_type {
                JoinType::Right => rv.expr.clone(),
                JoinType::Full => case(vec![(lv.expr.clone().is_not_null(), lv.expr.clone())], rv.expr.clone()),
                _ => lv.expr.clone(),
            };
            let typmod = if lv.typmod == rv.typmod { lv.typmod } else { -1 };
            let nullable = match join_type {
                JoinType::Right => r.nullable,
                JoinType::Full => l.nullable || r.nullable,
                _ => l.nullable,
            };
            merged.push((name.clone(), TypedExpr { expr, sql_type, typmod }, nullable));
        }
        let (plan, mut scope) = self.join_items(left, right, join_type, conditions)?;
        let mut computed = Vec::new();
        let mut visible = Vec::new();
        for (name, mut typed, nullable) in merged {
            if !matches!(typed.expr, Expr::Column(_)) {
                let (expr, column) = self.named(typed.expr);
                computed.push(expr);
                typed.expr = Expr::Column(column);
            }
            visible.push(VisibleColumn { column: ScopeColumn { name, typed, nullable }, relation: None });
        }
        let merged_name = |visible: &VisibleColumn| names.iter().any(|(name, _)| *name == visible.column.name);
        visible.extend(scope.visible.drain(..).filter(|column| !merged_name(column)));
        scope.visible = visible;
        Ok((extend(plan, computed)?, scope))
    }

    fn using_column(&self, scope: &Scope, name: &str, side: &str, span: Span) -> Result<ScopeColumn, PgError> {
        let mut matches = scope.visible.iter().filter(|visible| visible.column.name == name);
        match (matches.next(), matches.next()) {
            (Some(found), None) => Ok(found.column.clone()),
            (None, _) => {
                let message = format!("column \"{name}\" specified in USING clause does not exist in {side} table");
                Err(self.at(PgError::new(SqlState::UNDEFINED_COLUMN, message), span))
            }
            (Some(_), Some(_)) => {
                let message = format!("common column name \"{name}\" appears more than once in {side} table");
                Err(self.at(PgError::new(SqlState::AMBIGUOUS_COLUMN, message), span))
            }
        }
    }

    pub(super) fn bind_factor(&self, factor: &TableFactor, before: &Scope, env: &Env) -> Result<Item, PgError> {
        let lateral = Env::Scope { scope: before, parent: env };
        // A function's arguments are an expression of no relation: even the items before it are outside.
        let nothing = Scope::default();
        let outside = Env::Scope { scope: &nothing, parent: &lateral };
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                let extra = !with_hints.is_empty() || !partitions.is_empty() || !index_hints.is_empty();
                if let Some(version) = version {
                    return Err(temporal_join::refused(version));
                }
                if json_path.is_some() || extra {
                    return Err(PgError::unsupported(format!("this form of \"{name}\" in FROM")));
                }
                if sample.is_some() {
                    return Err(PgError::unsupported("TABLESAMPLE"));
                }
                match args {
                    Some(args) => {
                        self.bind_table_function(name, &args.args, *with_ordinality, alias.as_ref(), &outside)
                    }
                    None => self.bind_relation(name, alias.as_ref(), env),
                }
            }
            TableFactor::Function { name, args, with_ordinality, alias, .. } => {
                self.bind_table_function(name, args, *with_ordinality, alias.as_ref(), &outside)
            }
            TableFactor::UNNEST { alias, array_exprs, with_offset, with_ordinality, .. } => {
                if *with_offset {
                    return Err(PgError::unsupported("WITH OFFSET"));
                }
                self.bind_unnest(array_exprs, *with_ordinality, alias.as_ref(), &outside)
            }
            TableFactor::Derived { lateral: is_lateral, subquery, alias, sample } => {
                if sample.is_some() {
                    return Err(PgError::unsupported("TABLESAMPLE"));
                }
                let hidden = Env::Hidden { scope: before, parent: env };
                let output = self.bind_query(subquery, if *is_lateral { &lateral } else { &hidden }, false)?;
                let Some(alias) = alias else {
                    return Err(PgError::new(SqlState::SYNTAX_ERROR, "subquery in FROM must have an alias")
                        .with_hint("For example, FROM (SELECT ...) [AS] foo."));
                };
                self.aliased(output, alias)
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                let (plan, scope) = self.bind_joins(table_with_joins, before, env)?;
                match alias {
                    None => Ok((plan, scope)),
                    Some(alias) => self.aliased(super::query::star_output(plan, &scope), alias),
                }
            }
            TableFactor::TableFunction { .. } => Err(PgError::unsupported("TABLE(..) around this function")),
            TableFactor::JsonTable { .. } => Err(PgError::unsupported("JSON_TABLE")),
            TableFactor::XmlTable { .. } => Err(PgError::unsupported("XMLTABLE")),
            other => Err(PgError::unsupported(format!("\"{other}\" in FROM"))),
        }
    }

    /// An output as a relation called `alias`.
    pub(crate) fn aliased(&self, mut output: Output, alias: &ast::TableAlias) -> Result<Item, PgError> {
        self.rename_columns(&mut output, alias)?;
        let scope = output.scope(&fold(&alias.name));
        Ok((output.plan, scope))
    }

    /// A relation by its name: a WITH query, or an object of the catalog. Errors: `42P01`, `42809`.
    pub(crate) fn bind_relation(
        &self,
        name: &ast::ObjectName,
        alias: Option<&ast::TableAlias>,
        env: &Env,
    ) -> Result<Item, PgError> {
        let mut parts = Vec::new();
        for part in &name.0 {
            match part {
                ast::ObjectNamePart::Identifier(ident) => parts.push(ident),
                ast::ObjectNamePart::Function(_) => return Err(PgError::unsupported(format!("the name {name}"))),
            }
        }
        let (schema, ident) = match parts.as_slice() {
            [ident] => (None, *ident),
            [schema, ident] | [_, schema, ident] => (Some(fold(schema)), *ident),
            _ => {
                let message = format!("improper relation name (too many dotted names): {name}");
                return Err(PgError::new(SqlState::SYNTAX_ERROR, message));
            }
        };
        let relation = fold(ident);
        if schema.is_none()
            && let Some(mut output) = self.find_cte(&relation, env)?
        {
            if let Some(alias) = alias {
                return self.aliased(output, alias);
            }
            output.columns.iter_mut().for_each(|column| column.constant = None);
            let scope = output.scope(&relation);
            return Ok((output.plan, scope));
        }
        let (mut plan, mut scope) = self.bind_object(schema.as_deref(), &relation, name, parts[0].span)?;
        if let Some(alias) = alias {
            let columns = std::mem::take(&mut scope.relations[0].columns);
            let (key, oid) = (scope.relations[0].key.take(), scope.relations[0].oid);
            let mut output = Output { plan, columns: columns.into_iter().map(output_column).collect() };
            self.rename_columns(&mut output, alias)?;
            plan = output.plan;
            let columns = output.columns.into_iter().map(scope_column).collect();
            scope = Scope::of_relation(&fold(&alias.name), None, columns, key).with_oid(oid);
        }
        Ok((plan, scope))
    }

    fn bind_object(
        &self,
        schema: Option<&str>,
        relation: &str,
        name: &ast::ObjectName,
        span: Span,
    ) -> Result<Item, PgError> {
        let Some((object, named)) = self.relation(schema, relation) else {
            let message = format!("relation \"{}\" does not exist", name_text(name));
            return Err(self.at(PgError::new(SqlState::UNDEFINED_TABLE, message), span));
        };
        self.relations.borrow_mut().insert(object.id);
        match &object.kind {
            ObjectKind::View { schema: view_schema, query } => {
                let known = self.views.borrow().get(&object.id).cloned();
                let output = match known {
                    Some(output) => output,
                    None => {
                        let output = self.bind_view(object, query)?;
                        self.views.borrow_mut().insert(object.id, output.clone());
                        output
                    }
                };
                let mut output = self.renamed(output)?;
                for (column, named) in output.columns.iter_mut().zip(&view_schema.columns) {
                    column.name = named.name.clone();
                }
                let columns = output.columns.into_iter().map(scope_column).collect();
                let columns = as_named(object, named.as_ref(), columns, &mut None)?;
                Ok((output.plan, Scope::of_relation(relation, Some(object.schema.clone()), columns, None)))
            }
            ObjectKind::Index { .. } => {
                let message = format!("cannot open relation \"{relation}\"");
                Err(self.at(
                    PgError::new(SqlState::WRONG_OBJECT_TYPE, message)
                        .with_detail("This operation is not supported for indexes."),
                    span,
                ))
            }
            ObjectKind::Connection { .. } => {
                let message = format!("\"{relation}\" is a connection, not a relation");
                Err(self.at(PgError::new(SqlState::WRONG_OBJECT_TYPE, message), span))
            }
            _ => match object.relation_schema() {
                Some(columns) => self.scan(object, columns, relation, named.as_ref()),
                None => Err(PgError::internal(format!("\"{relation}\" has no columns"))),
            },
        }
    }

    fn bind_view(&self, view: &Arc<Object>, text: &str) -> Result<Output, PgError> {
        if self.view_depth.get() >= 100 {
            return Err(PgError::new(SqlState::STATEMENT_TOO_COMPLEX, "views are nested too deeply"));
        }
        let query = crate::parse::parse_query(text)?;
        self.view_depth.set(self.view_depth.get() + 1);
        self.meanings.borrow_mut().push(Arc::clone(view));
        let output = self.bind_query(&query, &Env::Root, false);
        self.meanings.borrow_mut().pop();
        self.view_depth.set(self.view_depth.get() - 1);
        output
    }

    fn scan(
        &self,
        object: &Object,
        columns: &RelationSchema,
        relation: &str,
        named: Option<&NamedRelation>,
    ) -> Result<Item, PgError> {
        let alias = TableReference::bare(self.fresh("t"));
        let source = Arc::new(RelationSource(columns.arrow()));
        let scan =
            TableScanBuilder::new(TableReference::bare(object.id.to_string()), source).build().map_err(internal)?;
        let plan = SubqueryAlias::try_new(Arc::new(LogicalPlan::TableScan(scan)), alias.clone()).map_err(internal)?;
        let columns_of_scope = columns
            .columns
            .iter()
            .map(|column| ScopeColumn {
                name: column.name.clone(),
                typed: TypedExpr {
                    expr: Expr::Column(Column::new(Some(alias.clone()), &column.name)),
                    sql_type: column.sql_type.clone(),
                    typmod: column.typmod,
                },
                nullable: column.nullable,
            })
            .collect();
        let mut key = columns.primary_key.clone();
        let columns_of_scope = as_named(object, named, columns_of_scope, &mut key)?;
        let scope = Scope::of_relation(relation, Some(object.schema.clone()), columns_of_scope, key);
        let scope = scope.with_oid(Some(object.oid));
        Ok((LogicalPlan::SubqueryAlias(plan), scope))
    }

    /// `typed` as a condition of `clause`. Errors: `42804`.
    pub(crate) fn boolean(&self, typed: TypedExpr, clause: &str) -> Result<Expr, PgError> {
        match typed.sql_type {
            SqlType::Bool => Ok(typed.expr),
            SqlType::Unknown => cast(typed, &SqlType::Bool, -1, CastContext::Implicit).map(|typed| typed.expr),
            other => Err(PgError::new(
                SqlState::DATATYPE_MISMATCH,
                format!("argument of {clause} must be type boolean, not type {}", other.sql_name()),
            )),
        }
    }

    /// An inner join whose right side may read the left side, or the same as a left join.
    fn lateral_join(
        &self,
        left: LogicalPlan,
        right: LogicalPlan,
        join_type: JoinType,
        conditions: Vec<Expr>,
    ) -> Result<LogicalPlan, PgError> {
        let correlated = self.correlate(&left, right, true)?;
        let mut filters = correlated.filters;
        filters.extend(conditions.into_iter().filter(|condition| *condition != lit(true)));
        join(left, correlated.plan, join_type, correlated.on, correlated.null_on, filters)
    }
}

/// The columns of a relation as they were named when a view over it was made, and the key among them.
///
/// Errors: 42703 if one of them is gone.
fn as_named(
    object: &Object,
    named: Option<&NamedRelation>,
    columns: Vec<ScopeColumn>,
    key: &mut Option<Vec<usize>>,
) -> Result<Vec<ScopeColumn>, PgError> {
    let Some(named) = named else { return Ok(columns) };
    let mut kept = Vec::with_capacity(named.columns.len());
    let mut places = Vec::with_capacity(named.columns.len());
    for (number, name) in &named.columns {
        let index = object.column_at(*number).ok_or_else(|| {
            let message = format!("column \"{name}\" of relation \"{}\" does not exist", object.name);
            PgError::new(SqlState::UNDEFINED_COLUMN, message)
        })?;
        kept.push(ScopeColumn { name: name.clone(), ..columns[index].clone() });
        places.push(index);
    }
    *key = key
        .take()
        .and_then(|key| key.into_iter().map(|column| places.iter().position(|place| *place == column)).collect());
    Ok(kept)
}

/// `s.t` as messages show it.
pub(crate) fn name_text(name: &ast::ObjectName) -> String {
    let parts: Vec<String> = name
        .0
        .iter()
        .map(|part| match part {
            ast::ObjectNamePart::Identifier(ident) => fold(ident),
            other => other.to_string(),
        })
        .collect();
    parts.join(".")
}

pub(crate) fn scope_column(column: OutputColumn) -> ScopeColumn {
    ScopeColumn { name: column.name, typed: column.typed, nullable: column.nullable }
}

fn output_column(column: ScopeColumn) -> OutputColumn {
    OutputColumn { name: column.name, typed: column.typed, nullable: column.nullable, constant: None }
}

impl ScopeRelation {
    /// Whether its primary key is among `columns`, so that they determine every other column of a row.
    pub(crate) fn key_within(&self, columns: &[Expr]) -> bool {
        let Some(key) = &self.key else { return false };
        key.iter().all(|index| columns.contains(&self.columns[*index].typed.expr))
    }
}
