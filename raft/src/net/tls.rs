//! TLS between nodes: version 1.3 alone, raw public keys on both sides (RFC 8446, RFC 7250), no
//! certificates, no resumption.
//!
//! A session that is resumed shows no key, so that whoever was removed would come back in by it:
//! the acceptor gives out no tickets and keeps no sessions, the dialer asks for none. The dialer
//! knows the key that it wants to see, and says so in the server name, since a node whose key is
//! being changed has two. The acceptor takes any key here and looks it up afterwards: what may be
//! said with it is decided where the members are known (`gate`).

use std::io;
use std::sync::Arc;

use pickbox_raft_core::ids::Fingerprint;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct,
    DistinguishedName, Error, PeerIncompatible, ServerConfig, SignatureScheme,
};

use crate::keys::{KeyRing, NodeKey, fingerprint};

/// What members speak (RFC 7301); the number is that of the protocol.
pub(crate) const MEMBER: &[u8] = b"pickbox/3";
/// What a node speaks that wants to become a member.
pub(crate) const JOIN: &[u8] = b"pickbox-join/1";

fn provider() -> Arc<CryptoProvider> {
    use rustls::crypto::ring;
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    })
}

/// What accepted connections are served with.
///
/// # Errors
/// None with the provider above.
pub(crate) fn acceptor(keys: &KeyRing) -> Result<Arc<ServerConfig>, Error> {
    let provider = provider();
    let verifier = AnyKey(provider.signature_verification_algorithms);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(WantedKey(keys.clone())));
    config.alpn_protocols = vec![MEMBER.to_vec(), JOIN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Which keys a dialer takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pin {
    /// One of these, the first of them if there is a choice.
    OneOf(Vec<Fingerprint>),
    /// Any: the caller has another way to tell who it is.
    Any,
}

/// A connection that is to be dialed by the node with the key `mine`.
///
/// # Errors
/// None with the provider above.
pub(crate) fn dialer(mine: &NodeKey, pin: Pin, alpn: &[u8]) -> Result<ClientConnection, Error> {
    let name = match &pin {
        Pin::OneOf(keys) => server_name(keys.first().copied().unwrap_or_default()),
        Pin::Any => server_name(Fingerprint::default()),
    };
    ClientConnection::new(Arc::new(configuration(mine, pin, alpn)?), name?)
}

/// What connections are dialed with.
///
/// # Errors
/// None with the provider above.
pub(crate) fn configuration(mine: &NodeKey, pin: Pin, alpn: &[u8]) -> Result<ClientConfig, Error> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let mine = AlwaysResolvesClientRawPublicKeys::new(mine.certified());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedKey { pin, algorithms }))
        .with_client_cert_resolver(Arc::new(mine));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// A key as the name of a server: two labels of 32 hex digits, since one has at most 63 bytes.
fn server_name(key: Fingerprint) -> Result<ServerName<'static>, Error> {
    let digits = key.to_string();
    let (first, second) = digits.split_at(32);
    let name = ServerName::try_from(format!("{first}.{second}.key"));
    name.map_err(|_| Error::General("a fingerprint is a name".to_owned()))
}

fn wanted(name: &str) -> Option<Fingerprint> {
    let digits: String = name.strip_suffix(".key")?.split('.').collect();
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    bytes?.try_into().ok().map(Fingerprint)
}

/// The key that the other side has proved to have.
pub(crate) fn shown(certificates: Option<&[CertificateDer<'_>]>) -> Option<Fingerprint> {
    certificates?.first().map(|key| fingerprint(key))
}

/// Why a connection failed, as people need to know it.
pub(crate) fn in_words(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        None => error.to_string(),
        Some(Error::InvalidCertificate(_)) => {
            "whoever is there shows another key than the one that it should have".to_owned()
        }
        Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            "whoever is there speaks another version of the protocol".to_owned()
        }
        Some(Error::AlertReceived(AlertDescription::AccessDenied)) => {
            "whoever is there wants another key than the one that this node has".to_owned()
        }
        Some(error) => format!("no TLS of ours: {error}"),
    }
}

fn verify_signature(
    message: &[u8],
    key: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = SubjectPublicKeyInfoDer::from(key.as_ref());
    verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
}

/// TLS 1.2 is not spoken: it never comes to this.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(PeerIncompatible::Tls12NotOffered.into())
}

/// The acceptor's key: the one that the dialer wants to see, if this node has it.
#[derive(Debug)]
struct WantedKey(KeyRing);

impl ResolvesServerCert for WantedKey {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.wanted(hello.server_name().and_then(wanted)).certified())
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }
}

/// Takes any key that its owner has proved to have.
#[derive(Debug)]
struct AnyKey(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, key, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Takes the keys that are expected.
#[derive(Debug)]
struct PinnedKey {
    pin: Pin,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.pin {
            Pin::OneOf(keys) if !keys.contains(&fingerprint(key)) => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            Pin::OneOf(_) | Pin::Any => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, key, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
