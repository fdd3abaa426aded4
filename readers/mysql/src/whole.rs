//! The catalogue of a source, and the one snapshot of all tables that a whole-database job reads there.

use std::sync::Arc;

use async_trait::async_trait;
use weir_core::{
    Catalog, ConnectorContext, Faults, Hold, LooksInto, ObjectName, Objects, Result, SourceSnapshot, TableDescription,
    TableInfo,
};
use weir_mysql::{MySqlCatalog, QUOTING};

use crate::config::{Consistency, MySqlReaderConfig};
use crate::lock::Locks;
use crate::snapshot::{Common, Site, make, server_key, tables_ahead};

pub(crate) struct SourceCatalog {
    tables: MySqlCatalog,
    consistency: Consistency,
}

impl SourceCatalog {
    pub(crate) fn new(config: &MySqlReaderConfig, context: &ConnectorContext) -> Result<Self, Faults> {
        Ok(Self { tables: config.catalog(context)?, consistency: config.consistency })
    }
}

#[async_trait]
impl Catalog for SourceCatalog {
    async fn tables(&self, pattern: Option<&str>) -> Result<Vec<TableInfo>> {
        self.tables.tables(pattern).await
    }

    async fn objects(&self, looks_into: &LooksInto<'_>) -> Result<Objects> {
        self.tables.objects(looks_into).await
    }

    async fn describe(&self, names: &[ObjectName]) -> Result<Vec<TableDescription>> {
        self.tables.describe(names).await
    }

    async fn look_ahead(&self, tables: &[ObjectName]) -> Result<Option<Hold>> {
        self.tables.look_ahead(tables).await
    }

    /// Begun for all tables at once only where they may have to be locked: without locks the first reader begins it, and the
    /// others join.
    async fn snapshot(&self, tables: &[ObjectName], connections: usize) -> Result<Option<SourceSnapshot>> {
        if self.consistency != Consistency::Snapshot || tables.is_empty() {
            return Ok(None);
        }
        let MySqlCatalog { options, setup, context } = &self.tables;
        let ahead = self.look_ahead(tables).await?;
        let named = |name| weir_sql::database::database_and_table(name, QUOTING);
        let tables: Vec<String> = tables.iter().map(named).collect();
        let name = Common::name(&[server_key(options)], true, setup);
        let common: Arc<Common> = context.shared.find_or_leave(&name, Default::default);
        let mut slot = common.0.lock().await;
        // Another source of the job may be the same server.
        let found = slot.iter().find(|made| made.covers(Some(&tables)) && made.lives()).cloned();
        let made = match found {
            Some(made) => made,
            None => {
                let site = Site { options: options.clone(), tables: Some(tables) };
                // What is left for others must not keep them alive.
                let made = make(vec![site], connections.max(1), Locks::AllButHeld, setup, &context.apart()).await?;
                context.shared.leave(made.id.clone(), made.pools());
                slot.push(made.clone());
                made
            }
        };
        made.look(&[tables_ahead(context, options)], &context.apart()).await?;
        drop(slot);
        let (description, names) = (made.description, [name, made.id]);
        let begun = Begun { context: context.clone(), names, common };
        Ok(Some(SourceSnapshot { description, hold: Box::new((begun, ahead)) }))
    }
}

/// Takes the snapshot away again.
struct Begun {
    context: ConnectorContext,
    names: [String; 2],
    common: Arc<Common>,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.names.iter().for_each(|name| self.context.shared.remove(name));
        // Where the first one was lost, there is another.
        let made = self.common.0.try_lock().map(|mut slot| std::mem::take(&mut *slot)).unwrap_or_default();
        made.iter().for_each(|made| self.context.shared.remove(&made.id));
    }
}
