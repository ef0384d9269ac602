# cython: language_level=3, freethreading_compatible=True, binding=True
"""The compiled twin of `hotstuff/_pure.py`, which describes the formats and holds the words of every error.

Hostile input ends here, so there are two habits. Every length is read once, into a local, and compared with what is
left before it moves an offset. And no offset is added before it was compared, so nothing can wrap around.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from hotstuff import _pure
from hotstuff._pure import Frame

cdef extern from "sha256.h" nogil:
    enum: SHA256_TREE_LEAVES, SHA256_NODE
    int sha256_select(int at_most)
    void sha256_tagged(uint8_t tag, const uint8_t* data, size_t size, uint8_t* digest)
    void sha256_tree(const uint8_t** leaves, size_t count, size_t size, uint8_t* root)
    uint32_t load32(const uint8_t* data)
    uint64_t load64(const uint8_t* data)
    void store32(uint8_t* data, uint32_t value)
    void store64(uint8_t* data, uint64_t value)

cdef extern from *:
    """
    #include <stdlib.h>
    #ifdef __GLIBC__
    #include <malloc.h>
    static int keep_freed(int bytes) {
        return mallopt(M_ARENA_MAX, 1) && mallopt(M_MMAP_THRESHOLD, 32 << 20) && mallopt(M_TRIM_THRESHOLD, bytes);
    }
    #else
    static int keep_freed(int bytes) { (void)bytes; return 0; }
    #endif
    """
    int keep_freed(int size)

cdef enum:
    HASH = 32
    CLIENT_ID = 16
    HEADER = 32
    LENGTH = 4
    # client_id, first_seq and count: the start of a header, and what a frame root covers besides the Merkle root.
    IDENTITY = 28
    # Below this, hashing takes about as long as handing the GIL over and getting it back.
    HOLD_GIL_BYTES = 2048
    FRAME_TAG = 2  # after the two of a tree

cdef enum Rule:  # in the order of _pure.RULES
    HEADER_CUT, FRAMES, COUNT, FIRST_SEQ, SIZE, PAYLOAD_CUT, LENGTH_CUT, TX_LENGTH, TX_CUT, LEFTOVER

cdef size_t MAX_TX_BYTES = _pure.MAX_TX_BYTES
cdef size_t MAX_FRAME_BYTES = _pure.MAX_FRAME_BYTES
cdef uint64_t MAX_SEQ = _pure.MAX_SEQ

cdef struct Fault:
    Rule rule
    size_t offset
    uint64_t given, allowed

cdef struct ParsedFrame:
    uint8_t identity[IDENTITY]
    uint8_t root[HASH]
    size_t offset, size

# One pending root per set bit of `leaves`, the largest subtree first: RFC 6962 in one pass and without allocation.
# Neighbours lie side by side, so joining two hashes 64 bytes in place.
cdef struct Tree:
    uint64_t leaves
    size_t depth
    uint8_t pending[65 * HASH]


cdef class Span:
    """The bytes of a buffer, held in place while this object lives. `data` and `size` need no GIL."""

    cdef object view
    cdef Py_buffer buffer
    cdef const uint8_t* data
    cdef size_t size

    def __cinit__(self, body):
        self.view = _pure.byte_view(body)
        PyObject_GetBuffer(self.view, &self.buffer, PyBUF_SIMPLE)
        self.data = <const uint8_t*>self.buffer.buf
        self.size = <size_t>self.buffer.len

    def __dealloc__(self):
        PyBuffer_Release(&self.buffer)


def parse_body(body, max_frames):
    """The frames of a body, each with its root.

    Raises InvalidEncoding, with the first rule that is broken, and ValueError for a `max_frames` below 1.
    """
    cdef Span span = Span(body)
    cdef size_t limit = _pure.frame_limit(max_frames, span.size)
    cdef Fault fault
    cdef size_t found, index
    cdef ParsedFrame* parsed = <ParsedFrame*>malloc(limit * sizeof(ParsedFrame))
    if parsed == NULL:
        raise MemoryError
    try:
        if span.size <= HOLD_GIL_BYTES:
            found = scan_body(span.data, span.size, parsed, limit, &fault)
        else:
            with nogil:
                found = scan_body(span.data, span.size, parsed, limit, &fault)
        if found == 0:
            raise _pure.broken(fault.rule, fault.offset, fault.given, fault.allowed)
        return [as_frame(&parsed[index]) for index in range(found)]
    finally:
        free(parsed)


def merkle_root(hashes):
    """RFC 6962 root over leaf hashes of 32 bytes each, back to back. Raises ValueError if there is no whole one."""
    cdef Span span = Span(hashes)
    cdef uint8_t root[HASH]
    if span.size == 0 or span.size % HASH:
        raise ValueError(f"hashes: got {span.size} bytes, allowed: a positive multiple of {HASH}")
    if span.size <= HOLD_GIL_BYTES:
        join_all(span.data, span.size // HASH, root)
    else:
        with nogil:
            join_all(span.data, span.size // HASH, root)
    return root[:HASH]


def slice_root(body, frame, start, stop):
    """The root that transactions [start, stop) of `frame` would have as a frame of their own.

    Raises ValueError if the slice is empty or out of range, or if `frame` was not parsed from this body.
    """
    cdef Span span = Span(body)
    _pure.check_slice(frame, start, stop)
    cdef size_t at = _pure.locate(span.view, frame)
    cdef size_t end = frame.offset + frame.size
    cdef uint32_t skip = start, take = stop - start
    cdef uint8_t identity[IDENTITY]
    cdef uint8_t root[HASH]
    cdef Fault fault
    memcpy(identity, PyBytes_AS_STRING(frame.client_id), CLIENT_ID)
    store64(identity + CLIENT_ID, frame.first_seq + start)
    store32(identity + CLIENT_ID + 8, take)
    if end - at <= HOLD_GIL_BYTES:
        at = hash_transactions(span.data, at, end, skip, take, identity, root, &fault)
    else:
        with nogil:
            at = hash_transactions(span.data, at, end, skip, take, identity, root, &fault)
    if at == 0:
        raise _pure.foreign(frame)
    return root[:HASH]


def transactions(body, frame):
    """The transactions of `frame`, copied. Raises ValueError if `frame` was not parsed from this body."""
    cdef Span span = Span(body)
    cdef size_t at = _pure.locate(span.view, frame)
    cdef size_t end = frame.offset + frame.size
    cdef size_t length
    cdef Fault fault
    cdef list found = []
    for _ in range(frame.count):
        length = next_length(span.data, at, end, &fault)
        if length == 0:
            raise _pure.foreign(frame)
        found.append(PyBytes_FromStringAndSize(<const char*>span.data + at + LENGTH, length))
        at += LENGTH + length
    return found


def build_frame(client_id, first_seq, transactions):
    """Encodes a frame. Raises ValueError for what `parse_body` would refuse, TypeError for what is not bytes."""
    cdef tuple given = tuple(transactions)
    cdef size_t size = 0, length
    for index, transaction in enumerate(given):
        if type(transaction) is bytes and 1 <= PyBytes_GET_SIZE(transaction) <= <Py_ssize_t>MAX_TX_BYTES:
            size += LENGTH + PyBytes_GET_SIZE(transaction)
        else:
            _pure.check_transaction(index, transaction)  # raises
    header = _pure.frame_header(client_id, first_seq, len(given), size)
    frame = PyBytes_FromStringAndSize(NULL, HEADER + size)
    cdef uint8_t* to = <uint8_t*>PyBytes_AS_STRING(frame)
    memcpy(to, PyBytes_AS_STRING(header), HEADER)
    to += HEADER
    for transaction in given:
        length = PyBytes_GET_SIZE(transaction)
        store32(to, <uint32_t>length)
        memcpy(to + LENGTH, PyBytes_AS_STRING(transaction), length)
        to += LENGTH + length
    return frame


def keep_memory(size):
    """Up to `size` freed bytes stay with the process instead of going back to the system at once.

    Bodies come and go all the time, and each new page costs a fault and 4 KiB of zeros: a fifth of all work under load.
    All threads share one heap, or each would keep as much. To be called before there are any.
    Returns whether this C library can be told so.
    """
    return bool(keep_freed(size))


def select_sha256(at_most):
    """For tests: hash with the fastest of `SHA256_NAMES` up to this one that this CPU has. Returns its name."""
    return SHA256_NAMES[sha256_select(SHA256_NAMES.index(at_most))]


cdef as_frame(const ParsedFrame* frame):
    return Frame(
        frame.identity[:CLIENT_ID],
        load64(frame.identity + CLIENT_ID),
        load32(frame.identity + CLIENT_ID + 8),
        frame.offset,
        frame.size,
        frame.root[:HASH],
    )


cdef size_t broken(Fault* fault, Rule rule, size_t offset, uint64_t given, uint64_t allowed) noexcept nogil:
    """Notes which rule was broken. Returns 0, which every caller returns in turn."""
    fault[0] = Fault(rule, offset, given, allowed)
    return 0


cdef size_t scan_body(
    const uint8_t* body, size_t size, ParsedFrame* frames, size_t limit, Fault* fault
) noexcept nogil:
    """Number of frames found, or 0 with the fault noted."""
    cdef size_t at = 0, found = 0
    while at < size or found == 0:
        if found == limit:
            return broken(fault, FRAMES, at, limit + 1, limit)
        at = scan_frame(body, at, size, &frames[found], fault)
        if at == 0:
            return 0
        found += 1
    return found


cdef size_t scan_frame(
    const uint8_t* body, size_t offset, size_t body_size, ParsedFrame* frame, Fault* fault
) noexcept nogil:
    """Parses and hashes the frame at `offset`. Returns its end, or 0 with the fault noted."""
    cdef size_t left = body_size - offset
    if left < HEADER:
        return broken(fault, HEADER_CUT, offset, left, HEADER)
    memcpy(frame.identity, body + offset, IDENTITY)
    cdef uint64_t first_seq = load64(frame.identity + CLIENT_ID)
    cdef uint32_t count = load32(frame.identity + CLIENT_ID + 8)
    cdef size_t size = load32(body + offset + IDENTITY)
    if count < 1:
        return broken(fault, COUNT, offset, count, 1)
    if first_seq < 1 or first_seq > MAX_SEQ - count:
        return broken(fault, FIRST_SEQ, offset, first_seq, MAX_SEQ - count)
    if size > MAX_FRAME_BYTES:
        return broken(fault, SIZE, offset, size, MAX_FRAME_BYTES)
    if size > left - HEADER:
        return broken(fault, PAYLOAD_CUT, offset + HEADER, left - HEADER, size)

    frame.offset = offset
    frame.size = HEADER + size
    cdef size_t end = offset + frame.size
    cdef size_t at = hash_transactions(body, offset + HEADER, end, 0, count, frame.identity, frame.root, fault)
    if at != 0 and at < end:
        return broken(fault, LEFTOVER, at, end - at, 0)
    return at


cdef size_t hash_transactions(
    const uint8_t* body, size_t at, size_t end, uint32_t skip, uint32_t take,
    const uint8_t* identity, uint8_t* root, Fault* fault,
) noexcept nogil:
    """Frame root over `take` transactions after the first `skip`. Returns their end, or 0 with the fault noted."""
    cdef Tree tree
    cdef uint8_t preimage[IDENTITY + HASH]
    cdef const uint8_t* group[SHA256_TREE_LEAVES]
    cdef size_t length, group_length = 0, grouped = 0
    cdef uint64_t index
    tree.leaves = tree.depth = 0
    for index in range(<uint64_t>skip + take):
        length = next_length(body, at, end, fault)
        if length == 0:
            return 0
        at += LENGTH
        if index >= skip:
            if grouped == SHA256_TREE_LEAVES or length != group_length:
                add_leaves(&tree, group, grouped, group_length)
                grouped = 0
            group[grouped] = body + at
            group_length = length
            grouped += 1
        at += length
    add_leaves(&tree, group, grouped, group_length)
    memcpy(preimage, identity, IDENTITY)
    memcpy(preimage + IDENTITY, finish(&tree), HASH)
    sha256_tagged(FRAME_TAG, preimage, sizeof(preimage), root)
    return at


cdef size_t next_length(const uint8_t* body, size_t at, size_t end, Fault* fault) noexcept nogil:
    """Length of the transaction whose length prefix is at `at`, or 0 with the fault noted. Needs at <= end."""
    if end - at < LENGTH:
        return broken(fault, LENGTH_CUT, at, end - at, LENGTH)
    cdef size_t length = load32(body + at)
    if length < 1 or length > MAX_TX_BYTES:
        return broken(fault, TX_LENGTH, at, length, MAX_TX_BYTES)
    if length > end - at - LENGTH:
        return broken(fault, TX_CUT, at + LENGTH, end - at - LENGTH, length)
    return length


cdef void join_all(const uint8_t* hashes, size_t count, uint8_t* root) noexcept nogil:
    """RFC 6962 root over `count` leaf hashes, of which there has to be one."""
    cdef Tree tree
    cdef size_t index
    tree.leaves = tree.depth = 0
    for index in range(count):
        memcpy(next_slot(&tree), hashes + HASH * index, HASH)
        grow(&tree, 1)
    memcpy(root, finish(&tree), HASH)


cdef void add_leaves(Tree* tree, const uint8_t** leaves, size_t count, size_t length) noexcept nogil:
    """Leaves of one length: each time as large a subtree as there are leaves for and as begins here."""
    cdef size_t size
    while count > 0:
        size = SHA256_TREE_LEAVES
        while size > count or tree.leaves % size != 0:
            size //= 2
        sha256_tree(leaves, size, length, next_slot(tree))
        grow(tree, size)
        leaves += size
        count -= size


cdef inline uint8_t* next_slot(Tree* tree) noexcept nogil:
    """Where the next leaf hash goes, before `grow` counts it."""
    return tree.pending + HASH * tree.depth


cdef void grow(Tree* tree, uint64_t leaves) noexcept nogil:
    """Counts the subtree of so many leaves (a power of two, and the tree a multiple of it) in the next slot, and joins
    subtrees of equal size, as a binary counter carries."""
    tree.depth += 1
    tree.leaves += leaves
    cdef uint64_t carry = tree.leaves // leaves
    while carry & 1 == 0:
        join(tree)
        carry >>= 1


cdef uint8_t* finish(Tree* tree) noexcept nogil:
    """The root: what is pending, joined from the smallest subtree up. Needs at least one leaf."""
    while tree.depth > 1:
        join(tree)
    return tree.pending


cdef inline void join(Tree* tree) noexcept nogil:
    tree.depth -= 1
    cdef uint8_t* left = tree.pending + HASH * (tree.depth - 1)
    sha256_tagged(SHA256_NODE, left, 2 * HASH, left)


SHA256_NAMES = ("portable", "sha-ni", "avx512")  # in the order of sha256.h
select_sha256(SHA256_NAMES[-1])
