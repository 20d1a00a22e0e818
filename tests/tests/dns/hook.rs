//! A program of the operator's that writes the records.

use std::{fs, os::unix::fs::PermissionsExt as _};

use testkit::name_server::{KEY, KEY_NAME, Software};

use super::world::{RECORD, World, ZONE, order};

#[test]
fn a_program_is_called_as_lego_calls_it() {
    let world = World::new(Software::Bind, &[ZONE], |server| {
        let hook = server.key_file().with_file_name("hook");
        let script = format!(
            "#!/bin/sh\nset -eu\ncase $1 in present) change=add ttl=1;; cleanup) change=delete ttl=;; *) exit 9;; esac\n\
             printf '%s\\nupdate %s %s %s TXT %s\\nsend\\n' '{}' $change \"$2\" \"$ttl\" \"$3\" |\n\
             nsupdate -y 'hmac-sha256:{KEY_NAME}:{KEY}'\n",
            server.server_line()
        );
        fs::write(&hook, script).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        format!("provider = \"exec\"\ncommand = [{hook:?}]\n")
    });
    let issued = world.vault.json(&order("shop", &[ZONE], &["--wait"]));
    assert_eq!(issued["status"], "issued");
    world.nothing_stays(RECORD);
}
