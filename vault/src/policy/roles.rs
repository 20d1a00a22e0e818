//! The built-in roles: operator, auditor, agent, and the vault's own rooms.

use vault_proto::ids::Identity;

use super::{Action, Authorizer, Principal};
use crate::error::{Error, Result};

/// Authorizes by the kind of the caller's SPIFFE id alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct RoleAuthorizer;

impl Authorizer for RoleAuthorizer {
    fn authorize(&self, principal: &Principal, action: Action, resource: &str) -> Result<()> {
        let allowed = match principal {
            Principal::Local(_) => local_may(action),
            Principal::Vault(_) => vault_may(action),
            Principal::Anonymous => action == Action::AgentEnroll,
            Principal::Spiffe(id) => match id.identity() {
                Identity::Operator(_) => operator_may(action),
                Identity::Auditor(_) => auditor_may(action),
                Identity::Agent(_) => agent_may(action),
                Identity::Vault => false,
            },
        };
        if allowed {
            return Ok(());
        }
        if *principal == Principal::Anonymous {
            return Err(Error::unauthenticated(
                action.as_str(),
                resource,
                "the connection has no client certificate",
            )
            .hint("use a profile with a client certificate, or the local admin socket"));
        }
        Err(Error::denied(
            action.as_str(),
            resource,
            format!("{principal} has no role that allows it"),
        )
        .hint("ask an operator of this vault"))
    }
}

/// The admin socket is as good as an operator's certificate, and the only way to hold a ceremony.
fn local_may(action: Action) -> bool {
    let ceremony = matches!(
        action,
        Action::SystemInit | Action::KekManage | Action::BackupRestore | Action::KeyUnwrap
    );
    ceremony || operator_may(action)
}

fn operator_may(action: Action) -> bool {
    !matches!(
        action,
        Action::SystemInit
            | Action::KekManage
            | Action::BackupRestore
            | Action::KeyUnwrap
            | Action::SignTranscript
            | Action::SignDrill
            | Action::AgentEnroll
            | Action::AgentSession
            | Action::SignCertificate
            | Action::SignTls
    )
}

/// For itself and with keys that are deployed to it, which the rooms see to.
fn agent_may(action: Action) -> bool {
    matches!(action, Action::AgentSession | Action::SignTls)
}

fn auditor_may(action: Action) -> bool {
    matches!(
        action,
        Action::SystemStatus
            | Action::KekRead
            | Action::KeyRead
            | Action::AccountRead
            | Action::CertificateRead
            | Action::AgentRead
            | Action::AuditRead
            | Action::BackupRead
            | Action::DrillRead
    )
}

/// The vault's rooms generate, sign and retire keys in the course of an issuance, make and remove
/// backups by their schedule, and no more.
fn vault_may(action: Action) -> bool {
    matches!(
        action,
        Action::KeyGenerate
            | Action::KeyRotate
            | Action::KeyDestroy
            | Action::SignCsr
            | Action::SignJws
            | Action::SignCertificate
            | Action::SignTranscript
            | Action::SignDrill
            | Action::KeyWrap
            | Action::BackupCreate
            | Action::BackupPrune
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spiffe(path: &str) -> Principal {
        Principal::Spiffe(format!("spiffe://test/{path}").parse().unwrap())
    }

    #[test]
    fn an_auditor_reads_everything_and_changes_nothing() {
        let auditor = spiffe("auditor/eve");
        for action in Action::ALL.iter().copied() {
            let reads = action.as_str().ends_with(".read") || action == Action::SystemStatus;
            let answer = RoleAuthorizer.authorize(&auditor, action, "x");
            assert_eq!(answer.is_ok(), reads, "{action}");
        }
    }

    #[test]
    fn an_agent_has_its_own_session_and_its_servers_handshakes_and_nothing_else() {
        let agent = spiffe("agent/web1");
        for action in Action::ALL.iter().copied() {
            let answer = RoleAuthorizer.authorize(&agent, action, "x");
            let own = matches!(action, Action::AgentSession | Action::SignTls);
            assert_eq!(answer.is_ok(), own, "{action}");
        }
    }

    #[test]
    fn no_network_identity_holds_a_ceremony_or_signs_with_the_ca() {
        for who in ["operator/ada", "auditor/eve", "agent/web1", "vault/server"] {
            for action in [
                Action::SystemInit,
                Action::KekManage,
                Action::BackupRestore,
                Action::KeyUnwrap,
                Action::SignCertificate,
                Action::SignTranscript,
                Action::SignDrill,
            ] {
                assert!(RoleAuthorizer.authorize(&spiffe(who), action, "x").is_err(), "{who}");
            }
        }
    }

    #[test]
    fn nobody_known_may_enrol_and_nothing_else() {
        for action in Action::ALL.iter().copied() {
            let answer = RoleAuthorizer.authorize(&Principal::Anonymous, action, "x");
            assert_eq!(answer.is_ok(), action == Action::AgentEnroll, "{action}");
        }
    }
}
