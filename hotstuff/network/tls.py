"""TLS 1.3 between processes that know each other only by 32-byte Ed25519 node keys.

Python's `ssl` has no verification callback, so the pinning is done with certificates:

* For every allowed key K we build a *trust anchor* from K alone: subject ``CN=hex(K)``, ``CA:TRUE``, public key K.
  Nobody here holds K's private key, so the anchor is signed by a throw-away key. OpenSSL never checks the signature
  of a trust anchor: being in the store is what makes it trusted.
* The owner of K presents a *leaf*: subject key K, issuer ``CN=hex(K)``, signed with K. It chains to the anchor.
* OpenSSL checks the chain, TLS proves possession of the leaf's key, and `peer_key` reads that key for the caller, who
  must compare it with the set it allows: a validator could issue a leaf for some other key under its own anchor.

Dates carry no meaning (a wrong clock must not stop consensus), so the validity covers every date X.509 can express.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterable
from datetime import datetime, timezone

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hotstuff.errors import InvalidSignature

NODE_KEY_BYTES = 32

_NOT_BEFORE = datetime(1950, 1, 1, tzinfo=timezone.utc)  # the first and last dates that X.509 can express
_NOT_AFTER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)

_HAS_MEMFD = hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd")


def public_bytes(secret: Ed25519PrivateKey) -> bytes:
    """The 32-byte node key of a private key."""
    return secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: Ed25519PublicKey, *, ca: bool) -> x509.CertificateBuilder:
    """What an anchor and a leaf share: all extensions that ``VERIFY_X509_STRICT`` insists on."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(_key_usage(ca=ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def trust_anchor(node_key: bytes) -> bytes:
    """A PEM certificate that makes OpenSSL trust whatever `node_key` (32 bytes) signs.

    Raises:
        InvalidSignature: the bytes are not an Ed25519 public key.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(node_key)
    except ValueError as exc:
        raise InvalidSignature(f"node key {node_key.hex()}: {exc}") from exc
    name = _name(node_key.hex())
    # Issuer = subject, so that OpenSSL takes the anchor for a root and looks no further up.
    certificate = _builder(name, name, key, ca=True).sign(Ed25519PrivateKey.generate(), None)
    return certificate.public_bytes(Encoding.PEM)


def leaf_certificate(secret: Ed25519PrivateKey) -> bytes:
    """The PEM certificate with which the owner of `secret` presents itself."""
    key = secret.public_key()
    node_key = public_bytes(secret)
    builder = _builder(_name(f"node {node_key.hex()[:16]}"), _name(node_key.hex()), key, ca=False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key), critical=False)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(secret, None).public_bytes(Encoding.PEM)


def server_context(secret: Ed25519PrivateKey, allowed: Iterable[bytes]) -> ssl.SSLContext:
    """For accepting peers: presents `secret`'s leaf and demands a certificate of one of the `allowed` node keys."""
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    _load_identity(context, secret)
    _pin(context, allowed)
    return context


def peer_context(secret: Ed25519PrivateKey, allowed: Iterable[bytes]) -> ssl.SSLContext:
    """For dialling peers: presents `secret`'s leaf and accepts only servers with one of the `allowed` node keys."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    _load_identity(context, secret)
    _pin(context, allowed)
    return context


def client_facing_context(secret: Ed25519PrivateKey) -> ssl.SSLContext:
    """For accepting clients: proves the replica's node key, asks the client for nothing."""
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    _load_identity(context, secret)
    return context


def client_context(expected_node_key: bytes) -> ssl.SSLContext:
    """For clients: accepts only the replica that owns `expected_node_key`.

    The caller must still compare `peer_key` with the expected key, as the module text explains.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    _pin(context, [expected_node_key])
    return context


def peer_key(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> bytes:
    """The 32-byte node key whose possession the other side proved in a finished handshake.

    Raises:
        InvalidSignature: no certificate, or its key is not Ed25519.
    """
    der = ssl_object.getpeercert(binary_form=True)
    if der is None:
        raise InvalidSignature("the peer presented no certificate")
    try:
        key = x509.load_der_x509_certificate(der).public_key()
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise InvalidSignature(f"the peer's certificate does not parse: {exc}") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidSignature(f"the peer's certificate holds a {type(key).__name__}, expected an Ed25519 key")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _context(protocol: ssl._SSLMethod) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the key is the identity, the address is not
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # a resumed session would skip the certificate
    return context


def _pin(context: ssl.SSLContext, allowed: Iterable[bytes]) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    anchors = b"".join(trust_anchor(key) for key in allowed)
    if anchors:  # an empty set is a network of one validator: then nobody passes
        context.load_verify_locations(cadata=anchors.decode("ascii"))


def _load_identity(context: ssl.SSLContext, secret: Ed25519PrivateKey) -> None:
    """Give the context its key. `ssl` reads keys from files only, so the file exists for this one call."""
    key = secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem = key + leaf_certificate(secret)
    if _HAS_MEMFD:
        fd = os.memfd_create("hotstuff-tls", os.MFD_CLOEXEC)  # never touches a disk
        with open(fd, "wb") as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{fd}")
        return
    with tempfile.TemporaryDirectory(prefix="hotstuff-") as folder:  # mode 0700
        path = os.path.join(folder, "identity.pem")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        context.load_cert_chain(path)
