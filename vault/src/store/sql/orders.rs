//! Orders and their challenges. Helpers of the `Certificates` trait in `certificates.rs`.

use sqlx::{Any, Executor};
use time::OffsetDateTime;
use vault_proto::ids::{AccountName, OrderId};

use super::{
    SqlStore, Transaction, fail, one,
    row::{Columns, all, int, micros, opt_text, text},
};
use crate::error::Result;
use crate::store::{ChallengeRecord, OrderRecord, OrderState};

fn read(row: &Columns<'_>) -> Result<OrderRecord> {
    Ok(OrderRecord {
        id: row.parsed("id")?,
        certificate: row.parsed("certificate")?,
        version: row.int("version")?,
        account: row.parsed("account")?,
        state: row.parsed("state")?,
        url: row.opt_parsed("url")?,
        csr_der: row.opt_blob("csr")?,
        key_id: row.opt_parsed("key_id")?,
        error: row.opt_text("error")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

fn read_challenge(row: &Columns<'_>) -> Result<ChallengeRecord> {
    Ok(ChallengeRecord {
        token: row.text("token")?,
        order_id: row.parsed("order_id")?,
        kind: row.parsed("kind")?,
        identifier: row.parsed("identifier")?,
        key_authorization: row.text("key_authorization")?,
    })
}

async fn remove_challenges(on: impl Executor<'_, Database = Any>, order: OrderId) -> Result<()> {
    sqlx::query("DELETE FROM challenges WHERE order_id = $1")
        .bind(order.to_string())
        .execute(on)
        .await
        .map(drop)
        .map_err(|e| fail("remove", "challenges", e))
}

/// Ends an order and removes its challenges, inside a transaction.
pub(super) async fn end(
    tx: &mut Transaction,
    order: OrderId,
    state: OrderState,
    error: Option<&str>,
    now: OffsetDateTime,
) -> Result<()> {
    let subject = format!("order {order}");
    let failed = |e| fail("end", &subject, e);
    remove_challenges(&mut **tx, order).await?;
    sqlx::query(
        "UPDATE placements SET state = $2, changed_at = $3 WHERE order_id = $1 AND state = 'open'",
    )
    .bind(order.to_string())
    .bind(state.as_str())
    .bind(micros(now))
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    let done =
        sqlx::query("UPDATE orders SET state = $2, error = $3, updated_at = $4 WHERE id = $1")
            .bind(order.to_string())
            .bind(state.as_str())
            .bind(opt_text(error))
            .bind(micros(now))
            .execute(&mut **tx)
            .await
            .map_err(failed)?;
    one("end", &subject, done.rows_affected())
}

impl SqlStore {
    pub(super) async fn add_order(&self, order: &OrderRecord) -> Result<()> {
        sqlx::query(
            "INSERT INTO orders (id, certificate, version, account, state, url, csr, key_id, error,
             created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(order.id.to_string())
        .bind(order.certificate.to_string())
        .bind(int(order.version))
        .bind(order.account.to_string())
        .bind(order.state.as_str())
        .bind(order.url.as_ref().map(ToString::to_string))
        .bind(order.csr_der.clone())
        .bind(order.key_id.map(|id| id.to_string()))
        .bind(opt_text(order.error.as_deref()))
        .bind(micros(order.created_at))
        .bind(micros(order.updated_at))
        .execute(&self.writes)
        .await
        .map(drop)
        .map_err(|e| fail("begin", &format!("an order of certificate {}", order.certificate), e))
    }

    pub(super) async fn write_order(&self, order: &OrderRecord) -> Result<()> {
        let subject = format!("order {}", order.id);
        let done = sqlx::query(
            "UPDATE orders SET state = $2, url = $3, csr = $4, key_id = $5, error = $6,
             updated_at = $7 WHERE id = $1",
        )
        .bind(order.id.to_string())
        .bind(order.state.as_str())
        .bind(order.url.as_ref().map(ToString::to_string))
        .bind(order.csr_der.clone())
        .bind(order.key_id.map(|id| id.to_string()))
        .bind(opt_text(order.error.as_deref()))
        .bind(micros(order.updated_at))
        .execute(&self.writes)
        .await
        .map_err(|e| fail("change", &subject, e))?;
        one("change", &subject, done.rows_affected())
    }

    pub(super) async fn mark_finalizing(&self, order: OrderId, now: OffsetDateTime) -> Result<()> {
        let subject = format!("order {order}");
        let failed = |e| fail("finalize", &subject, e);
        let mut tx = self.begin().await?;
        remove_challenges(&mut *tx, order).await?;
        let done = sqlx::query("UPDATE orders SET state = $2, updated_at = $3 WHERE id = $1")
            .bind(order.to_string())
            .bind(OrderState::Finalizing.as_str())
            .bind(micros(now))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        one("finalize", &subject, done.rows_affected())?;
        tx.commit().await.map_err(failed)
    }

    pub(super) async fn give_up(
        &self,
        order: OrderId,
        error: &str,
        failed_attempts: u32,
        renew_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        end(&mut tx, order, OrderState::Failed, Some(error), now).await?;
        sqlx::query(
            "UPDATE certificates SET failed_attempts = $2, last_error = $3, renew_at = $4, asked_anew = 0
             WHERE name = (SELECT certificate FROM orders WHERE id = $1)",
        )
        .bind(order.to_string())
        .bind(i64::from(failed_attempts))
        .bind(text(error))
        .bind(micros(renew_at))
        .execute(&mut *tx)
        .await
        .map_err(|e| fail("give up", &format!("order {order}"), e))?;
        tx.commit().await.map_err(|e| fail("give up", &format!("order {order}"), e))
    }

    pub(super) async fn orders_by(
        &self,
        query: &'static str,
        argument: Option<String>,
    ) -> Result<Vec<OrderRecord>> {
        let mut query = sqlx::query(query);
        if let Some(argument) = argument {
            query = query.bind(argument);
        }
        let rows = query.fetch_all(&self.reads).await.map_err(|e| fail("read", "orders", e))?;
        all(&rows, read)
    }

    pub(super) async fn orders_of_account(
        &self,
        account: &AccountName,
        limit: u32,
    ) -> Result<Vec<OrderRecord>> {
        let rows = sqlx::query(
            "SELECT * FROM orders WHERE account = $1 AND url IS NOT NULL
             ORDER BY created_at DESC, id LIMIT $2",
        )
        .bind(account.to_string())
        .bind(i64::from(limit))
        .fetch_all(&self.reads)
        .await
        .map_err(|e| fail("read", "orders", e))?;
        all(&rows, read)
    }

    pub(super) async fn write_challenges(&self, challenges: &[ChallengeRecord]) -> Result<()> {
        let failed = |e| fail("add", "challenges", e);
        let mut tx = self.begin().await?;
        for challenge in challenges {
            sqlx::query(
                "INSERT INTO challenges (token, order_id, kind, identifier, key_authorization)
                 VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (token) DO UPDATE SET order_id = excluded.order_id,
                 kind = excluded.kind, identifier = excluded.identifier,
                 key_authorization = excluded.key_authorization",
            )
            .bind(challenge.token.clone())
            .bind(challenge.order_id.to_string())
            .bind(challenge.kind.as_str())
            .bind(challenge.identifier.to_string())
            .bind(challenge.key_authorization.clone())
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        }
        tx.commit().await.map_err(failed)
    }

    pub(super) async fn delete_challenges(&self, order: OrderId) -> Result<()> {
        remove_challenges(&self.writes, order).await
    }

    pub(super) async fn read_challenges(&self, order: OrderId) -> Result<Vec<ChallengeRecord>> {
        let rows = sqlx::query("SELECT * FROM challenges WHERE order_id = $1 ORDER BY token")
            .bind(order.to_string())
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", "challenges", e))?;
        all(&rows, read_challenge)
    }
}
