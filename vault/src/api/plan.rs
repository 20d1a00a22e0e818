//! Looks ahead, as they are answered.

use time::Duration;
use vault_proto::v1;

use super::{Context, convert};
use crate::error::{Error, Result};
use crate::renewal::{AccountRehearsal, PlannedOrder};

/// How far is looked ahead where the caller does not say, in days.
const DAYS: u32 = 30;
/// The farthest.
const MOST_DAYS: u32 = 400;
/// The longest time within which everything is to be replaced.
const LONGEST: u64 = MOST_DAYS as u64 * 24 * 3600;

/// What is going to be ordered.
pub(super) async fn plan(context: &Context, request: &v1::PlanRequest) -> Result<v1::PlanResponse> {
    let days = if request.days == 0 { DAYS } else { request.days };
    if days > MOST_DAYS {
        let why = format!("{days} days are too many, {MOST_DAYS} are the most");
        return Err(Error::invalid("plan", "the coming days", why));
    }
    let made_at = context.clock.now();
    let planned = context.rooms()?.issuer.plan(Duration::days(days.into())).await?;
    let order = |order: PlannedOrder| v1::PlannedOrder {
        at: Some(convert::timestamp(order.at)),
        certificate: order.certificate.to_string(),
        why: order.why.to_owned(),
        account: order.account.to_string(),
        expires_at: order.expires.map(convert::timestamp),
        late: order.late,
    };
    let orders = planned.into_iter().map(order).collect();
    Ok(v1::PlanResponse { orders, made_at: Some(convert::timestamp(made_at)) })
}

/// How long it would take to replace everything.
pub(super) async fn rehearse(
    context: &Context,
    request: &v1::RehearseRequest,
) -> Result<v1::RehearseResponse> {
    if request.within_seconds > LONGEST {
        let why = format!("it must be {MOST_DAYS} days at most");
        return Err(Error::invalid("rehearse", "the time within which it is to be done", why));
    }
    let within = i64::try_from(request.within_seconds).ok().filter(|seconds| *seconds > 0);
    let rehearsal = context.rooms()?.issuer.rehearse(within.map(Duration::seconds)).await?;
    let account = |account: AccountRehearsal| v1::AccountRehearsal {
        account: account.account.to_string(),
        certificates: account.certificates,
        limiting: account.limiting.unwrap_or_default(),
        // Whole seconds, and never less than it takes.
        duration_seconds: account.duration.map(|lasting| {
            let up = lasting.saturating_add(Duration::nanoseconds(999_999_999));
            up.whole_seconds().unsigned_abs()
        }),
        done_within: account.done_within,
        late: account.late.iter().map(ToString::to_string).collect(),
    };
    let accounts = rehearsal.accounts.into_iter().map(account).collect();
    Ok(v1::RehearseResponse { accounts, met: rehearsal.met })
}
