//! What a certificate may name, and what it becomes.

use testkit::{programs::must, world::AGENT};

use super::scene::Scene;

/// Domains that no CA would take, and why.
fn bad_domains() -> Vec<(String, &'static str)> {
    let label = "a".repeat(64);
    let long = ["a".repeat(63).as_str(); 4].join(".");
    let bad = [
        ("", "1 to 253 characters"),
        ("10.0.0.1", "use --ip"),
        ("::1", "use --ip"),
        ("[::1]", "letters, digits"),
        ("*", "letters, digits"),
        ("*.", "1 to 253 characters"),
        ("a.*.example", "letters, digits"),
        ("**.example", "letters, digits"),
        (".example", "each label"),
        ("a..example", "each label"),
        ("shop.example.", "each label"),
        ("shop_1.example", "letters, digits"),
        ("shop example", "letters, digits"),
        ("größe.example", "A-labels"),
        ("https://shop.example", "letters, digits"),
        ("shop.example:443", "letters, digits"),
        ("shop.example/", "letters, digits"),
        ("a\nb.example", "letters, digits"),
        ("'; DROP TABLE keys; --", "letters, digits"),
        ("a-.example", "neither begins nor ends"),
        ("-a.example", "neither begins nor ends"),
    ];
    let bad = bad.map(|(domain, why)| (domain.to_owned(), why));
    let lengths = [(format!("{label}.example"), "each label"), (long, "1 to 253 characters")];
    bad.into_iter().chain(lengths).collect()
}

fn issue(names: &[&str]) -> Vec<String> {
    let how = ["--account", "ca", "--challenge", "http-01", "--deploy-to", AGENT];
    let all = [&["cert", "issue", "new"], names, &how].concat();
    all.into_iter().map(str::to_owned).collect()
}

fn csr(names: &[&str], out: &str) -> Vec<String> {
    let all = [&["csr", "create", "--key", "k", "--out", out], names].concat();
    all.into_iter().map(str::to_owned).collect()
}

#[test]
fn names_that_no_ca_takes_are_refused_before_any_is_asked() {
    let scene = Scene::new();
    let out = scene.vault.path("out");
    let mut cases: Vec<(Vec<String>, &str)> = Vec::new();
    for (domain, why) in bad_domains() {
        // Behind `=`, so that what begins with a dash is no option.
        cases.push((vec![format!("--domain={domain}")], why));
    }
    let named = |text: &[&str]| text.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    cases.push((named(&["--domain", "a.example", "--domain", "a.example"]), "named twice"));
    cases.push((named(&["--domain", "a.example", "--domain", "A.Example"]), "named twice"));
    cases.push((named(&["--ip", "::1", "--ip", "0:0::1"]), "named twice"));
    for ip in ["a.example", "", "10.0.0", "10.0.0.256", "10.0.0.1/8", "::g", "1"] {
        cases.push((vec![format!("--ip={ip}")], "IP address"));
    }
    cases.push((Vec::new(), "--domain"));
    let before = scene.everything();
    let asked = scene.pebble.log().len();
    for (names, why) in &cases {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        for args in [issue(&names), csr(&names, &out)] {
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            let ended = scene.vault.ctl(&args);
            assert_eq!(ended.code, 2, "{args:?}: {ended:?}");
            ended.refused(2, why);
        }
    }
    assert_eq!(scene.everything(), before);
    assert_eq!(scene.pebble.log().len(), asked);
    assert!(!scene.vault.file("out").exists());
}

#[test]
fn a_name_is_lower_case_whatever_was_typed() {
    let scene = Scene::new();
    let out = scene.vault.path("out.csr");
    let names = ["--domain", "Shop.EXAMPLE", "--domain", "*.Shop.Example", "--ip", "2001:DB8::1"];
    let args = csr(&names, &out);
    scene.vault.ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let text = must("openssl", &["req", "-in", &out, "-noout", "-text", "-verify"]);
    assert!(text.contains("DNS:shop.example, DNS:*.shop.example"), "{text}");
    assert!(text.contains("IP Address:2001:DB8:0:0:0:0:0:1"), "{text}");
    // Declared for an agent that has not enrolled: no order is driven to its end here.
    let names = ["--domain", "Shop.EXAMPLE", "--ip", "2001:DB8::1", "--custody", "agent"];
    let args = [&["-o".to_owned(), "json".to_owned()], &issue(&names)[..]].concat();
    let ended = scene.vault.ctl(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.json()["domains"], serde_json::json!(["shop.example"]));
    assert_eq!(ended.json()["ips"], serde_json::json!(["2001:db8::1"]));
}
