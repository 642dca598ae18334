//! Reads: the relations of a plan, all at one timestamp, then the plan over them.
//!
//! ```text
//! LogicalPlan -> its scans become ScanSlots (keys where a filter gives some, see `lookup`)
//!             -> one peek for all arranged relations: the last closed time, after every acknowledged write
//!             -> sources from their start up to where they have been read; system relations from a snapshot
//!             -> DataFusion -> RowStream
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array};
use arrow::datatypes::SchemaRef;
use catalog::{Catalog, ObjectKind};
use dataflow::PeekTarget;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use repr::source::SourceDescription;
use repr::{ObjectId, OnError, PgError, SqlState, Timestamp, ViewOptions};
use sql::functions::catalog::attach;

use crate::dataflows::base_relations;
use crate::engine::Shared;
use crate::errors::from_datafusion;
use crate::lookup::{Constraints, constraints, keyed_peek};
use crate::read::{ScanRows, ScanSlot, batch};
use crate::response::{Notice, RowStream, Severity};
use crate::source::SourceScan;
use crate::system::Asker;
use crate::write::{Change, overlay};

/// What a read sees besides the relations, and what it has to say besides the rows.
pub(crate) struct Reading<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) catalog: Arc<Catalog>,
    /// The transaction block's own writes.
    pub(crate) pending: &'a [Change],
    /// What system relations show of the session.
    pub(crate) asker: Asker,
    /// Whether rows that are not on disk yet may be shown (`synchronous_commit = off`).
    pub(crate) unsynced: bool,
    /// The time to read at; the last closed one if none.
    pub(crate) as_of: Option<Timestamp>,
    pub(crate) notices: Vec<Notice>,
}

/// One scan of a plan.
struct Scan {
    slot: Arc<ScanSlot>,
    constraints: Constraints,
}

impl Reading<'_> {
    /// Runs an optimised plan.
    pub(crate) async fn run(&mut self, plan: LogicalPlan, parameters: &[ArrayRef]) -> Result<RowStream, PgError> {
        let plan = crate::read::with_parameters(plan, parameters)?;
        let plan = attach(plan, || self.asker.snapshot(self.shared, &self.catalog, &[])).map_err(from_datafusion)?;
        let (plan, scans) = scans(plan)?;
        if !scans.is_empty() {
            self.fill(&scans).await?;
            if !self.unsynced {
                self.shared.sync_appended().await?;
            }
        }
        let plan = self.shared.evaluator.without_loops(plan).await?;
        self.shared.evaluator.stream(&plan).await
    }

    async fn fill(&mut self, scans: &[Scan]) -> Result<(), PgError> {
        let mut targets = Vec::new();
        let mut peeked = Vec::new();
        let mut snapshot = None;
        let read: Vec<ObjectId> = scans.iter().map(|scan| scan.slot.relation).collect();
        for scan in scans {
            let relation = scan.slot.relation;
            let object = self.catalog.get(relation).ok_or_else(|| gone(relation))?;
            match &object.kind {
                ObjectKind::SystemRelation { .. } => {
                    let system = catalog::system::relation(relation).ok_or_else(|| gone(relation))?;
                    let snapshot =
                        snapshot.get_or_insert_with(|| self.asker.snapshot(self.shared, &self.catalog, &read));
                    let (columns, row_count) = system.columns(snapshot);
                    scan.slot.fill(ScanRows::Batches(vec![batch(&scan.slot.schema, columns, row_count)?]));
                }
                ObjectKind::Sequence(sequence) => {
                    let position = self.shared.sequences.position(&self.shared.storage, object.oid, sequence);
                    let columns: Vec<ArrayRef> = vec![
                        Arc::new(Int64Array::from(vec![position.last_value])),
                        Arc::new(Int64Array::from(vec![0])),
                        Arc::new(BooleanArray::from(vec![position.is_called])),
                    ];
                    scan.slot.fill(ScanRows::Batches(vec![batch(&scan.slot.schema, columns, 1)?]));
                }
                kind => match self.target(scan) {
                    Some(target) => {
                        targets.push(target);
                        peeked.push(scan);
                    }
                    None if self.as_of.is_some() => {
                        let message = format!("AS OF {} \"{}\"", object.kind_name(), object.name);
                        return Err(PgError::unsupported(message)
                            .with_hint("Keep it in a materialized view WITH (RETAIN HISTORY FOR ..)."));
                    }
                    None => match kind {
                        ObjectKind::Source { description } => {
                            let rows = self.source(relation, description.clone(), &scan.slot.schema).await?;
                            scan.slot.fill(rows);
                        }
                        _ => return Err(gone(relation)),
                    },
                },
            }
            self.check_pending(relation)?;
        }
        // Asked first: to find the sources takes a walk through the plans of all views below, and most reads are lookups.
        if self.shared.readers.is_loading() {
            self.shared.readers.loaded(&self.sources_below(&peeked)).await?;
        }
        let answers =
            if targets.is_empty() { Vec::new() } else { self.shared.runtime.peek_at(targets, self.as_of).answers };
        for (scan, answer) in peeked.into_iter().zip(answers) {
            let answer = answer.await.map_err(|_| self.unanswered())??;
            self.note_errors(scan.slot.relation, answer.error_count)?;
            let mut batches = Vec::with_capacity(answer.batches.len());
            for rows in answer.batches {
                batches.push(batch(&scan.slot.schema, rows.columns().to_vec(), rows.num_rows())?);
            }
            let own: Vec<Change> =
                self.pending.iter().filter(|change| change.table == scan.slot.relation).cloned().collect();
            if !own.is_empty() {
                let (_, schema) = crate::write::table(&self.catalog, scan.slot.relation)?;
                batches = overlay(&schema, &scan.slot.schema, batches, &own)?;
            }
            scan.slot.fill(ScanRows::Batches(batches));
        }
        Ok(())
    }

    /// The sources and tables that the relations of `scans` are computed from.
    fn sources_below(&self, scans: &[&Scan]) -> BTreeSet<ObjectId> {
        let dataflows = self.shared.dataflows.read();
        let mut found = BTreeSet::new();
        for scan in scans {
            base_relations(&dataflows, scan.slot.relation, &mut found);
        }
        found
    }

    fn unanswered(&self) -> PgError {
        match self.shared.check_running() {
            Err(stopping) => stopping,
            Ok(()) => PgError::internal("a peek was not answered"),
        }
    }

    /// Where a scan's rows are arranged: by its keys, whole, or nowhere.
    fn target(&self, scan: &Scan) -> Option<PeekTarget> {
        let relation = scan.slot.relation;
        let object = self.catalog.get(relation)?;
        let dataflows = self.shared.dataflows.read();
        if !scan.constraints.is_empty()
            && let Some(schema) = object.relation_schema()
            && let Some((dataflow, keys)) = keyed_peek(&self.catalog, &dataflows, relation, schema, &scan.constraints)
        {
            return Some(PeekTarget { dataflow, keys: Some(keys) });
        }
        if dataflows.get(relation).is_some() {
            return Some(PeekTarget { dataflow: relation, keys: None });
        }
        let index = self.catalog.dependents(relation).into_iter().find(|object| {
            matches!(&object.kind, ObjectKind::Index { on, .. } if *on == relation)
                && dataflows.get(object.id).is_some()
        })?;
        Some(PeekTarget { dataflow: index.id, keys: None })
    }

    async fn source(
        &self,
        id: ObjectId,
        description: SourceDescription,
        schema: &SchemaRef,
    ) -> Result<ScanRows, PgError> {
        let to = if self.shared.readers.is_reading(id) {
            self.shared.readers.loaded(&BTreeSet::from([id])).await?;
            self.shared.runtime.source_positions(id)
        } else {
            let description = description.clone();
            let latest = tokio::task::spawn_blocking(move || connectors::latest(&description)).await;
            latest.map_err(|error| PgError::internal(format!("reading a source failed: {error}")))??
        };
        Ok(ScanRows::Stream(Arc::new(SourceScan { description, schema: Arc::clone(schema), to })))
    }

    /// A view over a table that this block has written would have to be computed anew with the block's own rows.
    fn check_pending(&self, relation: ObjectId) -> Result<(), PgError> {
        if self.pending.is_empty() || self.pending.iter().any(|change| change.table == relation) {
            return Ok(());
        }
        let mut bases = BTreeSet::new();
        base_relations(&self.shared.dataflows.read(), relation, &mut bases);
        if self.pending.iter().any(|change| bases.contains(&change.table)) {
            return Err(PgError::unsupported(
                "reading a materialized view in a transaction block that has written a table below it",
            )
            .with_hint("Commit first."));
        }
        Ok(())
    }

    /// Tells of rows that are not in the answer; an error where the view was made so.
    fn note_errors(&mut self, relation: ObjectId, error_count: usize) -> Result<(), PgError> {
        let Some(object) = self.catalog.get(relation).filter(|_| error_count > 0) else { return Ok(()) };
        if let ObjectKind::MaterializedView { options: ViewOptions { on_error: OnError::Fail, .. }, .. } = object.kind {
            return Err(self.failed_row(object));
        }
        let rows = if error_count == 1 { "row" } else { "rows" };
        let message =
            format!("{} \"{}\" has {error_count} {rows} in tw_catalog.tw_errors", object.kind_name(), object.name);
        self.notices.push(Notice { severity: Severity::Warning, error: PgError::new(SqlState::WARNING, message) });
        Ok(())
    }

    /// Why a view that was made `WITH (ON ERROR = fail)` cannot be read: the row that has failed longest.
    fn failed_row(&self, view: &catalog::Object) -> PgError {
        let mut errors = self.shared.runtime.errors();
        errors.sort_by_key(|(dataflow, _, since, _)| (*dataflow != view.id, *since));
        let title = format!("materialized view \"{}\" has a row that failed", view.name);
        match errors.into_iter().next() {
            Some((_, error, ..)) => PgError::new(error.state, format!("{title}: {}", error.message))
                .with_detail(format!("Failing row: {}.", error.row)),
            // It has been mended since.
            None => PgError::new(SqlState::SERIALIZATION_FAILURE, title),
        }
        .with_hint("tw_catalog.tw_errors lists all of them. The view can be read again when they are mended.")
    }
}

fn gone(relation: ObjectId) -> PgError {
    PgError::new(SqlState::UNDEFINED_TABLE, format!("relation with OID {relation} does not exist"))
}

/// The plan with its scans replaced by slots.
fn scans(plan: LogicalPlan) -> Result<(LogicalPlan, Vec<Scan>), PgError> {
    let mut scans = Vec::new();
    let plan = plan
        .transform_down(|node| {
            if let LogicalPlan::Filter(filter) = &node
                && let Some(scan) = scan_below(&filter.input)
            {
                let found = constraints(&filter.predicate, &scan.source.schema());
                let mut filter = filter.clone();
                let input = Arc::unwrap_or_clone(filter.input);
                filter.input = Arc::new(replace(input, &found, &mut scans)?);
                return Ok(Transformed::new(LogicalPlan::Filter(filter), true, TreeNodeRecursion::Jump));
            }
            match &node {
                LogicalPlan::TableScan(_) => {
                    let node = replace(node, &Constraints::new(), &mut scans)?;
                    Ok(Transformed::new(node, true, TreeNodeRecursion::Jump))
                }
                _ => Ok(Transformed::no(node)),
            }
        })
        .map_err(from_datafusion)?
        .data;
    Ok((plan, scans))
}

/// The scan that is all of `plan` but for a name.
fn scan_below(plan: &LogicalPlan) -> Option<&TableScan> {
    match plan {
        LogicalPlan::TableScan(scan) => Some(scan),
        LogicalPlan::SubqueryAlias(alias) => scan_below(&alias.input),
        _ => None,
    }
}

fn replace(
    plan: LogicalPlan,
    constraints: &Constraints,
    scans: &mut Vec<Scan>,
) -> datafusion::common::Result<LogicalPlan> {
    let replaced = plan.transform_down(|node| match node {
        LogicalPlan::TableScan(mut scan) => {
            // Anything but a relation's id is the rows of a recursive query's step before.
            let Ok(relation) = scan.table_name.table().parse().map(ObjectId) else {
                return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
            };
            let slot = Arc::new(ScanSlot::new(relation, scan.source.schema()));
            scan.source = provider_as_source(Arc::<ScanSlot>::clone(&slot));
            let mut constraints = constraints.clone();
            for filter in &scan.filters {
                merge(&mut constraints, filter, &slot.schema);
            }
            scans.push(Scan { slot, constraints });
            Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(replaced.data)
}

fn merge(constraints_: &mut Constraints, filter: &Expr, schema: &SchemaRef) {
    for (column, values) in constraints(filter, schema) {
        constraints_.entry(column).or_insert(values);
    }
}
