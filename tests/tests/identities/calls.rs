//! Raw calls: every method of every service, by those who may not.

use testkit::{
    grpc::{self, Certificate, call, methods},
    vault::Vault,
};
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use vault_proto::{
    error::ErrorDetail,
    v1::{
        self, certificate_service_client::CertificateServiceClient,
        key_service_client::KeyServiceClient,
    },
};

/// The one method that asks for no certificate.
const ENROLL: &str = "/keyvault.v1.AgentSessionService/Enroll";
/// What an agent may call.
const AGENTS: &str = "/keyvault.v1.AgentSessionService/";

/// A vault, and its root as PEM.
fn vault() -> (Vault, String) {
    let vault = Vault::initialized();
    let (_, root) = Certificate::issued(&vault, "ada", "operator");
    (vault, root)
}

#[tokio::test]
async fn nobody_known_may_do_nothing_but_enrol() {
    let (vault, root) = vault();
    let channel = grpc::network(vault.address, &root, None).await.unwrap();
    for path in methods() {
        let status = call(&channel, &path).await.expect_err(&path);
        let detail = ErrorDetail::from_status(&status);
        match path.as_str() {
            // Read and found wanting.
            ENROLL => assert_eq!(status.code(), Code::InvalidArgument, "{status:?}"),
            _ => {
                assert_eq!(status.code(), Code::Unauthenticated, "{path}: {status:?}");
                assert_eq!(detail.kind().exit_code(), 4, "{path}");
                assert!(detail.hint.contains("client certificate"), "{path}: {detail:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_operator_s_certificate_is_no_agent_s() {
    let (vault, root) = vault();
    let certificate = Certificate::of(&vault.file("ada"));
    let channel = grpc::network(vault.address, &root, Some(&certificate)).await.unwrap();
    for path in methods().iter().filter(|path| path.starts_with(AGENTS)) {
        let status = call(&channel, path).await.expect_err(path);
        assert_eq!(status.code(), Code::PermissionDenied, "{path}: {status:?}");
    }
}

#[tokio::test]
async fn an_auditor_s_renewal_is_refused() {
    let (vault, root) = vault();
    let eve = Certificate::of(&vault.issue("eve", "auditor"));
    let channel = grpc::network(vault.address, &root, Some(&eve)).await.unwrap();
    let request = v1::RenewCertificateRequest { name: "shop".into(), force: true };
    let renewed = CertificateServiceClient::new(channel).renew_certificate(request).await;
    assert_eq!(renewed.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn health_and_reflection_answer_to_everybody() {
    let (vault, root) = vault();
    let local = grpc::local(&vault.file("admin.sock")).await.unwrap();
    let network = grpc::network(vault.address, &root, None).await.unwrap();
    for channel in [local, network] {
        let health = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await;
        assert_eq!(health.unwrap().into_inner().status, 1, "SERVING");
        let list = MessageRequest::ListServices(String::new());
        let list = ServerReflectionRequest { message_request: Some(list), ..Default::default() };
        let asked = tokio_stream::once(list);
        let answered = ServerReflectionClient::new(channel).server_reflection_info(asked).await;
        let answer = answered.unwrap().into_inner().next().await.unwrap().unwrap();
        let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
            panic!("{answer:?}")
        };
        let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        for path in methods() {
            let service = path.split('/').nth(1).unwrap().to_owned();
            assert!(names.contains(&service), "{service} is not among {names:?}");
        }
    }
}

/// A record that nobody could read again would keep the vault from starting.
#[tokio::test]
async fn no_caller_makes_a_record_too_long_to_be_read() {
    let (mut vault, root) = vault();
    let eve = Certificate::of(&vault.issue("eve", "auditor"));
    let operator = Certificate::of(&vault.file("ada"));
    vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    let long = "x".repeat(2 << 20);
    let label = "x".repeat(60);
    let many: Vec<_> =
        (0..1000).map(|number| format!("{number}.{label}.{label}.{label}")).collect();
    let more = vec![many.clone(); 10].concat();

    let channel = grpc::network(vault.address, &root, Some(&eve)).await.unwrap();
    let mut keys = KeyServiceClient::new(channel);
    keys.destroy_key(v1::DestroyKeyRequest { name: long.clone() }).await.unwrap_err();
    keys.get_key(v1::GetKeyRequest { name: long.clone() }).await.unwrap_err();

    let channel = grpc::network(vault.address, &root, Some(&operator)).await.unwrap();
    let mut keys = KeyServiceClient::new(channel);
    for domains in [many, more] {
        let request = v1::CreateCsrRequest { key: "k".into(), domains, ..Default::default() };
        let status = keys.create_csr(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    let labels = [("note".to_owned(), long)].into_iter().collect();
    let request = v1::GenerateKeyRequest { name: "l".into(), labels, ..Default::default() };
    let _ = keys.generate_key(request).await;

    assert_eq!(vault.json(&["audit", "verify"])["ok"], true);
    vault.stop();
    vault.start();
    vault.ok(&["key", "show", "k"]);
}
