"""The secret keys of one validator, in a file that nobody else may read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hotstuff.crypto.bls import SecretKey
from hotstuff.crypto.ed25519 import NodeSecret
from hotstuff.errors import ConfigError
from hotstuff.node.files import Fields, read_json, write_json
from hotstuff.types.hashing import possession_message

SECRET_BYTES = 32
KNOWN_FIELDS = ("bls_secret", "node_secret")


@dataclass(frozen=True)
class Keys:
    """The BLS key (votes, timeouts) and the Ed25519 node key (TLS identity, proposals, batches)."""

    bls: SecretKey
    node: NodeSecret

    @classmethod
    def generate(cls, seed: bytes) -> Keys:
        """Both keys from one random seed of at least 32 bytes."""
        return cls(SecretKey.generate(seed), NodeSecret.generate(seed))

    def possession(self, network_name: str) -> bytes:
        """Proof that the owner of the node key has the BLS key too (96 B), for one network."""
        message = possession_message(network_name.encode(), self.node.public_key(), self.bls.public_key().to_bytes())
        return self.bls.prove_possession(message)

    def save(self, path: Path) -> None:
        """Writes a new file with mode 0600."""
        secrets = {"bls_secret": self.bls.to_bytes().hex(), "node_secret": self.node.to_bytes().hex()}
        write_json(path, secrets, mode=0o600)

    @classmethod
    def load(cls, path: Path) -> Keys:
        """Reads a key file; refuses one that others may read. Messages never show what is in it."""
        content = read_json(path)
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            raise ConfigError(str(path), f"mode {mode:04o}", f"mode 0600: run chmod 600 {path}")
        try:
            fields = Fields(content, str(path))
            values = [fields.hex(field, SECRET_BYTES) for field in KNOWN_FIELDS]
            fields.finish(KNOWN_FIELDS)
        except ConfigError as error:
            # Whatever stands in this file, under whatever name, may be a secret.
            raise ConfigError(error.field, "(hidden)", error.allowed) from None
        try:
            return cls(SecretKey.from_bytes(values[0]), NodeSecret.from_bytes(values[1]))
        except ValueError:
            raise ConfigError(str(path), "(hidden)", "valid secret keys, as written by hotstuff testnet") from None
