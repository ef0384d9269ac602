"""Turn unverified signature shares into one verified certificate signature, and find the bad ones.

Verifying each share costs one pairing check each (about 1 ms). Adding them up first and verifying
the sum costs one check for all. Only when that fails are the shares split in halves, again and
again, until the bad ones are alone: about 2k*log2(n/k) checks for k bad ones among n.

Why this is safe. A signature is returned only after *that exact sum* was verified against *that
exact set* of keys, so unforgeability of the multisignature says that every honest key in the set
signed. Nothing is concluded about single shares. That matters: s1+d and s2-d are both invalid and
their sum is valid. Code that marks the members of a verified batch as "verified" and later
aggregates only some of them builds an invalid certificate (anza-xyz/agave #12760). Here a half that
verifies stays together as one batch, and the batches are aggregated and verified again as one.

Consequences the caller must know:

* `good` may hold a cancelling pair. Their certificate is valid. Both belong to colluding faulty
  signers: an honest share is correct alone, and nobody else can send one in its name.
* `bad` is fit for dropping the share and distrusting the sender, not for evidence: whether a
  cancelling pair is flagged depends on whether a split separates it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hotstuff.crypto.bls import PublicKey, Signature
from hotstuff.errors import InvalidSignature


@dataclass(frozen=True, slots=True)
class Collected:
    """Result of `collect`: signer indices in ascending order, each in exactly one of the two.

    `signature` (96 B) was verified for exactly `good`; it is None when no set verified.
    """

    signature: bytes | None
    good: tuple[int, ...]
    bad: tuple[int, ...]


class _Share(NamedTuple):
    signer: int
    key: PublicKey
    message: bytes
    signature: Signature


def collect(shares: Sequence[tuple[int, PublicKey, bytes]], message: bytes) -> Collected:
    """Aggregate shares (signer index, its key, 96 B share) over one common message: votes.

    Raises ValueError when a signer index appears twice: its power would count twice.
    """
    return collect_groups([(signer, key, message, share) for signer, key, share in shares])


def collect_groups(shares: Sequence[tuple[int, PublicKey, bytes, bytes]]) -> Collected:
    """Aggregate shares (signer index, its key, message, 96 B share) over several messages: timeouts.

    Raises ValueError when a signer index appears twice: its power would count twice.
    """
    signers = {signer for signer, _, _, _ in shares}
    if len(signers) != len(shares):
        raise ValueError("collect: a signer index appears twice")
    batch = _decode(shares)
    signature = _certify(batch)
    if signature is None and batch:
        batch = _keep_verifying(batch)
        signature = _certify(batch)
    good = {share.signer for share in batch}
    return Collected(signature, tuple(sorted(good)), tuple(sorted(signers - good)))


def _decode(shares: Sequence[tuple[int, PublicKey, bytes, bytes]]) -> list[_Share]:
    """Decode shares, leaving out those that are no point of the subgroup.

    The subgroup check comes before any addition: parts of small order could cancel in the sum.
    """
    decoded = []
    for signer, key, message, share in shares:
        try:
            decoded.append(_Share(signer, key, message, Signature.from_bytes(share)))
        except InvalidSignature:
            continue
    return decoded


def _certify(batch: Sequence[_Share]) -> bytes | None:
    """Return the aggregate of exactly this batch if it verifies, else None."""
    if not batch:
        return None
    keys_of: dict[bytes, list[PublicKey]] = {}
    for share in batch:
        keys_of.setdefault(share.message, []).append(share.key)
    total = Signature.total([share.signature for share in batch])
    return total.to_bytes() if total.verifies([(keys, message) for message, keys in keys_of.items()]) else None


def _keep_verifying(batch: list[_Share]) -> list[_Share]:
    """Return the parts of a failed batch that verify as batches, in order."""
    if len(batch) == 1:
        return []
    left, right = batch[: len(batch) // 2], batch[len(batch) // 2 :]
    kept = left if _certify(left) else _keep_verifying(left)
    # The pairing equations of two halves multiply to that of the whole. So when the whole failed
    # and the left half holds, the right half fails: split it without asking. A single share is
    # still asked, because nobody may be called bad by inference.
    right_must_fail = len(kept) == len(left) and len(right) > 1
    if not right_must_fail and _certify(right):
        return kept + right
    return kept + _keep_verifying(right)
