//! TLS for the Postgres wire: a certificate and its key from PEM files, read again when the files change.
//!
//! Connections keep what they began with. Where new files do not fit together (one of two is written, most often) the old
//! ones stay in use, and the next change is looked at again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::pg::told_to_stop;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What a client that begins with TLS at once must ask for, so that nobody can pass on to us what was meant for another
/// server (PostgreSQL 17's `sslnegotiation=direct`).
pub(crate) const ALPN: &[u8] = b"postgresql";

/// The files, and what connections begin with now.
pub(crate) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<Identity>>,
}

/// What the server shows of itself.
pub(crate) struct Identity {
    pub(crate) acceptor: TlsAcceptor,
    /// RFC 5929's `tls-server-end-point`: the certificate's hash. None for a signature that names no hash.
    pub(crate) end_point: Option<Vec<u8>>,
}

/// When the files were changed last, and their sizes.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Tls {
    /// Errors: in words, that name the file.
    pub(crate) fn load(certificate: PathBuf, key: PathBuf) -> Result<Tls, String> {
        let identity = identity(&certificate, &key)?;
        Ok(Tls { certificate, key, current: RwLock::new(Arc::new(identity)) })
    }

    /// What a new connection begins with.
    pub(crate) fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again whenever they have changed or SIGHUP comes, until told to stop.
    pub(crate) async fn follow(self: Arc<Tls>, mut stop: watch::Receiver<bool>) {
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => hangup,
            Err(error) => return tracing::error!("certificates are not read again: {error}"),
        };
        let mut seen = self.stamp();
        loop {
            let asked = tokio::select! {
                () = told_to_stop(&mut stop) => return,
                _ = hangup.recv() => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            let stamp = self.stamp();
            if !asked && stamp == seen {
                continue;
            }
            seen = stamp;
            match identity(&self.certificate, &self.key) {
                Ok(identity) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(identity);
                    tracing::info!("the certificate was read again");
                }
                Err(error) => tracing::warn!("the certificate in use stays: {error}"),
            }
        }
    }

    fn stamp(&self) -> Stamp {
        [&self.certificate, &self.key].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
    }
}

fn identity(certificate: &Path, key: &Path) -> Result<Identity, String> {
    let of_file = |path: &Path, error: String| format!("{}: {error}", path.display());
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| of_file(certificate, error.to_string()))?;
    let end_point = chain.first().and_then(|leaf| end_point(leaf));
    let private_key = PrivateKeyDer::from_pem_file(key).map_err(|error| of_file(key, error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private_key))
        .map_err(|error| of_file(certificate, error.to_string()))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Identity { acceptor: TlsAcceptor::from(Arc::new(config)), end_point })
}

/// RSA's signatures, all but the last byte: 1.2.840.113549.1.1.
const RSA: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// ECDSA's signatures: 1.2.840.10045.4.
const ECDSA: [u8; 6] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];

/// The certificate's hash under the algorithm that its signature uses, SHA-256 in place of MD5 and SHA-1.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = signature_algorithm(certificate)?;
    let rsa = algorithm.strip_prefix(&RSA).and_then(|rest| match rest {
        [0x04 | 0x05 | 0x0b] => Some(256),
        [0x0c] => Some(384),
        [0x0d] => Some(512),
        [0x0e] => Some(224),
        _ => None,
    });
    let ecdsa = || {
        algorithm.strip_prefix(&ECDSA).and_then(|rest| match rest {
            [1] | [3, 2] => Some(256),
            [3, 1] => Some(224),
            [3, 3] => Some(384),
            [3, 4] => Some(512),
            _ => None,
        })
    };
    Some(match rsa.or_else(ecdsa)? {
        224 => Sha224::digest(certificate).to_vec(),
        256 => Sha256::digest(certificate).to_vec(),
        384 => Sha384::digest(certificate).to_vec(),
        _ => Sha512::digest(certificate).to_vec(),
    })
}

/// The identifier of the signature's algorithm: `Certificate ::= SEQUENCE { tbs, SEQUENCE { OID, .. }, signature }`.
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = element(certificate, 0x30)?;
    let (_, rest) = element(certificate, 0x30)?;
    let (algorithm, _) = element(rest, 0x30)?;
    Some(element(algorithm, 0x06)?.0)
}

/// The content of the DER element that `bytes` start with, which must have this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(2)?;
    if head[0] != tag {
        return None;
    }
    let (length, rest) = match head[1] {
        short @ 0..0x80 => (usize::from(short), rest),
        long => {
            let (digits, rest) =
                rest.split_at_checked(usize::from(long & 0x7f)).filter(|(digits, _)| digits.len() <= 4)?;
            (digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit)), rest)
        }
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_within_their_bounds() {
        assert_eq!(element(&[0x30, 2, 1, 2, 3], 0x30), Some((&[1, 2][..], &[3][..])));
        let mut long = vec![0x30, 0x82, 0x01, 0x00];
        long.extend([7; 256]);
        assert_eq!(element(&long, 0x30), Some((&[7; 256][..], &[][..])));
        for broken in [&[][..], &[0x30], &[0x31, 0], &[0x30, 5, 1], &[0x30, 0x85, 1, 1, 1, 1, 1], &[0x30, 0x82, 1]] {
            assert_eq!(element(broken, 0x30), None, "{broken:?}");
        }
    }

    #[test]
    fn the_hash_is_the_signature_s_own() {
        let certificate = |oid: &[u8]| {
            let algorithm = [&[0x30, oid.len() as u8 + 2, 0x06, oid.len() as u8][..], oid].concat();
            let body = [&[0x30, 1, 0][..], &algorithm, &[0x03, 1, 0]].concat();
            [&[0x30, body.len() as u8][..], &body].concat()
        };
        let length = |oid: &[u8]| end_point(&certificate(oid)).map(|hash| hash.len());
        assert_eq!(length(&[&RSA[..], &[0x0b]].concat()), Some(32));
        assert_eq!(length(&[&RSA[..], &[0x05]].concat()), Some(32));
        assert_eq!(length(&[&ECDSA[..], &[3, 3]].concat()), Some(48));
        assert_eq!(length(&[&RSA[..], &[0x0d]].concat()), Some(64));
        // RSASSA-PSS says its hash elsewhere, Ed25519 (1.3.101.112) has none.
        assert_eq!(length(&[&RSA[..], &[0x0a]].concat()), None);
        assert_eq!(length(&[0x2b, 0x65, 0x70]), None);
    }
}
