from __future__ import annotations

import os
import ssl
import stat
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from network_helpers import KEYS, SECRETS, STRANGER

from hotstuff.errors import InvalidSignature
from hotstuff.network import tls

A, B = SECRETS[0], SECRETS[1]
KEY_A, KEY_B, KEY_X = KEYS[0], KEYS[1], tls.public_bytes(STRANGER)


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A handshake in memory. Raises the first side's error."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)]
    waiting = list(sides)
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
    assert not waiting
    return sides[1], sides[0]


def context_with(pem: bytes, protocol: int, tmp_path: Path) -> ssl.SSLContext:
    path = tmp_path / "identity.pem"
    path.write_bytes(pem)
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(path)
    return context


def pem_of(secret: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def forged_leaf(subject: Ed25519PublicKey, issuer_key: bytes, signer: Ed25519PrivateKey) -> bytes:
    """A leaf that claims to be issued by the owner of `issuer_key`."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer_key.hex())])
    builder = tls._builder(tls._name("forged"), name, subject, ca=False)
    issuer = Ed25519PublicKey.from_public_bytes(issuer_key)
    aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer)
    return builder.add_extension(aki, critical=False).sign(signer, None).public_bytes(Encoding.PEM)


def test_both_sides_learn_the_other_ones_node_key() -> None:
    server, client = shake_hands(tls.server_context(A, [KEY_B, KEY_X]), tls.peer_context(B, [KEY_A, KEY_X]))
    assert tls.peer_key(server) == KEY_B
    assert tls.peer_key(client) == KEY_A
    assert server.version() == "TLSv1.3"


def test_strict_verification_is_on() -> None:
    assert tls.server_context(A, [KEY_B]).verify_flags & ssl.VERIFY_X509_STRICT
    assert tls.peer_context(A, [KEY_B]).verify_flags & ssl.VERIFY_X509_STRICT


@pytest.mark.parametrize("allowed", [[], [KEY_X]])
def test_an_unknown_key_is_refused_by_either_side(allowed: list[bytes]) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tls.server_context(A, allowed), tls.peer_context(B, [KEY_A]))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tls.server_context(A, [KEY_B]), tls.peer_context(B, allowed))


@pytest.mark.parametrize("holder", [STRANGER, B])
def test_a_leaf_for_a_known_key_signed_by_another_key_is_refused(holder: Ed25519PrivateKey, tmp_path: Path) -> None:
    pem = pem_of(holder) + forged_leaf(holder.public_key(), KEY_A, STRANGER)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(context_with(pem, ssl.PROTOCOL_TLS_SERVER, tmp_path), tls.peer_context(B, [KEY_A]))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tls.server_context(B, [KEY_A]), context_with(pem, ssl.PROTOCOL_TLS_CLIENT, tmp_path))


def test_a_certificate_without_its_private_key_is_useless(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLError):
        context_with(pem_of(STRANGER) + tls.leaf_certificate(A), ssl.PROTOCOL_TLS_SERVER, tmp_path)


def test_a_leaf_that_a_validator_issued_to_a_stranger_shows_the_strangers_key(tmp_path: Path) -> None:
    """OpenSSL accepts it, which is why the caller must compare the key."""
    pem = pem_of(STRANGER) + forged_leaf(STRANGER.public_key(), KEY_A, A)
    _, client = shake_hands(context_with(pem, ssl.PROTOCOL_TLS_SERVER, tmp_path), tls.peer_context(B, [KEY_A]))
    assert tls.peer_key(client) == KEY_X


def test_the_trust_anchor_is_no_identity(tmp_path: Path) -> None:
    """Everyone can make the anchor of A; presenting it needs A's private key all the same."""
    with pytest.raises(ssl.SSLError):
        context_with(pem_of(STRANGER) + tls.trust_anchor(KEY_A), ssl.PROTOCOL_TLS_SERVER, tmp_path)


def test_a_self_signed_certificate_is_refused(tmp_path: Path) -> None:
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, KEY_A.hex())])
    certificate = (
        x509.CertificateBuilder(name, name, secret.public_key(), 1)
        .not_valid_before(datetime(2000, 1, 1, tzinfo=timezone.utc))
        .not_valid_after(datetime(2100, 1, 1, tzinfo=timezone.utc))
        .sign(secret, SHA256())
    )
    pem = pem_of(secret) + certificate.public_bytes(Encoding.PEM)
    server = context_with(pem, ssl.PROTOCOL_TLS_SERVER, tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, tls.peer_context(B, [KEY_A]))
    unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unchecked.check_hostname = False
    unchecked.load_verify_locations(cadata=certificate.public_bytes(Encoding.PEM).decode())
    _, client = shake_hands(server, unchecked)
    with pytest.raises(InvalidSignature, match="expected an Ed25519 key"):
        tls.peer_key(client)


def test_no_certificate_is_refused() -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
        shake_hands(tls.server_context(A, [KEY_B]), tls.client_context(KEY_A))


def test_tls_1_2_is_refused() -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake_hands(tls.client_facing_context(A), old)


def test_clients_pin_the_replica_and_show_nothing() -> None:
    server, client = shake_hands(tls.client_facing_context(A), tls.client_context(KEY_A))
    assert tls.peer_key(client) == KEY_A
    with pytest.raises(InvalidSignature, match="no certificate"):
        tls.peer_key(server)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tls.client_facing_context(A), tls.client_context(KEY_B))


def test_no_session_can_be_resumed() -> None:
    assert tls.server_context(A, [KEY_B]).num_tickets == 0


@pytest.mark.parametrize("pem", [tls.leaf_certificate(A), tls.trust_anchor(KEY_A)])
def test_no_clock_is_ever_outside_the_validity(pem: bytes) -> None:
    certificate = x509.load_pem_x509_certificate(pem)
    assert certificate.not_valid_before_utc <= datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert certificate.not_valid_after_utc.year == 9999


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_what_is_no_key_cannot_be_trusted(key: bytes) -> None:
    with pytest.raises(InvalidSignature, match="node key"):
        tls.trust_anchor(key)


def test_without_memfd_the_key_file_is_private_and_short_lived(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    class Spy(ssl.SSLContext):
        def load_cert_chain(self, certfile, keyfile=None, password=None):  # type: ignore[no-untyped-def]
            seen.append((os.stat(certfile).st_mode, os.stat(os.path.dirname(certfile)).st_mode))
            super().load_cert_chain(certfile, keyfile, password)

    monkeypatch.setattr(tls, "_HAS_MEMFD", False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tls._load_identity(Spy(ssl.PROTOCOL_TLS_SERVER), A)
    assert [(stat.S_IMODE(file), stat.S_IMODE(folder)) for file, folder in seen] == [(0o600, 0o700)]
    assert list(tmp_path.iterdir()) == []
