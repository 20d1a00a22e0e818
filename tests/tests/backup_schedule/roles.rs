//! Who may see, fetch, make and remove them, and what the audit log says.

use testkit::scheduled::Scheduled;

#[test]
fn operators_do_all_of_it_and_auditors_see_which_there_are() {
    let scheduled = Scheduled::in_directory();
    let vault = scheduled.vault();
    let (ada, eve) = (vault.issue("ada", "operator"), vault.issue("eve", "auditor"));
    let id = scheduled.list()[0]["id"].as_str().unwrap().to_owned();
    let out = vault.path("fetched.age");
    let fetch = ["backup", "fetch", &id, "--out", &out];
    let changes: [&[&str]; 3] = [&["backup", "run"], &["backup", "prune", "--yes"], &fetch];
    for change in changes {
        vault.ctl_as(&eve, change).refused(4, "auditor/eve");
        assert_eq!(vault.ctl_as(&ada, change).code, 0, "{change:?}");
    }
    assert_eq!(vault.ctl_as(&eve, &["backup", "list"]).code, 0);
    let fetched = vault
        .audit()
        .into_iter()
        .rfind(|record| record["action"] == "backup.fetch" && record["phase"] == "result");
    let fetched = fetched.unwrap();
    assert_eq!(fetched["resource"], format!("backup/{id}"));
    assert_eq!(fetched["principal"], "spiffe://test.example/operator/ada");
}
