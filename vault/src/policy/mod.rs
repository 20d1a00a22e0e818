//! Who may do what: the one question that every operation asks first.

mod roles;

use std::fmt;

use vault_proto::ids::{Identity, SpiffeId};

pub use roles::RoleAuthorizer;

use crate::error::Result;
use crate::named::named_enum;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A verified client certificate's SPIFFE id.
    Spiffe(SpiffeId),
    /// A process on this machine, through the admin socket, by its user id.
    Local(u32),
    /// A room of the vault itself, for example `renewal`.
    Vault(&'static str),
    /// Nobody known: a TLS client without a certificate, who may enrol and nothing else.
    Anonymous,
}

impl Principal {
    /// The identity in a SPIFFE id, where it is one.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Spiffe(id) => Some(id.identity()),
            _ => None,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spiffe(id) => id.fmt(f),
            Self::Local(uid) => write!(f, "local:{uid}"),
            Self::Vault(room) => write!(f, "vault:{room}"),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}

named_enum!(
    /// What is asked, under the names that the audit log and policies use.
    Action, "action" {
        /// Initialise the vault.
        SystemInit = "system.init",
        /// See the vault's state.
        SystemStatus = "system.status",
        /// See which KEK there is, and who keeps its shares.
        KekRead = "kek.read",
        /// Rotate the KEK or replace its shares.
        KekManage = "kek.manage",
        /// Issue an identity to an operator or auditor.
        IdentityIssue = "identity.issue",
        /// Generate a key.
        KeyGenerate = "key.generate",
        /// See keys.
        KeyRead = "key.read",
        /// Replace a key by a new version.
        KeyRotate = "key.rotate",
        /// Destroy a key.
        KeyDestroy = "key.destroy",
        /// Have a key wrapped by the KEK, for a backup.
        KeyWrap = "key.wrap",
        /// Sign an operator's message.
        SignMessage = "key.sign.message",
        /// Sign a PKCS#10 request.
        SignCsr = "key.sign.csr",
        /// Sign an ACME JWS.
        SignJws = "key.sign.jws",
        /// Sign the revocation of a key's own certificate (RFC 8555 section 7.6).
        SignRevocation = "key.sign.revocation",
        /// Sign in a TLS handshake.
        SignTls = "key.sign.tls",
        /// Sign a certificate with the internal CA.
        SignCertificate = "key.sign.certificate",
        /// Sign the transcript of a KEK's ceremony.
        SignTranscript = "key.sign.transcript",
        /// Sign what a drill has proved.
        SignDrill = "key.sign.drill",
        /// See accounts.
        AccountRead = "account.read",
        /// Register, update, roll over or deactivate an account, or give its authorizations up.
        AccountManage = "account.manage",
        /// See certificates.
        CertificateRead = "certificate.read",
        /// Declare, update, renew, deploy, revoke or delete a certificate.
        CertificateManage = "certificate.manage",
        /// See agents.
        AgentRead = "agent.read",
        /// Invite or evict agents.
        AgentManage = "agent.manage",
        /// Join with a token.
        AgentEnroll = "agent.enroll",
        /// Renew the caller's own identity, hold its stream, hand in its CSRs.
        AgentSession = "agent.session",
        /// Read or verify the audit log.
        AuditRead = "audit.read",
        /// Make a backup.
        BackupCreate = "backup.create",
        /// Restore a backup into a vault that is not initialised.
        BackupRestore = "backup.restore",
        /// Have a backup's keys unwrapped into the token of a restore.
        KeyUnwrap = "key.unwrap",
        /// See which backups were made.
        BackupRead = "backup.read",
        /// Read a whole backup, which only its recipients can open.
        BackupFetch = "backup.fetch",
        /// Remove backups that retention does not keep.
        BackupPrune = "backup.prune",
        /// Record a drill.
        DrillRecord = "drill.record",
        /// See drills.
        DrillRead = "drill.read",
    }
);

/// Answers whether a principal may do something. The resource is written as in the audit log, for
/// example `key/shop` or `agent/web1`.
pub trait Authorizer: Send + Sync {
    /// # Errors
    /// `Denied` or `Unauthenticated`, with what the caller would need.
    fn authorize(&self, principal: &Principal, action: Action, resource: &str) -> Result<()>;
}
