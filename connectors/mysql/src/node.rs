//! One MySQL or MariaDB database as a node of a bridge.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use pontoon_core::{
    Checkpoint, Code, CopyState, Error, LogIdentity, MappedTable, Position, Result, TableName, TableSchema,
    node::{
        Applier, CarriedOver, LeaseAttempt, LogReader, LogStatus, Mark, Node, NodeOptions, PassedOver, Peer, Scan,
        Session, Tables,
    },
    pressure::{Pressure, PressureLimits},
    quarantine::Asked,
    requests::Requests,
    state::{NodeState, Pause, Throttle},
    verified::Verified,
};
use pontoon_tls::Mode;

use crate::{
    catalog,
    connect::{Client, Flavour, Purpose, Target, number, text},
    encode,
    files::{self, Sizes},
    gtids, lease, pause, pressure, quarantine,
    reader::{self, Reader, Role},
    requests,
    scan::TableScan,
    session::ApplySession,
    state, tables, throttle, ties, verified,
};

/// A node: where it is and for which bridge. What a bridge asks again and again goes over one connection, all else over one of its own.
pub struct MysqlNode {
    name: String,
    bridge: String,
    target: Target,
    helper: Mutex<Option<Client>>,
}

impl MysqlNode {
    pub(crate) fn new(options: NodeOptions) -> Result<Arc<MysqlNode>> {
        let target = Target::parse(&options)?;
        Ok(Arc::new(MysqlNode { name: options.name, bridge: options.bridge, target, helper: Mutex::new(None) }))
    }

    /// Where it is.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The node's name.
    pub(crate) fn label(&self) -> &str {
        &self.name
    }

    /// The bridge's name.
    pub(crate) fn bridge(&self) -> &str {
        &self.bridge
    }

    /// Who logs in.
    pub(crate) fn user(&self) -> &str {
        &self.target.user
    }

    /// A connection; errors say which node.
    pub(crate) async fn client(&self, purpose: Purpose) -> Result<Client> {
        self.target.connect(purpose).await
    }

    /// Runs `work` on the helper connection; opens one where it is not there, was lost since or is in use, and closes it after an error. Nobody waits
    /// for another's answer: while a disk is full a server does not tell where its log ends, and tells everything else.
    pub(crate) async fn with_helper<T>(&self, work: impl AsyncFnOnce(&mut Client) -> Result<T> + Send) -> Result<T> {
        let mut client = match self.kept().await {
            Some(client) => client,
            None => self.client(Purpose::Look).await?,
        };
        let outcome = work(&mut client).await?;
        *self.helper() = Some(client);
        Ok(outcome)
    }

    fn helper(&self) -> MutexGuard<'_, Option<Client>> {
        self.helper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The helper connection, if it still answers: the driver does not tell when one has ended meanwhile. It is taken out, so that a call that is
    /// dropped half way leaves none with an answer due.
    async fn kept(&self) -> Option<Client> {
        let mut client = self.helper().take()?;
        client.rows("DO 0").await.is_ok().then_some(client)
    }

    /// A name with the node's default database where it has none.
    pub(crate) fn full_name(&self, name: &TableName) -> TableName {
        let schema = name.schema.clone().or_else(|| self.target.database.as_deref().map(Into::into));
        TableName { schema, name: name.name.clone() }
    }
}

/// Which log a server writes.
pub(crate) async fn identity(client: &mut Client) -> Result<LogIdentity> {
    let (family, variable) = match client.server.flavour {
        Flavour::Mysql => ("mysql", "@@server_uuid"),
        Flavour::Mariadb => ("mariadb", "@@server_uid"),
    };
    match client.scalar(format!("SELECT {variable}")).await {
        Ok(Some(id)) if !id.is_empty() => Ok(LogIdentity(format!("{family}:{id}").into())),
        Ok(_) => Err(Error::new(Code::Protocol, format!("the server tells no {variable}"))),
        Err(error) => Err(error),
    }
}

/// Bytes that can be written before the server takes away by size what is `needed`, where it has such a limit: the oldest files go first, and
/// whole ones. By time it does so too, which no number of bytes tells.
async fn headroom(client: &mut Client, needed: u64) -> Result<Option<u64>> {
    let limits = client
        .rows("SHOW GLOBAL VARIABLES WHERE variable_name IN ('max_binlog_total_size', 'binlog_space_limit')")
        .await?;
    let limit = limits.iter().filter_map(|row| number::<u64>(row, 1)).find(|&limit| limit > 0);
    Ok(limit.map(|limit| limit.saturating_sub(needed)))
}

#[async_trait]
impl Node for MysqlNode {
    fn name(&self) -> &str {
        &self.name
    }

    async fn connect(&self) -> Result<Peer> {
        let mut client = self.client(Purpose::Look).await?;
        let certificate_expiry = match self.target.tls.mode() {
            Mode::Disable => None,
            _ => client.certificate_expiry().await?,
        };
        let statement_bytes_max = Some(client.server.packet_bytes_max as u64);
        Ok(Peer { server: client.server.name(), certificate_expiry, statement_bytes_max })
    }

    async fn identity(&self) -> Result<LogIdentity> {
        identity(&mut self.client(Purpose::Look).await?).await
    }

    async fn carried_over(&self, log: &LogIdentity, places: &[Position]) -> Result<Option<CarriedOver>> {
        gtids::carried_over(self, log, places).await
    }

    async fn list_tables(&self) -> Result<Vec<TableName>> {
        catalog::list_tables(&mut self.client(Purpose::Look).await?).await
    }

    async fn describe(&self, names: &[TableName]) -> Result<Vec<Option<TableSchema>>> {
        let names: Vec<TableName> = names.iter().map(|name| self.full_name(name)).collect();
        let mut client = self.client(Purpose::Look).await?;
        let found = catalog::load(&mut client, &names).await?;
        let mut tables: Vec<Option<TableSchema>> =
            found.into_iter().map(|table| table.map(|table| table.schema())).collect();
        ties::add(&mut client, &mut tables).await?;
        Ok(tables)
    }

    async fn is_as_mapped(&self, table: &MappedTable) -> Result<bool> {
        let found = self.describe(std::slice::from_ref(&table.name)).await?;
        Ok(found.into_iter().flatten().any(|now| table.is_as(&now)))
    }

    async fn state(&self, tables: &Tables) -> Result<NodeState> {
        state::load(&mut self.client(Purpose::Look).await?, &self.bridge, tables).await
    }

    async fn copies(&self, tables: &Tables) -> Result<Vec<CopyState>> {
        self.with_helper(async |client| state::copies(client, &self.bridge, tables).await).await
    }

    async fn estimate(&self, table: &TableName) -> Result<Option<u64>> {
        let name = self.full_name(table);
        let statement = format!(
            "SELECT table_rows FROM information_schema.tables WHERE table_schema = {} AND table_name = {}",
            encode::text(name.schema.as_deref().unwrap_or_default()),
            encode::text(&name.name)
        );
        let rows = self.with_helper(async |client| client.rows(statement.as_str()).await).await?;
        Ok(rows.first().and_then(|row| number(row, 0)))
    }

    async fn try_lease(&self) -> Result<LeaseAttempt> {
        lease::attempt(self).await
    }

    async fn open_reader(
        &self,
        start: &Checkpoint,
        tables: &Tables,
        passed: &PassedOver,
    ) -> Result<Box<dyn LogReader>> {
        let role = Role::Bridge { log: start.log.clone() };
        Ok(Box::new(Reader::open_ahead(self, role, &start.position, tables, passed).await?))
    }

    async fn open_tail(
        &self,
        start: Option<&Position>,
        tables: &Tables,
        passed: &PassedOver,
    ) -> Result<Box<dyn LogReader>> {
        let reader = match start {
            Some(start) => Reader::open_ahead(self, Role::Tail, start, tables, passed).await?,
            None => Reader::open(self, Role::Tail, None, tables, passed).await?,
        };
        Ok(Box::new(reader))
    }

    async fn open_session(&self, applier: Applier, token: i64, tables: &Tables) -> Result<Box<dyn Session>> {
        Ok(Box::new(ApplySession::open(self, applier, token, tables).await?))
    }

    async fn open_scan(&self, tables: &Tables) -> Result<Box<dyn Scan>> {
        Ok(Box::new(TableScan::open(self, tables).await?))
    }

    /// A reader passes the end of the log by itself: the last event ends there. Only a barrier has to be
    /// written, to be seen as such.
    async fn mark(&self, mark: Mark) -> Result<()> {
        match mark {
            Mark::Heartbeat => Ok(()),
            Mark::Barrier => {
                let statement = format!(
                    "UPDATE `pontoon`.`control` SET number = number + 1 WHERE bridge = {} AND name = '{}'",
                    encode::text(&self.bridge),
                    tables::BARRIER
                );
                let marked = self.with_helper(async |client| client.run(statement.as_str()).await).await;
                let answers = marked.map_err(state::not_set_up)?;
                match answers.first().map(|answer| answer.affected) {
                    Some(1) => Ok(()),
                    _ => Err(state::missing(&self.name)),
                }
            }
        }
    }

    async fn asked(&self, tables: &Tables) -> Result<Vec<Asked>> {
        self.with_helper(async |client| quarantine::asked(client, &self.bridge, tables).await).await
    }

    async fn requests(&self, tables: &Tables) -> Result<Requests> {
        self.with_helper(async |client| requests::asked(client, &self.bridge, tables).await).await
    }

    async fn paused(&self) -> Result<Option<Pause>> {
        self.with_helper(async |client| pause::read(client, &self.bridge).await).await
    }

    async fn verified(&self) -> Result<Option<Verified>> {
        self.with_helper(async |client| verified::read(client, &self.bridge).await).await
    }

    async fn throttled(&self) -> Result<Option<Throttle>> {
        self.with_helper(async |client| throttle::read(client, &self.bridge).await).await
    }

    async fn pressure(&self, limits: &PressureLimits) -> Result<Pressure> {
        pressure::read(self, limits).await
    }

    async fn log_status(&self, since: Option<&Position>) -> Result<LogStatus> {
        self.with_helper(async |client| {
            let end = files::log_end(client).await?;
            let Sizes { behind, needed, all } = files::sizes(client, since, &end).await?;
            let headroom_bytes = match needed {
                Some(needed) => headroom(client, needed).await?,
                None => None,
            };
            let clock = reader::clock(client).await?;
            Ok(LogStatus { end, behind_bytes: behind, retained_bytes: Some(all), headroom_bytes, clock })
        })
        .await
    }
}

/// The holder's text of the lease, for the message of who stands by.
pub(crate) async fn lease_holder(client: &mut Client, bridge: &str) -> Result<String> {
    let rows = client
        .rows(format!(
            "SELECT value FROM `pontoon`.`control` WHERE bridge = {} AND name = '{}'",
            encode::text(bridge),
            tables::LEASE
        ))
        .await?;
    Ok(rows.first().and_then(|row| text(row, 0)).unwrap_or_else(|| "another process".into()))
}
