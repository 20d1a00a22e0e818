//! `report.html`: one file that needs no other, and asks nobody for anything.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use vault_backup::{
    Counts,
    drill::{Certificate, Key, KeyOutcome, Status},
};

use super::{
    plot,
    report::{Report, duration},
};
use crate::error::Result;

/// Proven keys that are named one by one; `report.json` has all of them.
const MOST_KEYS: usize = 500;

const STYLE: &str = "
body { font: 15px/1.45 system-ui, sans-serif; max-width: 960px; margin: 2em auto; padding: 0 1em;
  color: #1c2430; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3em .8em .3em 0;
  border-bottom: 1px solid #dde3ea; overflow-wrap: anywhere; }
.verdict { padding: .8em 1em; border-radius: 6px; font-size: 1.1em; }
.ok { color: #14663a; } .failed { color: #a31621; } .not-asked { color: #7a5a00; }
.verdict.ok { background: #e3f4ea; } .verdict.failed { background: #fbe5e7; }
code { font-size: .9em; overflow-wrap: anywhere; }
";

/// The page.
pub(super) fn page(report: &Report) -> Result<String> {
    let plot = plot::plot(report)?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'";
                title { "Drill " (report.drill_id) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Restore drill " code { (report.drill_id) } }
                (verdict(report))
                (summary(report))
                (checks(report))
                (times(report, &plot))
                (reissue(&report.keys))
                (certificates(&report.certificates))
                (keys(&report.keys))
                (how_to_check())
            }
        }
    };
    Ok(page.into_string())
}

fn verdict(report: &Report) -> Markup {
    let class = if report.ok { "verdict ok" } else { "verdict failed" };
    html! {
        p class=(class) {
            @if report.ok {
                "Proven: this backup restores. "
                (report.keys_proven) " keys were unwrapped and have signed."
            } @else {
                "Not proven: " (report.failed().join(", ")) ". Do not rely on this backup."
            }
        }
    }
}

fn summary(report: &Report) -> Markup {
    let backup = &report.backup;
    let counts = backup.counts.clone().unwrap_or_default();
    html! {
        h2 { "Backup" }
        table {
            (row("Vault", &backup.vault_id))
            (row("Data of", backup.created_at.as_deref().unwrap_or("-")))
            (row("Drill began", report.started_at.as_deref().unwrap_or("-")))
            (row("File", &format!("{}, {} bytes", backup.file, backup.size)))
            (row("SHA-256", &backup.sha256))
            (row("KEK", &format!("{}, by {}", backup.kek_check_value, report.opened_by)))
            (row("Audit log", &format!("up to record {}, {}", backup.audit_sequence, backup.audit_head)))
            (row("Written by", &backup.software))
            (row("Content", &content(&counts)))
        }
    }
}

fn row(name: &str, value: &str) -> Markup {
    html! { tr { th { (name) } td { (value) } } }
}

fn content(counts: &Counts) -> String {
    format!(
        "{} keys wrapped, {} not escrowed, {} gone; {} accounts, {} certificates in {} versions, \
         {} agents, {} identities, {} deployments, {} orders, {} audit records",
        counts.keys_wrapped,
        counts.keys_not_escrowed,
        counts.keys_gone,
        counts.accounts,
        counts.certificates,
        counts.versions,
        counts.agents,
        counts.identities,
        counts.deployments,
        counts.orders,
        counts.audit_records
    )
}

fn checks(report: &Report) -> Markup {
    html! {
        h2 { "Checks" }
        table {
            tr { th { "Check" } th { "Outcome" } th { "What was found" } }
            @for check in &report.checks {
                tr {
                    td { (check.name.as_str()) }
                    td class=(check.status.as_str()) {
                        (match check.status {
                            Status::Ok => "proven",
                            Status::Failed => "NOT PROVEN",
                            Status::NotAsked => "not asked",
                        })
                    }
                    td { (check.detail) }
                }
            }
        }
    }
}

fn times(report: &Report, plot: &str) -> Markup {
    html! {
        h2 { "Recovery time and data age" }
        table {
            (row("RTO: the restore took", &duration(report.rto_seconds)))
            (row("RPO: the data were old", &report.rpo_seconds.map_or("-".to_owned(), duration)))
            @if let Some(worst) = report.rpo_worst_seconds {
                (row("RPO at worst, by the schedule", &duration(worst)))
            }
            @for phase in &report.phases {
                tr {
                    th { "of it: " (phase.name) }
                    td {
                        (duration(phase.seconds))
                        @if !phase.restore { " (not part of the RTO by itself)" }
                    }
                }
            }
        }
        p {
            "Keys were unwrapped for one session. A restore writes them into its token, which takes \
             longer by what that HSM needs to write a key."
        }
        (PreEscaped(plot))
        p { "Drills from the oldest to this one; red did not prove everything." }
    }
}

fn reissue(keys: &[Key]) -> Markup {
    let plans = || keys.iter().filter(|key| key.outcome == KeyOutcome::ReIssue);
    html! {
        @if plans().next().is_some() {
            h2 { "Keys that are not escrowed, and what becomes of what they are for" }
            table {
                tr { th { "Key" } th { "For" } th { "Plan" } }
                @for key in plans() {
                    tr {
                        td { (key.name) br; code { (key.id) } }
                        td { (key.purpose) }
                        td { (key.detail) }
                    }
                }
            }
        }
    }
}

fn certificates(all: &[Certificate]) -> Markup {
    let shown = || {
        let good = all.iter().filter(|certificate| certificate.ok).take(MOST_KEYS);
        all.iter().filter(|certificate| !certificate.ok).chain(good)
    };
    html! {
        @if !all.is_empty() {
            h2 { "Certificates" }
            table {
                tr { th { "Certificate" } th { "Version" } th { "Key" } th { "Ends" } th { "Chain" } }
                @for certificate in shown() {
                    tr {
                        td { (certificate.name) }
                        td { (certificate.version) }
                        td { (certificate.custody) }
                        td { (certificate.not_after.map(|at| at.to_string()).unwrap_or_default()) }
                        @if certificate.ok {
                            td class="ok" {
                                @if certificate.detail.is_empty() {
                                    (certificate.chain_length) " certificates, each link holds"
                                } @else { (certificate.detail) }
                            }
                        } @else {
                            td class="failed" { (certificate.detail) }
                        }
                    }
                }
            }
            (more(all.len(), shown().count()))
        }
    }
}

fn keys(all: &[Key]) -> Markup {
    let wrapped = || all.iter().filter(|key| key.outcome != KeyOutcome::ReIssue);
    let shown = || {
        let proven = wrapped().filter(|key| key.outcome == KeyOutcome::Proven).take(MOST_KEYS);
        wrapped().filter(|key| key.outcome == KeyOutcome::Failed).chain(proven)
    };
    html! {
        h2 { "Escrowed keys" }
        table {
            tr { th { "Key" } th { "For" } th { "Algorithm" } th { "Outcome" } }
            @for key in shown() {
                tr {
                    td { (key.name) br; code { (key.id) } }
                    td { (key.purpose) }
                    td { (key.algorithm) }
                    @match key.outcome {
                        KeyOutcome::Failed => td class="failed" { "NOT PROVEN: " (key.detail) },
                        _ => td class="ok" { "unwrapped, has signed" },
                    }
                }
            }
        }
        (more(wrapped().count(), shown().count()))
    }
}

fn more(all: usize, shown: usize) -> Markup {
    html! {
        @if all > shown {
            p { "And " (all - shown) " more, each of them proven: report.json names them." }
        }
    }
}

fn how_to_check() -> Markup {
    html! {
        h2 { "How to check this report" }
        p {
            "report.sig.json beside it is the vault's statement, signed by its internal CA in its HSM: \
             the SHA-256 of this page and of report.json, the backup's SHA-256, and the outcome. \
             Whoever has written down the CA's fingerprint checks all three files without a vault:"
        }
        pre { "vaultctl drill verify DIRECTORY --ca-fingerprint sha256:..." }
        p { "Where there is no such file, no vault was asked, and nothing vouches for this report." }
    }
}
