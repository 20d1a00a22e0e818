//! What CAs allow and when web servers may change: a fleet keeps to both, says what it waits for, and a
//! restart forgets nothing of it.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use serde_json::Value;
use testkit::{
    agent::Agent,
    fault_ca::{Answer, Fault, FaultCa, Place},
    nginx::Nginx,
    pebble::{Behaviour, Pebble},
    process::eventually,
    vault::Vault,
    world::{ACCOUNT, AGENT, SITE, order, register_account, webroot},
};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

/// A vault whose CA allows so much, as `[[acme.limits]]` has it.
struct World {
    vault: Vault,
    pebble: Pebble,
    _nginx: Nginx,
    _agent: Agent,
}

impl World {
    fn new(limits: &str) -> Self {
        Self::with(limits, Behaviour::default())
    }

    fn with(limits: &str, behaviour: Behaviour) -> Self {
        // Each request is in Pebble's log once.
        let pebble = Pebble::start_with(Behaviour { nonce_reject: 0, ..behaviour });
        let mut vault = Vault::new();
        let acme = "request_timeout = \"5s\"";
        let limits =
            format!("{acme}\n[[acme.limits]]\ndirectory = {:?}\n{limits}", pebble.directory());
        vault.reconfigure(acme, &limits);
        vault.start();
        vault.ok(&["init"]);
        let nginx = Nginx::start(SITE, pebble.http01);
        let agent = Agent::enrolled(&vault, AGENT, &webroot(&nginx));
        register_account(&vault, &pebble);
        Self { vault, pebble, _nginx: nginx, _agent: agent }
    }

    fn issue(&self, name: &str, more: &[&str]) {
        let domain = format!("{name}.{SITE}");
        self.vault.ok(&order(name, &domain, "vault", more));
    }

    fn show(&self, name: &str) -> Value {
        self.vault.json(&["cert", "show", name])
    }

    fn waits_for(&self, name: &str) -> String {
        self.show(name)["waits_for"].as_str().unwrap_or_default().to_owned()
    }

    fn wait_version(&self, name: &str, version: u64) {
        eventually(&format!("version {version} of {name}"), || {
            (self.show(name)["version"] == version).then_some(())
        });
    }

    /// How many orders the CA has made.
    fn orders(&self) -> usize {
        self.pebble.log().matches("Added order ").count()
    }

    fn issued(&self) -> usize {
        let all = self.vault.json(&["cert", "list"]);
        all.as_array().unwrap().iter().filter(|certificate| certificate["version"] == 1).count()
    }

    /// Lets a certificate's renewal be due now, as time would.
    fn make_due(&mut self, name: &str) {
        self.vault.stop();
        let at = (OffsetDateTime::now_utc() - Duration::minutes(1)).unix_timestamp() * 1_000_000;
        let update = format!("UPDATE certificates SET renew_at = {at} WHERE name = '{name}'");
        let url = format!("sqlite://{}", self.vault.path("vault.db"));
        let past_the_vault = async {
            sqlx::any::install_default_drivers();
            let pool = sqlx::AnyPool::connect(&url).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(update)).execute(&pool).await.unwrap();
            pool.close().await;
        };
        tokio::runtime::Runtime::new().unwrap().block_on(past_the_vault);
        self.vault.start();
    }
}

fn time(value: &Value) -> OffsetDateTime {
    OffsetDateTime::parse(value.as_str().unwrap(), &Rfc3339).unwrap()
}

/// A window of an hour that opens in two days.
fn closed_window() -> String {
    let day = (OffsetDateTime::now_utc() + Duration::days(2)).weekday().to_string();
    format!("{} 02:00-03:00", &day[..3])
}

#[test]
fn a_fleet_keeps_to_its_budget_over_a_restart_and_says_what_it_waits_for() {
    let mut world = World::new("orders_per_account = \"5/1h\"");
    let names: Vec<_> = (0..12).map(|at| format!("c{at}")).collect();
    for name in &names {
        world.issue(name, &[]);
    }
    eventually("five are issued", || (world.issued() == 5).then_some(()));
    let waiting: Vec<_> = names.iter().filter(|name| world.show(name)["version"] == 0).collect();
    for name in &waiting {
        let said = eventually(&format!("{name} waits"), || {
            Some(world.waits_for(name)).filter(|said| !said.is_empty())
        });
        assert!(said.starts_with("budget: 5 orders of account ca in 1h, free again at"), "{said}");
    }
    assert_eq!(world.orders(), 5);
    // A crash is no way to more.
    world.vault.kill();
    world.vault.start();
    let said = eventually("it waits again", || {
        Some(world.waits_for(waiting[0])).filter(|said| !said.is_empty())
    });
    assert!(said.starts_with("budget: 5 orders"), "{said}");
    // Nor is force, which passes everything else.
    world.vault.ok(&["cert", "renew", waiting[0], "--force"]);
    assert!(world.waits_for(waiting[0]).starts_with("budget: 5 orders"));
    assert_eq!((world.orders(), world.issued()), (5, 5));

    looks_ahead(&world);
}

/// Five of twelve certificates are issued, and the hour's budget is used up.
fn looks_ahead(world: &World) {
    let plan = world.vault.json(&["cert", "plan"]);
    let plan = plan.as_array().unwrap();
    assert_eq!(plan.len(), 7, "five live for years: {plan:?}");
    let now = OffsetDateTime::now_utc();
    for planned in plan {
        assert_eq!(planned["why"], "budget", "{planned}");
        assert_eq!((&planned["account"], &planned["late"]), (&ACCOUNT.into(), &false.into()));
        let at = time(&planned["at"]);
        assert!(at > now + Duration::minutes(30) && at < now + Duration::hours(3), "{planned}");
    }
    let svg = world.vault.path("plan.svg");
    let shown = world.vault.ok(&["cert", "plan", "--days", "60", "--plot", &svg]);
    assert!(shown.contains("WHEN") && shown.contains("budget"), "{shown}");
    assert!(std::fs::read_to_string(&svg).unwrap().starts_with("<svg"));
    world.vault.ctl(&["cert", "plan", "--plot", &svg]).refused(2, "exists");

    let rehearsal = world.vault.json(&["fleet", "rehearse"]);
    let account = &rehearsal["accounts"][0];
    assert_eq!((&rehearsal["met"], &account["certificates"]), (&true.into(), &12.into()));
    assert_eq!(account["limiting"], "5 orders of account ca in 1h");
    // Five an hour from the first hour's end on: the last two of twelve come in the third.
    let takes = account["duration_seconds"].as_u64().unwrap();
    assert!((2 * 3600..3 * 3600 + 60).contains(&takes), "{rehearsal}");
    let late = world.vault.ctl(&["-o", "json", "fleet", "rehearse", "--within", "90m"]);
    assert_eq!(late.code, 7, "{late:?}");
    assert_eq!(late.json()["accounts"][0]["late"].as_array().unwrap().len(), 7, "{late:?}");
    let shown = world.vault.ok(&["fleet", "rehearse", "--within", "4h"]);
    assert!(shown.contains("LIMITED BY") && shown.contains("5 orders of account ca"), "{shown}");
}

#[test]
fn what_will_end_before_its_turn_is_known_before() {
    let two_days = Behaviour { validity: 2 * 86_400, ..Behaviour::default() };
    let mut world = World::with("orders_per_account = \"1/30d\"", two_days);
    world.issue("shop", &[]);
    world.wait_version("shop", 1);
    let alerts = |world: &World| {
        let status = world.vault.json(&["status"]);
        status["alerts"].as_array().unwrap().clone()
    };
    assert!(alerts(&world).is_empty());
    world.vault.stop();
    world.vault.start();
    let alert = eventually("an alert", || alerts(&world).first().cloned());
    assert_eq!(alert["kind"], "cannot-renew-in-time", "{alert}");
    assert_eq!(alert["subject"], "certificate shop");
    let detail = alert["detail"].as_str().unwrap();
    assert!(detail.starts_with("it ends ") && detail.contains("what its CA allows"), "{detail}");
    // The CA allows more.
    world.vault.stop();
    world.vault.reconfigure("\"1/30d\"", "\"5/30d\"");
    world.vault.start();
    eventually("the alert is over", || alerts(&world).is_empty().then_some(()));
    assert_eq!(world.show("shop")["version"], 1);
}

#[test]
fn a_maintenance_window_holds_a_renewal_back_until_an_operator_wants_it() {
    let mut world = World::new("");
    let window = closed_window();
    // What was never issued is served nowhere: it waits for no window.
    world.issue("shop", &["--window", &window]);
    world.wait_version("shop", 1);
    assert_eq!(world.show("shop")["windows"][0], window.as_str());
    world.make_due("shop");
    let said =
        eventually("it waits", || Some(world.waits_for("shop")).filter(|said| !said.is_empty()));
    assert!(said.starts_with(&format!("maintenance window {window}, open at")), "{said}");
    let plan = world.vault.json(&["cert", "plan", "--days", "8"]);
    assert_eq!((&plan[0]["certificate"], &plan[0]["why"]), (&"shop".into(), &"window".into()));
    assert_eq!(time(&plan[0]["at"]).hour(), 2, "{plan}");
    assert_eq!(world.show("shop")["version"], 1);
    // Rid of its window, it goes at once.
    world.vault.ok(&["cert", "update", "shop", "--no-window"]);
    world.wait_version("shop", 2);
    // An agent's window holds whatever goes there, and --force passes it.
    let agent = world.vault.json(&["agent", "update", AGENT, "--window", &window]);
    assert_eq!(agent["windows"][0], window.as_str());
    world.make_due("shop");
    let said = eventually("it waits for its agent", || {
        Some(world.waits_for("shop")).filter(|said| !said.is_empty())
    });
    assert!(said.starts_with("maintenance window of its agents"), "{said}");
    world.vault.ok(&["cert", "renew", "shop", "--force"]);
    world.wait_version("shop", 3);
    assert_eq!(
        world.vault.json(&["agent", "update", AGENT, "--no-window"])["windows"],
        serde_json::json!([])
    );
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let world = World::new("");
    world.issue("shop", &[]);
    world.wait_version("shop", 1);
    for (args, code, said) in [
        (&["cert", "plan", "--days", "0"][..], 2, "1..=400"),
        (&["cert", "plan", "--days", "401"], 2, "1..=400"),
        (&["cert", "plan", "--plot", "/nowhere/plan.svg"], 2, "/nowhere/plan.svg"),
        (&["fleet", "rehearse", "--within", "soon"], 2, "soon"),
        (&["fleet", "rehearse", "--within", "0s"], 2, "a second"),
        (&["fleet", "rehearse", "--within", "401d"], 2, "400 days"),
        (&["cert", "update", "shop", "--window", "Sam 02:00-03:00"], 2, "Mon to Sun"),
        (&["cert", "update", "shop", "--window", "Sat 02:00-02:00"], 2, "ends when it begins"),
        (&["cert", "update", "shop", "--window", "Sat 01:00-02:00", "--no-window"], 2, "no-window"),
        (&["agent", "update", AGENT, "--window", "always"], 2, "days"),
        (&["agent", "update", AGENT], 2, "--window"),
        (&["agent", "update", "nobody", "--no-window"], 3, "no such agent"),
    ] {
        world.vault.ctl(args).refused(code, said);
    }
    assert_eq!(world.show("shop")["windows"], serde_json::json!([]));
    assert_eq!(world.vault.json(&["agent", "show", AGENT])["windows"], serde_json::json!([]));
}

#[test]
fn an_account_that_its_ca_limits_is_left_alone_for_all_its_certificates() {
    let (vault, pebble) = (Vault::initialized(), Pebble::start());
    let ca = FaultCa::before(&pebble);
    let nginx = Nginx::start(SITE, pebble.http01);
    let _agent = Agent::enrolled(&vault, AGENT, &webroot(&nginx));
    let (directory, root) = (ca.directory(), ca.root().display().to_string());
    let at = ["account", "register", ACCOUNT, "--directory", &directory, "--ca-root", &root];
    vault.ok(&[&at[..], &["--agree-tos"]].concat());
    let limited = Answer::problem(429, "rateLimited", "too many new orders from this account");
    ca.fail(Place::NewOrder, Fault::Answer(limited.header("retry-after", "3600")));
    vault.ok(&order("one", "one.shop.example", "vault", &[]));
    eventually("the CA limits", || {
        (vault.json(&["cert", "show", "one"])["progress"] == "backoff").then_some(())
    });
    let asked = ca.seen(Place::NewOrder).len();
    vault.ok(&order("two", "two.shop.example", "vault", &[]));
    let said = eventually("the other one waits", || {
        let shown = vault.json(&["cert", "show", "two"]);
        shown["waits_for"].as_str().map(str::to_owned)
    });
    assert!(
        said.starts_with("CA: it wants no more orders of account ca now, free again"),
        "{said}"
    );
    assert_eq!(ca.seen(Place::NewOrder).len(), asked);
    // Whoever insists is heard.
    ca.heal();
    vault.ok(&["cert", "renew", "two"]);
    eventually("version 1", || {
        (vault.json(&["cert", "show", "two"])["version"] == 1).then_some(())
    });
}
