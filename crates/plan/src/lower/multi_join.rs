//! Inner joins of three relations and more: their order, and whether they are joined by deltas.
//!
//! The joins of a plan that lie next to each other are taken as one: relations, classes of columns that are equal, and
//! further conditions. So the order in the query's text does not matter, and `a.x = b.x and b.x = c.x` joins a with c too.
//!
//! ```text
//! linear   ((A >< B) >< C) >< D           each join arranges what the one before it made
//! delta    dA >< B >< C >< D              each relation's changes look up the others, which are arranged
//!        + dB >< A >< C >< D              by what they are looked up by; nothing else is kept
//!        + ..
//! ```
//!
//! A relation joins next if it is equal to something that is there, best by a key of its own (then no row becomes
//! several), best where an arrangement by that exists already (ADR 16). A join is by deltas where that needs no more new
//! arrangements than the linear one: those of relations can be shared with other views, what joins have made cannot.
//! Of rows that are there at the start, all are found on the last path; on the others only what changes after it.

use std::collections::{BTreeSet, HashSet};

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::NullEquality;
use datafusion::logical_expr::{BinaryExpr, Expr, Join, JoinType, LogicalPlan, Operator as Comparison};
use repr::PgError;

use super::Lowering;
use super::join::{exported_columns, of_one_type};
use crate::clock::reads_clock;
use crate::dataflow_plan::{NodeId, Operator, column, positional_schema};
use crate::expression::{
    all_columns, conjuncts, never_fails, position, positions, resolve, resolve_condition, substitute, type_of,
};
use crate::graph::Graph;
use crate::share::{self, Fingerprint, SharedArrangement};

/// Most relations that are joined by deltas: `n` of them take `n * (n - 1)` steps.
const DELTA_RELATIONS_MAX: usize = 8;

/// What joins next to each other ask. Positions are of the columns of all relations side by side.
#[derive(Default)]
struct Joins<'p> {
    relations: Vec<&'p LogicalPlan>,
    /// How many columns they have together.
    width: usize,
    equalities: Vec<(Expr, Expr)>,
    conditions: Vec<Expr>,
}

/// A relation that is joined.
struct Relation {
    /// Its rows, with what is computed to be joined by behind its own columns.
    rows: NodeId,
    /// Where its own columns begin among those of all relations, and how many they are.
    start: usize,
    width: usize,
    /// The keys, over `rows`, by which it is arranged already.
    arranged: Vec<Vec<usize>>,
}

/// The relations, and what must hold of their rows together.
struct MultiJoin {
    relations: Vec<Relation>,
    /// Columns that are equal to each other: at most one a relation, over its `rows`.
    classes: Vec<Vec<Option<usize>>>,
    /// Over all relations' columns side by side.
    conditions: Vec<Expr>,
}

/// How a relation is joined to others.
struct Step {
    relation: usize,
    /// Class and column of what is looked up; none at all is a cross join.
    key: Vec<(usize, usize)>,
    /// Classes that hold as conditions.
    rest: Vec<usize>,
    /// Whether it has at most one row to look up.
    is_unique: bool,
    /// Whether it is arranged so already.
    is_arranged: bool,
}

/// Rows under construction.
struct Joined {
    rows: NodeId,
    /// The relations in it, and where the columns of each begin.
    starts: Vec<Option<usize>>,
}

impl Lowering<'_> {
    /// The inner join of three or more relations that `join` is the top of; None where it is something else.
    pub(super) fn multi_join(&mut self, join: &Join) -> Result<Option<NodeId>, PgError> {
        if self.recursion.is_some() || !is_plain(join) {
            return Ok(None);
        }
        let mut joins = Joins::default();
        let columns = joins.gather_join(join)?;
        if joins.relations.len() < 3 || joins.conditions.iter().any(equates_null) {
            return Ok(None);
        }
        let Joins { relations, equalities, conditions, .. } = joins;
        let rows = relations.iter().map(|plan| self.plan(plan)).collect::<Result<Vec<_>, _>>()?;
        let mut parts = Parts::new(&self.graph, rows);
        parts.sort(equalities, conditions)?;
        let clock = std::mem::take(&mut parts.clock);
        let join = parts.build(&mut self.graph, self.arrangements)?;
        let linear = join.linear(&self.graph);
        let paths: Vec<Vec<Step>> = (0..join.relations.len()).map(|start| join.order(&self.graph, start)).collect();
        let node = match join.is_better_by_deltas(&self.graph, &linear, &paths) {
            true => join.by_deltas(&mut self.graph, &paths)?,
            false => join.in_order(&mut self.graph, linear.0, &linear.1)?,
        };
        let node = self.graph.filter(node, clock)?;
        self.graph.project(node, &columns).map(Some)
    }
}

/// An inner join whose keys are equal as `=` has it.
fn is_plain(join: &Join) -> bool {
    join.join_type == JoinType::Inner && !join.null_aware && join.null_equality == NullEquality::NullEqualsNothing
}

/// Whether `plan` is a join but for names, conditions and the choice of columns.
fn leads_to_join(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Join(join) => is_plain(join),
        LogicalPlan::SubqueryAlias(alias) => leads_to_join(&alias.input),
        LogicalPlan::Filter(filter) => leads_to_join(&filter.input),
        LogicalPlan::Projection(projection) => {
            let is_column = |expr: &Expr| matches!(expr.clone().unalias_nested().data, Expr::Column(_));
            projection.expr.iter().all(is_column) && leads_to_join(&projection.input)
        }
        _ => false,
    }
}

/// `IS NOT DISTINCT FROM`, which is a key of another kind.
fn equates_null(condition: &Expr) -> bool {
    matches!(condition, Expr::BinaryExpr(BinaryExpr { op: Comparison::IsNotDistinctFrom, .. }))
}

impl<'p> Joins<'p> {
    /// Takes `plan` in; where each of its columns is.
    fn gather(&mut self, plan: &'p LogicalPlan) -> Result<Vec<usize>, PgError> {
        match plan {
            plan if !leads_to_join(plan) => {
                let start = self.width;
                self.width += plan.schema().fields().len();
                self.relations.push(plan);
                Ok((start..self.width).collect())
            }
            LogicalPlan::Join(join) => self.gather_join(join),
            LogicalPlan::SubqueryAlias(alias) => self.gather(&alias.input),
            LogicalPlan::Filter(filter) => {
                let columns = self.gather(&filter.input)?;
                let condition = resolve_condition(&filter.predicate, &[filter.input.schema()])?;
                self.conditions.extend(conjuncts(at(condition, &columns)?));
                Ok(columns)
            }
            LogicalPlan::Projection(projection) => {
                let columns = self.gather(&projection.input)?;
                let schema = projection.input.schema();
                let picked = projection.expr.iter().map(|expr| {
                    let picked = position(&resolve(expr, &[schema])?).map(|index| columns[index]);
                    picked.ok_or_else(|| PgError::internal("a projection of columns has something else"))
                });
                picked.collect()
            }
            other => Err(PgError::internal(format!("{} leads to no join", other.display()))),
        }
    }

    fn gather_join(&mut self, join: &'p Join) -> Result<Vec<usize>, PgError> {
        let left = self.gather(&join.left)?;
        let right = self.gather(&join.right)?;
        for (left_key, right_key) in &join.on {
            let left_key = at(resolve(left_key, &[join.left.schema()])?, &left)?;
            let right_key = at(resolve(right_key, &[join.right.schema()])?, &right)?;
            self.equalities.push((left_key, right_key));
        }
        let columns = [left, right].concat();
        if let Some(filter) = &join.filter {
            let condition = resolve_condition(filter, &[join.left.schema(), join.right.schema()])?;
            self.conditions.extend(conjuncts(at(condition, &columns)?));
        }
        Ok(columns)
    }
}

/// `expr` over columns that are at `columns`.
fn at(expr: Expr, columns: &[usize]) -> Result<Expr, PgError> {
    substitute(expr, &|index| column(columns[index]))
}

/// The conditions by what they are about, while relations have their own columns only.
struct Parts {
    rows: Vec<NodeId>,
    starts: Vec<usize>,
    /// All relations' columns side by side.
    schema: SchemaRef,
    /// Of one relation alone, over its columns.
    own: Vec<Vec<Expr>>,
    /// Expressions that are equal, each over one relation's columns.
    classes: Vec<Vec<(usize, Expr)>>,
    /// Of several relations, or none.
    conditions: Vec<Expr>,
    /// Of several relations and the clock.
    clock: Vec<Expr>,
}

impl Parts {
    fn new(graph: &Graph, rows: Vec<NodeId>) -> Parts {
        let ends = rows.iter().scan(0, |end, node| {
            *end += graph.width(*node);
            Some(*end)
        });
        let starts = std::iter::once(0).chain(ends).take(rows.len()).collect();
        let own = vec![Vec::new(); rows.len()];
        let schema = positional_schema(rows.iter().flat_map(|node| graph.types(*node)));
        Parts { rows, starts, schema, own, classes: Vec::new(), conditions: Vec::new(), clock: Vec::new() }
    }

    /// The relation that has the column at `index`.
    fn relation_of(&self, index: usize) -> usize {
        self.starts.partition_point(|start| *start <= index) - 1
    }

    fn relations_of(&self, expr: &Expr) -> BTreeSet<usize> {
        positions(expr).into_iter().map(|index| self.relation_of(index)).collect()
    }

    /// The only relation that `expr` reads, and `expr` over its columns.
    fn local(&self, expr: &Expr) -> Result<Option<(usize, Expr)>, PgError> {
        let mut relations = self.relations_of(expr).into_iter();
        let (Some(relation), None) = (relations.next(), relations.next()) else { return Ok(None) };
        let start = self.starts[relation];
        Ok(Some((relation, substitute(expr.clone(), &|index| column(index - start))?)))
    }

    fn sort(&mut self, equalities: Vec<(Expr, Expr)>, conditions: Vec<Expr>) -> Result<(), PgError> {
        for (left, right) in equalities {
            // Keys of a join may still have different types, which a condition never has.
            let types = (self.type_of(&left)?, self.type_of(&right)?);
            let (left, right) = of_one_type(left, right, types)?;
            self.equate(left, right)?;
        }
        for condition in conditions {
            match condition {
                Expr::BinaryExpr(BinaryExpr { left, op: Comparison::Eq, right })
                    if !reads_clock(&left) && !reads_clock(&right) =>
                {
                    self.equate(*left, *right)?
                }
                condition => self.restrict(condition)?,
            }
        }
        Ok(())
    }

    /// A condition that is no equality of two relations.
    fn restrict(&mut self, condition: Expr) -> Result<(), PgError> {
        match self.local(&condition)? {
            Some((relation, condition)) => self.own[relation].push(condition),
            None if reads_clock(&condition) => self.clock.push(condition),
            None => self.conditions.push(condition),
        }
        Ok(())
    }

    /// `left = right`: members of one class, if they are of two relations and one type.
    fn equate(&mut self, left: Expr, right: Expr) -> Result<(), PgError> {
        let is_of_one_type = self.type_of(&left)? == self.type_of(&right)?;
        match (self.local(&left)?, self.local(&right)?) {
            (Some(left), Some(right)) if left.0 != right.0 && is_of_one_type => {
                self.merge(left, right);
                Ok(())
            }
            _ => self.restrict(equal(left, right)),
        }
    }

    fn type_of(&self, expr: &Expr) -> Result<DataType, PgError> {
        type_of(expr, &self.schema)
    }

    fn merge(&mut self, left: (usize, Expr), right: (usize, Expr)) {
        let mut class = vec![left, right];
        let (merged, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.classes)
            .into_iter()
            .partition(|other| other.iter().any(|member| class[..2].contains(member)));
        for member in merged.into_iter().flatten() {
            if !class.contains(&member) {
                class.push(member);
            }
        }
        self.classes = others;
        self.classes.push(class);
    }

    /// Relations restricted by what is about them alone, with what they are joined by among their columns.
    fn build(mut self, graph: &mut Graph, shared: &[SharedArrangement]) -> Result<MultiJoin, PgError> {
        let mut members: Vec<Vec<Option<Expr>>> = Vec::new();
        for class in std::mem::take(&mut self.classes) {
            let mut of_relation: Vec<Option<Expr>> = vec![None; self.rows.len()];
            for (relation, expr) in class {
                match &of_relation[relation] {
                    Some(first) => self.own[relation].push(equal(first.clone(), expr)),
                    None => of_relation[relation] = Some(expr),
                }
            }
            members.push(of_relation);
        }
        let mut relations = Vec::new();
        let mut classes = vec![vec![None; self.rows.len()]; members.len()];
        for (relation, (node, own)) in self.rows.iter().zip(self.own).enumerate() {
            let width = graph.width(*node);
            let node = graph.filter(*node, own)?;
            let wanted = members.iter().enumerate();
            let wanted: Vec<(usize, Expr)> =
                wanted.filter_map(|(class, of_relation)| Some((class, of_relation[relation].clone()?))).collect();
            let exprs: Vec<Expr> = wanted.iter().map(|(_, expr)| expr.clone()).collect();
            let (rows, columns) = graph.extend(node, &exprs)?;
            for ((class, _), column) in wanted.iter().zip(columns) {
                classes[*class][relation] = Some(column);
            }
            let arranged = arrangements_of(graph, rows, shared);
            relations.push(Relation { rows, start: self.starts[relation], width, arranged });
        }
        Ok(MultiJoin { relations, classes, conditions: self.conditions })
    }
}

fn equal(left: Expr, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), Comparison::Eq, Box::new(right)))
}

/// The keys by which `rows`, columns of a relation, are arranged already: by the relation itself first.
fn arrangements_of(graph: &Graph, rows: NodeId, shared: &[SharedArrangement]) -> Vec<Vec<usize>> {
    let mut keys: Vec<Vec<usize>> = exported_columns(graph, rows).into_iter().collect();
    let Some(origin) = share::origin(graph, rows) else { return keys };
    for arrangement in shared {
        let Ok(held) = arrangement.fingerprint.parse::<Fingerprint>() else { continue };
        let place = |index: &usize| origin.columns.iter().position(|column| column == index);
        if held.relation == origin.relation
            && let Some(key) = held.key.iter().map(place).collect()
        {
            keys.push(key);
        }
    }
    keys
}

impl MultiJoin {
    /// How `relation` joins those that are `bound`.
    fn step(&self, graph: &Graph, bound: &[bool], relation: usize) -> Step {
        let classes = self.classes.iter().enumerate();
        let key: Vec<(usize, usize)> = classes
            .filter(|(_, class)| class.iter().zip(bound).any(|(column, bound)| *bound && column.is_some()))
            .filter_map(|(index, class)| Some((index, class[relation]?)))
            .collect();
        let Relation { rows, arranged, .. } = &self.relations[relation];
        let of_class = |column: &usize| key.iter().find(|(_, other)| other == column).copied();
        let pick = |columns: &Vec<usize>| columns.iter().map(of_class).collect::<Option<Vec<_>>>();
        let columns: Vec<usize> = key.iter().map(|(_, column)| *column).collect();
        let is_unique = graph.is_unique(*rows, &columns);
        let exact = arranged.iter().filter(|columns| columns.len() == key.len()).find_map(pick);
        // By a key of its own it may be looked up also where more is equal.
        let unique = || arranged.iter().filter(|columns| graph.is_unique(*rows, columns)).find_map(pick);
        let found = exact.or_else(unique).filter(|found| !found.is_empty());
        let is_arranged = found.is_some();
        let used = found.unwrap_or_else(|| {
            let mut key = key.clone();
            key.sort_by_key(|(_, column)| *column);
            key
        });
        let rest = key.iter().filter(|part| !used.contains(part)).map(|(class, _)| *class).collect();
        Step { relation, key: used, rest, is_unique, is_arranged }
    }

    /// The steps from `start` on, each to the relation that suits best then.
    fn order(&self, graph: &Graph, start: usize) -> Vec<Step> {
        let mut bound = vec![false; self.relations.len()];
        bound[start] = true;
        let mut steps = Vec::new();
        while let Some(step) = (0..bound.len())
            .filter(|relation| !bound[*relation])
            .map(|relation| self.step(graph, &bound, relation))
            .max_by_key(|step| {
                let earlier = std::cmp::Reverse(step.relation);
                (!step.key.is_empty(), step.is_unique, step.is_arranged, earlier)
            })
        {
            bound[step.relation] = true;
            steps.push(step);
        }
        steps
    }

    /// Where to begin with joins one after the other: without cross joins, then with the fewest new arrangements, then
    /// with the fewest that make several rows of one.
    fn linear(&self, graph: &Graph) -> (usize, Vec<Step>) {
        let orders = (0..self.relations.len()).map(|start| (start, self.order(graph, start)));
        let best = orders.min_by_key(|(start, steps)| {
            let crosses = steps.iter().filter(|step| step.key.is_empty()).count();
            let growing = steps.iter().filter(|step| !step.is_unique).count();
            (crosses, self.new_of_linear(*start, steps), growing, *start)
        });
        best.unwrap_or_default()
    }

    /// New arrangements of joins one after the other.
    fn new_of_linear(&self, start: usize, steps: &[Step]) -> usize {
        let first: Vec<usize> = self.first_key(start, steps).into_iter().flatten().collect();
        let of_start = usize::from(!self.relations[start].arranged.contains(&first));
        of_start + self.new_of(steps).len() + steps.len().saturating_sub(1)
    }

    /// What the first step looks up, in the columns of the relation that is there already.
    fn first_key(&self, start: usize, steps: &[Step]) -> Option<Vec<usize>> {
        steps.first()?.key.iter().map(|(class, _)| self.classes[*class][start]).collect()
    }

    /// The new arrangements of relations that steps need.
    fn new_of<'s>(&self, steps: impl IntoIterator<Item = &'s Step>) -> HashSet<(NodeId, Vec<usize>)> {
        let new = steps.into_iter().filter(|step| !step.is_arranged);
        new.map(|step| {
            let key = step.key.iter().map(|(_, column)| *column).collect();
            (self.relations[step.relation].rows, key)
        })
        .collect()
    }

    fn is_better_by_deltas(&self, graph: &Graph, linear: &(usize, Vec<Step>), paths: &[Vec<Step>]) -> bool {
        // What a temporal filter gives for later would wait before each step.
        let waits = self.relations.iter().any(|relation| graph.reads_ahead(relation.rows));
        paths.len() <= DELTA_RELATIONS_MAX
            && !waits
            && paths.iter().flatten().all(|step| !step.key.is_empty())
            && self.new_of(paths.iter().flatten()).len() <= self.new_of_linear(linear.0, &linear.1)
    }

    /// One join after the other.
    fn in_order(&self, graph: &mut Graph, start: usize, steps: &[Step]) -> Result<NodeId, PgError> {
        let mut waiting = self.conditions.clone();
        let mut joined = self.begin(start, self.relations[start].rows);
        for step in steps {
            let (key, filter, columns) = self.take_in(graph, &mut joined, step, &mut waiting)?;
            let left = graph.arrange(joined.rows, key)?;
            let right = self.looked_up(graph, step)?;
            joined.rows = graph.add(Operator::Join { left, right, null_equal: false, filter, columns })?;
        }
        self.finish(graph, &joined, waiting)
    }

    /// The sum of all relations' paths.
    fn by_deltas(&self, graph: &mut Graph, paths: &[Vec<Step>]) -> Result<NodeId, PgError> {
        let growing = |path: &Vec<Step>| path.iter().filter(|step| !step.is_unique).count();
        // All that is there at the start goes along the last: best one on which no row becomes several.
        let last = (0..paths.len()).min_by_key(|start| growing(&paths[*start])).unwrap_or_default();
        let rank = |relation: usize| if relation == last { paths.len() } else { relation };
        // Half-way on a path the rows are no collection, so that rows that fail there could not be told from each other.
        let (early, late): (Vec<Expr>, Vec<Expr>) = self.conditions.iter().cloned().partition(never_fails);
        let mut parts = Vec::new();
        for (start, path) in paths.iter().enumerate() {
            let rows = self.relations[start].rows;
            let rows = if start == last { rows } else { graph.add(Operator::Changes { input: rows })? };
            let mut joined = self.begin(start, rows);
            let mut waiting = early.clone();
            for step in path {
                let (key, filter, columns) = self.take_in(graph, &mut joined, step, &mut waiting)?;
                let arranged = self.looked_up(graph, step)?;
                let before = rank(step.relation) > rank(start);
                let input = joined.rows;
                joined.rows = graph.add(Operator::HalfJoin { input, key, arranged, before, filter, columns })?;
            }
            parts.push(self.finish(graph, &joined, waiting)?);
        }
        let node = graph.union(parts)?;
        self.declare_keys(graph, node, paths);
        graph.filter(node, late)
    }

    /// A relation that meets at most one row of each other keeps its keys; any keys of all together are one.
    fn declare_keys(&self, graph: &mut Graph, node: NodeId, paths: &[Vec<Step>]) {
        let relations = self.relations.iter();
        let keys: Vec<Vec<Vec<usize>>> =
            relations.map(|relation| graph.keys_placed(relation.rows, relation.width, relation.start)).collect();
        for (keys, path) in keys.iter().zip(paths) {
            if path.iter().all(|step| step.is_unique) {
                keys.iter().for_each(|key| graph.declare_key(node, key.clone()));
            }
        }
        let first: Option<Vec<&Vec<usize>>> = keys.iter().map(|keys| keys.first()).collect();
        if let Some(first) = first {
            graph.declare_key(node, first.into_iter().flatten().copied().collect());
        }
    }

    fn begin(&self, relation: usize, rows: NodeId) -> Joined {
        let mut starts = vec![None; self.relations.len()];
        starts[relation] = Some(0);
        Joined { rows, starts }
    }

    /// The relation of `step`, arranged by what is looked up.
    fn looked_up(&self, graph: &mut Graph, step: &Step) -> Result<NodeId, PgError> {
        let key = step.key.iter().map(|(_, column)| *column).collect();
        graph.arrange(self.relations[step.relation].rows, key)
    }

    /// The key on the side of `joined`, the conditions that can be asked from now on, and all columns of both sides. The
    /// caller puts the rows in.
    fn take_in(
        &self,
        graph: &Graph,
        joined: &mut Joined,
        step: &Step,
        waiting: &mut Vec<Expr>,
    ) -> Result<(Vec<usize>, Vec<Expr>, Vec<Expr>), PgError> {
        let offset = graph.width(joined.rows);
        let here = |class: usize| {
            let columns = self.classes[class].iter().zip(&joined.starts);
            let found = columns.into_iter().find_map(|(column, start)| Some((*start)? + (*column)?));
            found.ok_or_else(|| PgError::internal("a join on nothing that is there"))
        };
        let key = step.key.iter().map(|(class, _)| here(*class)).collect::<Result<Vec<_>, _>>()?;
        let mut filter = Vec::new();
        for class in &step.rest {
            let there = self.classes[*class][step.relation].unwrap_or_default();
            filter.push(equal(column(here(*class)?), column(offset + there)));
        }
        joined.starts[step.relation] = Some(offset);
        for condition in std::mem::take(waiting) {
            match self.placed(joined, &condition)? {
                Some(condition) => filter.push(condition),
                None => waiting.push(condition),
            }
        }
        let width = offset + graph.width(self.relations[step.relation].rows);
        Ok((key, filter, all_columns(width)))
    }

    /// `expr` over the rows of `joined`; None while a relation is missing.
    fn placed(&self, joined: &Joined, expr: &Expr) -> Result<Option<Expr>, PgError> {
        let place = |index: usize| {
            let relation = self.relations.partition_point(|relation| relation.start <= index) - 1;
            joined.starts[relation].map(|start| start + index - self.relations[relation].start)
        };
        if positions(expr).into_iter().any(|index| place(index).is_none()) {
            return Ok(None);
        }
        substitute(expr.clone(), &|index| column(place(index).unwrap_or(index))).map(Some)
    }

    /// All relations' own columns, side by side.
    fn finish(&self, graph: &mut Graph, joined: &Joined, waiting: Vec<Expr>) -> Result<NodeId, PgError> {
        debug_assert!(waiting.is_empty(), "every relation is there");
        let mut columns = Vec::new();
        for (relation, start) in self.relations.iter().zip(&joined.starts) {
            let start = start.ok_or_else(|| PgError::internal("a relation was not joined"))?;
            columns.extend(start..start + relation.width);
        }
        graph.project(joined.rows, &columns)
    }
}
