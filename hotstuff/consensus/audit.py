"""After the fact: who is to blame, from what several replicas have stored.

If two conflicting blocks were committed, validators with at least a third of the power contradict themselves in the
certificates below the two. Let b be committed in view v, and let d be the first block with a higher view that is
certified on the other branch. (Two certificates of one view, v included, are double votes of more than a third.)

    chained, hotstuff2   the QC that commits b proves a lock of view v, of a quorum. d is justified below v. Whoever
                         signed both that QC and the QC of d violated its lock.
    jolteon              the QC that commits b proves knowledge of a QC of view v. d is justified below v, so it was
                         entered by a TC of a view above v whose signers all reported less than v. Whoever signed both
                         lied. The TC itself is needed: d names it by its hash only.
    basic                as chained, with the COMMIT-QC of b and the PREPARE-QC of d. The latter is needed itself: a
                         later vote for d does not say that its signer voted for d in the first place. With d in view
                         v, its PREPARE-QC and the one of b are double votes.

Two quorums share more than a third of the power, and none of the honest: see `types.evidence`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hotstuff.consensus.contradictions import Contradictions
from hotstuff.types.block import Header
from hotstuff.types.certificates import QC, TC
from hotstuff.types.evidence import Evidence
from hotstuff.types.hashing import Mode
from hotstuff.types.messages import Timeout, Vote
from hotstuff.types.statements import GaveUp, TimeoutShare, Voted


def audit(
    mode: Mode,
    headers: Iterable[Header],
    qcs: Iterable[QC],
    tcs: Iterable[TC],
    *,
    votes: Iterable[Vote] = (),
    timeouts: Iterable[Timeout] = (),
    genuine: Callable[[Evidence], bool] = lambda _: True,
) -> list[Evidence]:
    """Evidence for everything that somebody did, once for each kind, view and validator, by ascending view.

    QCs inside headers and TCs count as given. `genuine` tells which evidence verifies (`proof.verify`): needed unless
    everything given was verified before. One epoch at a time.
    """
    all_headers = {header.id: header for header in headers}
    all_tcs = {tc.key: tc for tc in tcs}
    inner = (*(header.justify for header in all_headers.values()), *(tc.high_qc for tc in all_tcs.values()))
    all_qcs = {qc.key: qc for qc in (*qcs, *inner)}
    contradictions = Contradictions(mode)
    for header in all_headers.values():
        contradictions.header(header)
    # Certificates before shares: evidence against many is better than many pieces against one. In each view the votes
    # before the timeouts: everything looks back at what is below it, and hardly ever finds anything ahead.
    statements: list[tuple[int, int, Voted | GaveUp]] = [(qc.view, 0, qc) for qc in all_qcs.values()]
    statements += ((vote.view, 1, vote) for vote in votes)
    statements += ((tc.view, 2, tc) for tc in all_tcs.values())
    statements += ((timeout.view, 3, TimeoutShare.of(timeout)) for timeout in timeouts)
    statements.sort(key=lambda entry: entry[:2])
    found: list[Evidence] = []
    convicted: set[tuple[int, int, int]] = set()
    for _, _, said in statements:
        for evidence in _heard(contradictions, said):
            charges = {(evidence.kind, culprit, evidence.view) for culprit in evidence.culprits}
            if not charges <= convicted and genuine(evidence):
                convicted |= charges
                found.append(evidence)
    return found


def _heard(contradictions: Contradictions, said: Voted | GaveUp) -> list[Evidence]:
    return contradictions.vote(said) if isinstance(said, (Vote, QC)) else contradictions.timeout(said)
