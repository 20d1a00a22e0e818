//! What was asked of CAs, and what decides when certificates are ordered.

use async_trait::async_trait;
use sqlx::{Any, Executor};
use time::OffsetDateTime;
use vault_proto::ids::{AgentName, CertificateName, OrderId};

use super::{
    SqlStore, certificates, fail, one,
    row::{Columns, all, json, micros, opt_micros},
};
use crate::error::{Error, Result};
use crate::store::{
    Identifier, InForce, MaintenanceWindow, PlacementRecord, PlacementState, Placements,
    PlannedRecord,
};

/// Every certificate with its version in force and its open order.
const PLANNED: &str = "SELECT c.*, v.not_before AS v_not_before, v.not_after AS v_not_after,
     a.directory AS v_directory, o.state AS o_state,
     r.window_start AS r_start, r.window_end AS r_end, COALESCE(r.replaces_refused, 0) AS r_refused,
     CASE WHEN o.url IS NULL THEN 0 ELSE 1 END AS o_placed
     FROM certificates c
     LEFT JOIN certificate_versions v ON v.certificate = c.name AND v.version = c.current_version
     LEFT JOIN accounts a ON a.name = v.account
     LEFT JOIN renewal_info r ON r.certificate = c.name AND r.version = c.current_version
     LEFT JOIN orders o ON o.certificate = c.name AND o.state <> 'issued' AND o.state <> 'failed'
     WHERE c.renew_at <= $1 ORDER BY c.renew_at";

fn read(row: &Columns<'_>) -> Result<PlacementRecord> {
    Ok(PlacementRecord {
        id: row.parsed("id")?,
        order: row.parsed("order_id")?,
        certificate: row.parsed("certificate")?,
        account: row.parsed("account")?,
        directory: row.parsed("directory")?,
        identifiers: identifiers(row, "identifiers")?,
        kind: row.parsed("kind")?,
        state: row.parsed("state")?,
        refused: identifiers(row, "refused")?,
        closed_until: row.opt_time("closed_until")?,
        placed_at: row.time("placed_at")?,
        changed_at: row.time("changed_at")?,
    })
}

fn identifiers(row: &Columns<'_>, column: &str) -> Result<Vec<Identifier>> {
    let texts: Vec<String> = row.json(column)?;
    texts.iter().map(|text| text.parse()).collect()
}

fn texts(identifiers: &[Identifier]) -> Result<String> {
    json(&identifiers.iter().map(ToString::to_string).collect::<Vec<_>>())
}

fn read_planned(row: &Columns<'_>) -> Result<PlannedRecord> {
    let not_before = row.opt_time("v_not_before")?;
    let not_after = row.opt_time("v_not_after")?;
    let directory = row.opt_parsed("v_directory")?;
    let in_force = match (not_before, not_after, directory) {
        (Some(not_before), Some(not_after), Some(directory)) => {
            let window = row.opt_time("r_start")?.zip(row.opt_time("r_end")?);
            let replaces_refused = row.int::<i64>("r_refused")? != 0;
            Some(InForce { not_before, not_after, directory, window, replaces_refused })
        }
        _ => None,
    };
    let order = match row.opt_parsed("o_state")? {
        Some(state) => Some((state, row.int::<i64>("o_placed")? != 0)),
        None => None,
    };
    let requested = row.int::<i64>("requested")? != 0;
    let asked_anew = row.int::<i64>("asked_anew")? != 0;
    Ok(PlannedRecord {
        certificate: certificates::read(row)?,
        in_force,
        requested,
        asked_anew,
        order,
    })
}

fn read_windows(row: &Columns<'_>) -> Result<(CertificateName, Vec<MaintenanceWindow>)> {
    Ok((row.parsed("certificate")?, row.json("windows")?))
}

fn not_noted(placement: &PlacementRecord, error: sqlx::Error) -> Error {
    fail("note", &format!("an order of account {}", placement.account), error)
}

async fn insert(on: impl Executor<'_, Database = Any>, placement: &PlacementRecord) -> Result<()> {
    sqlx::query(
        "INSERT INTO placements (id, order_id, certificate, account, directory, identifiers,
         kind, state, refused, closed_until, placed_at, changed_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(placement.id.to_string())
    .bind(placement.order.to_string())
    .bind(placement.certificate.to_string())
    .bind(placement.account.to_string())
    .bind(placement.directory.to_string())
    .bind(texts(&placement.identifiers)?)
    .bind(placement.kind.as_str())
    .bind(placement.state.as_str())
    .bind(texts(&placement.refused)?)
    .bind(opt_micros(placement.closed_until))
    .bind(micros(placement.placed_at))
    .bind(micros(placement.changed_at))
    .execute(on)
    .await
    .map(drop)
    .map_err(|e| not_noted(placement, e))
}

async fn end(
    on: impl Executor<'_, Database = Any>,
    order: OrderId,
    state: PlacementState,
    refused: &[Identifier],
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query(
        "UPDATE placements SET state = $2, refused = $3, changed_at = $4
         WHERE order_id = $1 AND state = $5",
    )
    .bind(order.to_string())
    .bind(state.as_str())
    .bind(texts(refused)?)
    .bind(micros(now))
    .bind(PlacementState::Open.as_str())
    .execute(on)
    .await
    .map(drop)
    .map_err(|e| fail("note", &format!("the end of order {order}"), e))
}

#[async_trait]
impl Placements for SqlStore {
    async fn begin_placement(&self, placement: &PlacementRecord) -> Result<()> {
        let mut tx = self.begin().await?;
        let (order, now) = (placement.order, placement.placed_at);
        end(&mut *tx, order, PlacementState::Failed, &[], now).await?;
        insert(&mut *tx, placement).await?;
        tx.commit().await.map_err(|e| not_noted(placement, e))
    }

    async fn insert_placement(&self, placement: &PlacementRecord) -> Result<()> {
        insert(&self.writes, placement).await
    }

    async fn end_placements(
        &self,
        order: OrderId,
        state: PlacementState,
        refused: &[Identifier],
        now: OffsetDateTime,
    ) -> Result<()> {
        end(&self.writes, order, state, refused, now).await
    }

    async fn void_placement(&self, id: OrderId, now: OffsetDateTime) -> Result<()> {
        sqlx::query("UPDATE placements SET state = $2, changed_at = $3 WHERE id = $1")
            .bind(id.to_string())
            .bind(PlacementState::Void.as_str())
            .bind(micros(now))
            .execute(&self.writes)
            .await
            .map(drop)
            .map_err(|e| fail("note", "an order that was not placed", e))
    }

    async fn placements_since(&self, changed_at: OffsetDateTime) -> Result<Vec<PlacementRecord>> {
        let query = "SELECT * FROM placements WHERE changed_at >= $1 ORDER BY changed_at, id";
        let rows = sqlx::query(query)
            .bind(micros(changed_at))
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", "what was ordered", e))?;
        all(&rows, read)
    }

    async fn forget_placements(&self, before: OffsetDateTime) -> Result<u64> {
        let done = sqlx::query("DELETE FROM placements WHERE changed_at < $1")
            .bind(micros(before))
            .execute(&self.writes)
            .await;
        Ok(done.map_err(|e| fail("forget", "what was ordered", e))?.rows_affected())
    }

    async fn planned(&self, due_by: Option<OffsetDateTime>) -> Result<Vec<PlannedRecord>> {
        let rows = sqlx::query(PLANNED)
            .bind(due_by.map_or(i64::MAX, micros))
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", "certificates", e))?;
        all(&rows, read_planned)
    }

    async fn windows_of_agents(&self) -> Result<Vec<(CertificateName, Vec<MaintenanceWindow>)>> {
        let query = "SELECT d.certificate, a.windows FROM deployments d
             JOIN agents a ON a.name = d.agent WHERE a.windows <> '[]'";
        let rows = sqlx::query(query).fetch_all(&self.reads).await;
        all(&rows.map_err(|e| fail("read", "maintenance windows", e))?, read_windows)
    }

    async fn set_agent_windows(
        &self,
        agent: &AgentName,
        windows: &[MaintenanceWindow],
    ) -> Result<()> {
        let subject = format!("agent {agent}");
        let done = sqlx::query("UPDATE agents SET windows = $2 WHERE name = $1")
            .bind(agent.to_string())
            .bind(json(&windows)?)
            .execute(&self.writes)
            .await;
        one("change", &subject, done.map_err(|e| fail("change", &subject, e))?.rows_affected())
    }
}
