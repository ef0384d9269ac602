"""The genesis file: what every replica and client of a network must agree on, and its hash, the chain id."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hotstuff.consensus.leaders import Leaders, RoundRobin, Weighted
from hotstuff.crypto import bls
from hotstuff.errors import ConfigError, InvalidSignature
from hotstuff.node.files import Fields, read_json, write_json
from hotstuff.types.encoding import U8, blob
from hotstuff.types.hashing import Context, Domain, Mode, digest, possession_message
from hotstuff.types.validators import (
    BLS_KEY_BYTES,
    BLS_SIGNATURE_BYTES,
    MAX_TOTAL_POWER,
    NODE_KEY_BYTES,
    Validator,
    ValidatorSet,
)

FIRST_EPOCH = 1
# What this version can run; a genesis file with another protocol is refused.
PROTOCOLS = {mode.name.lower(): mode for mode in Mode}
ROTATIONS = ("weighted", "equal")
# A leader that fails takes its whole run of views with it: longer runs have no use.
MAX_STICKY_VIEWS = 64
NAME_CHARACTERS_MAX = 64
NAME_ALLOWED = f"1 to {NAME_CHARACTERS_MAX} characters"


def is_name(text: str) -> bool:
    """Whether this can be the name of a network. A command line can hold bytes that are no characters."""
    return 1 <= len(text) <= NAME_CHARACTERS_MAX and not any("\ud800" <= c <= "\udfff" for c in text)


@dataclass(frozen=True)
class Rotation:
    """Who leads: in proportion to power or in equal turns, `sticky` views in a row."""

    turns: str = "weighted"
    sticky: int = 1

    def leaders(self, validators: ValidatorSet) -> Leaders:
        """The schedule for these validators."""
        if self.turns == "equal":
            return RoundRobin(len(validators), self.sticky)
        return Weighted([validator.power for validator in validators.validators], self.sticky)


DEFAULT_ROTATION = Rotation()


@dataclass(frozen=True)
class Genesis:
    """Name, protocol, leaders and validators with their proofs of possession (96 B each, in the order of the set)."""

    name: str
    protocol: str
    validators: ValidatorSet
    possessions: tuple[bytes, ...]
    rotation: Rotation = DEFAULT_ROTATION

    @cached_property
    def chain_id(self) -> bytes:
        """Hash of everything in the file, not of its spelling."""
        rotation = U8.pack(ROTATIONS.index(self.rotation.turns)) + U8.pack(self.rotation.sticky)
        parts = [blob(self.name.encode()), U8.pack(PROTOCOLS[self.protocol]), rotation, blob(self.validators.encoding)]
        return digest(Domain.GENESIS, *parts, *self.possessions)

    @cached_property
    def context(self) -> Context:
        """What signatures are bound to."""
        return Context(PROTOCOLS[self.protocol], self.chain_id, self.validators.epoch, self.validators.hash)

    def index_of(self, bls_key: bytes) -> int | None:
        """The index of a validator by its BLS key."""
        keys = [validator.bls_key for validator in self.validators.validators]
        return keys.index(bls_key) if bls_key in keys else None

    @classmethod
    def load(cls, path: Path) -> Genesis:
        """Reads and checks a genesis file, proofs of possession included (about 1 ms each)."""
        fields = Fields(read_json(path), str(path))
        name = fields.take("name", str, NAME_ALLOWED, is_name)
        protocol = fields.take("protocol", str, " or ".join(PROTOCOLS), lambda v: v in PROTOCOLS)
        rotation = _read_rotation(fields, str(path))
        entries = fields.take("validators", list, "a list of validators", lambda v: len(v) > 0)
        fields.finish(("name", "protocol", "leaders", "validators"))
        members = [_read_member(entry, f"{path}: validators[{i}]", name) for i, entry in enumerate(entries)]
        members.sort(key=lambda member: member[0].bls_key)
        try:
            validators = ValidatorSet(FIRST_EPOCH, tuple(validator for validator, _ in members))
        except ValueError as error:
            raise ConfigError(f"{path}: validators", str(error), "a valid set") from None
        return cls(name, protocol, validators, tuple(possession for _, possession in members), rotation)

    def save(self, path: Path) -> None:
        """Writes a new genesis file."""
        entries = [
            {
                "node_key": validator.node_key.hex(),
                "bls_key": validator.bls_key.hex(),
                "possession": possession.hex(),
                "power": validator.power,
            }
            for validator, possession in zip(self.validators.validators, self.possessions, strict=True)
        ]
        leaders = {"turns": self.rotation.turns, "sticky": self.rotation.sticky}
        write_json(path, {"name": self.name, "protocol": self.protocol, "leaders": leaders, "validators": entries})


def _read_rotation(fields: Fields, where: str) -> Rotation:
    leaders = Fields(fields.optional("leaders", dict, {}, "an object with turns and sticky"), f"{where}: leaders")
    turns = leaders.optional("turns", str, Rotation.turns, " or ".join(ROTATIONS), lambda v: v in ROTATIONS)
    sticky = leaders.integer("sticky", Rotation.sticky, 1, MAX_STICKY_VIEWS)
    leaders.finish(("turns", "sticky"))
    return Rotation(turns, sticky)


def _read_member(entry: object, where: str, name: str) -> tuple[Validator, bytes]:
    fields = Fields(entry, where)
    node_key, bls_key = fields.hex("node_key", NODE_KEY_BYTES), fields.hex("bls_key", BLS_KEY_BYTES)
    possession = fields.hex("possession", BLS_SIGNATURE_BYTES)
    power = fields.integer("power", 1, 1, MAX_TOTAL_POWER)
    fields.finish(("node_key", "bls_key", "possession", "power"))
    try:
        public_key = bls.PublicKey.from_bytes(bls_key)
    except InvalidSignature as error:
        raise ConfigError(fields.name("bls_key"), bls_key.hex(), f"a valid public key ({error})") from None
    # Without this, a key chosen as a function of the others could sign for all of them (rule 1.3).
    if not bls.verify_possession(public_key, possession_message(name.encode(), node_key, bls_key), possession):
        raise ConfigError(fields.name("possession"), possession.hex(), "a proof by this BLS key for this node key")
    return Validator(node_key, bls_key, power), possession
