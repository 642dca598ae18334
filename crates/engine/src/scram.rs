//! SCRAM-SHA-256's arithmetic (RFC 5802, RFC 7677): what is kept of a password, and how it is shown to be known.
//!
//! Kept is a verifier, in PostgreSQL's text form, from which the password cannot be read back:
//! `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, all but the number in base64. The exchange of messages is
//! the server's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// PostgreSQL's count of iterations and length of the salt.
const ITERATIONS: u32 = 4096;
const SALT_BYTES: usize = 16;

/// What is kept of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    /// How often the password is hashed.
    pub iterations: u32,
    /// What it is hashed with.
    pub salt: Vec<u8>,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

impl Verifier {
    /// A new password's, under a random salt. Takes some milliseconds.
    pub fn new(password: &str) -> Verifier {
        Verifier::with_salt(password, rand::random::<[u8; SALT_BYTES]>().to_vec(), ITERATIONS)
    }

    fn with_salt(password: &str, salt: Vec<u8>, iterations: u32) -> Verifier {
        let salted = salted(password, &salt, iterations);
        let client_key = hmac(&salted, &[b"Client Key"]);
        let stored_key = Sha256::digest(client_key).into();
        Verifier { iterations, salt, stored_key, server_key: hmac(&salted, &[b"Server Key"]) }
    }

    /// The verifier in PostgreSQL's text form; None if it is not one.
    pub fn parse(text: &str) -> Option<Verifier> {
        let (parameters, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
        Some(Verifier {
            iterations: iterations.parse().ok().filter(|iterations| *iterations > 0)?,
            salt: STANDARD.decode(salt).ok()?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }

    /// One that no password satisfies and that looks like any other: the same each time for the same name and secret, so that
    /// who asks twice cannot tell that there is no such role.
    pub(crate) fn mock(name: &str, secret: &[u8]) -> Verifier {
        let salt = hmac(secret, &[b"salt", name.as_bytes()])[..SALT_BYTES].to_vec();
        // Of no password: nobody knows what hashes to them.
        Verifier { iterations: ITERATIONS, salt, stored_key: rand::random(), server_key: rand::random() }
    }

    /// Whether this is the password. Takes some milliseconds.
    pub fn is_of(&self, password: &str) -> bool {
        let other = Verifier::with_salt(password, self.salt.clone(), self.iterations);
        self.stored_key.ct_eq(&other.stored_key).into()
    }

    /// Whether `proof` shows that the password is known, for the exchange that `message` is: what the client signed.
    pub fn is_proven_by(&self, proof: &[u8], message: &str) -> bool {
        let Ok(proof) = <[u8; 32]>::try_from(proof) else { return false };
        let signature = hmac(&self.stored_key, &[message.as_bytes()]);
        let client_key: Vec<u8> = proof.iter().zip(signature).map(|(proof, signature)| proof ^ signature).collect();
        let stored_key: [u8; 32] = Sha256::digest(client_key).into();
        self.stored_key.ct_eq(&stored_key).into()
    }

    /// What shows the client that we know its verifier too.
    pub fn server_signature(&self, message: &str) -> [u8; 32] {
        hmac(&self.server_key, &[message.as_bytes()])
    }
}

impl std::fmt::Display for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [salt, stored_key, server_key] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|bytes| STANDARD.encode(bytes));
        write!(f, "SCRAM-SHA-256${}:{salt}${stored_key}:{server_key}", self.iterations)
    }
}

/// PBKDF2 of the password as SASLprep makes it, or as it is where SASLprep refuses it, as PostgreSQL does.
fn salted(password: &str, salt: &[u8], iterations: u32) -> [u8; 32] {
    let prepared = stringprep::saslprep(password);
    let password = prepared.as_deref().unwrap_or(password).as_bytes();
    let mut block = hmac(password, &[salt, &1u32.to_be_bytes()]);
    let mut sum = block;
    for _ in 1..iterations {
        block = hmac(password, &[&block]);
        sum.iter_mut().zip(block).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_comes_back_from_its_text() {
        let verifier = Verifier::new("pencil");
        assert_eq!(Verifier::parse(&verifier.to_string()), Some(verifier.clone()));
        assert!(verifier.is_of("pencil"));
        assert!(!verifier.is_of("pen"));
        for text in ["", "SCRAM-SHA-256$", "SCRAM-SHA-256$4096:c2FsdA==$AAAA:AAAA", "md5abc", "SCRAM-SHA-256$0:$:"] {
            assert_eq!(Verifier::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_exchange_of_rfc_7677_is_proven() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let verifier = Verifier::with_salt("pencil", salt, 4096);
        let message = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
                       r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
                       c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let proof = STANDARD.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").expect("base64");
        assert!(verifier.is_proven_by(&proof, message));
        assert!(!verifier.is_proven_by(&proof, "another"));
        assert!(!verifier.is_proven_by(&proof[1..], message));
        let signature = STANDARD.encode(verifier.server_signature(message));
        assert_eq!(signature, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_mock_looks_the_same_each_time() {
        let (one, two) = (Verifier::mock("nobody", b"secret"), Verifier::mock("nobody", b"secret"));
        assert_eq!((one.salt.clone(), one.iterations), (two.salt, two.iterations));
        assert_ne!(one.salt, Verifier::mock("somebody", b"secret").salt);
    }
}
