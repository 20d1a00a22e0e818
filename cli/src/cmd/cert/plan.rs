//! `cert plan`.

use std::path::{Path, PathBuf};

use clap::{Args, value_parser};
use serde::Serialize;
use vault_proto::v1;

use crate::client::{Client, call};
use crate::cmd::Context;
use crate::error::{Error, Result};
use crate::output::{self, Row};
use crate::plot::{self, Day};

/// How far to look, and where to draw.
#[derive(Debug, Args)]
pub struct Plan {
    /// How many days ahead.
    #[arg(long, value_name = "DAYS", value_parser = value_parser!(u32).range(1..=400), default_value_t = 30)]
    days: u32,
    /// Draws renewals a day into a new file, SVG; in red those that come after what they replace has
    /// ended.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

#[derive(Serialize)]
struct Planned {
    at: Option<String>,
    certificate: String,
    why: String,
    account: String,
    expires_at: Option<String>,
    late: bool,
}

impl Row for Planned {
    const HEADER: &'static [&'static str] =
        &["WHEN", "CERTIFICATE", "WHY", "ACCOUNT", "EXPIRES", "LATE"];
    fn cells(&self) -> Vec<String> {
        vec![
            output::short(&self.at),
            self.certificate.clone(),
            self.why.clone(),
            self.account.clone(),
            output::short(&self.expires_at),
            if self.late { "late" } else { "" }.to_owned(),
        ]
    }
}

impl From<v1::PlannedOrder> for Planned {
    fn from(order: v1::PlannedOrder) -> Self {
        Self {
            at: output::time(order.at),
            certificate: order.certificate,
            why: order.why,
            account: order.account,
            expires_at: output::time(order.expires_at),
            late: order.late,
        }
    }
}

/// Asks for the plan, draws it where that is wanted, and shows it.
pub(super) async fn run(context: &Context, client: &Client, args: Plan) -> Result<()> {
    let request = v1::PlanRequest { days: args.days };
    let plan = client.certificates().plan(call(request)).await?.into_inner();
    if let Some(file) = &args.plot {
        draw(&plan, args.days, file)?;
    }
    let rows: Vec<_> = plan.orders.into_iter().map(Planned::from).collect();
    output::list(context.format, &rows)
}

fn draw(plan: &v1::PlanResponse, days: u32, file: &Path) -> Result<()> {
    let svg = plot::days("renewals a day", &by_day(plan, days))?;
    let written = std::fs::File::create_new(file)
        .and_then(|mut file| std::io::Write::write_all(&mut file, svg.as_bytes()));
    written.map_err(|e| Error::invalid("write", file.display().to_string(), e))
}

fn by_day(plan: &v1::PlanResponse, days: u32) -> Vec<Day> {
    let mut all = vec![Day::default(); usize::try_from(days).unwrap_or(0) + 1];
    let start = plan.made_at.map_or(0, |at| at.seconds);
    for order in &plan.orders {
        let at = order.at.map_or(start, |at| at.seconds);
        let day = usize::try_from((at - start) / 86_400).unwrap_or(0);
        match all.get_mut(day) {
            Some(day) if order.late => day.bad += 1,
            Some(day) => day.good += 1,
            None => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn each_order_is_on_its_day() {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let order =
            |seconds, late| v1::PlannedOrder { at: at(seconds), late, ..Default::default() };
        let orders =
            vec![order(1000, false), order(1000 + 86_399, true), order(1000 + 86_400, false)];
        let plan = v1::PlanResponse { orders, made_at: at(1000) };
        let days = by_day(&plan, 2);
        assert_eq!(days, [Day { good: 1, bad: 1 }, Day { good: 1, bad: 0 }, Day::default()]);
    }
}
