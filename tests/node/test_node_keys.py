from __future__ import annotations

import pickle
import stat
import traceback
from pathlib import Path
from typing import Any

import pytest
from node_helpers import write

from hotstuff.crypto import bls
from hotstuff.errors import ConfigError
from hotstuff.node.keys import Keys
from hotstuff.types.hashing import possession_message

KEYS = Keys.generate(b"\1" * 32)
SECRETS = (KEYS.bls.to_bytes().hex(), KEYS.node.to_bytes().hex())
CONTENT = {"bls_secret": SECRETS[0], "node_secret": SECRETS[1]}
GROUP_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001


def assert_hidden(text: str) -> None:
    """No run of eight digits of either secret."""
    for secret in SECRETS:
        for value in (secret, repr(bytes.fromhex(secret)), str(int(secret, 16))):
            for at in range(len(value) - 8):
                assert value[at : at + 8].lower() not in text.lower(), text


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        Keys.load(path)
    assert_hidden(str(caught.value))
    assert_hidden(repr(caught.value) + repr(caught.value.given))
    assert_hidden("".join(traceback.format_exception(caught.value)).replace(str(path), ""))
    assert str(path) in str(caught.value)
    return str(caught.value).replace(str(path), "keys")


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    KEYS.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = Keys.load(path)
    assert again.bls.to_bytes() == KEYS.bls.to_bytes()
    assert again.node.to_bytes() == KEYS.node.to_bytes()
    with pytest.raises(ConfigError, match="nothing is overwritten"):
        KEYS.save(path)


def test_one_seed_gives_two_unrelated_keys() -> None:
    assert len({*SECRETS, (b"\1" * 32).hex()}) == 3
    assert Keys.generate(b"\1" * 32).bls.to_bytes() == KEYS.bls.to_bytes()
    assert Keys.generate(b"\2" * 32).bls.to_bytes() != KEYS.bls.to_bytes()
    with pytest.raises(ValueError, match="at least 32"):
        Keys.generate(b"\1" * 31)


def test_the_proof_of_possession() -> None:
    proof = KEYS.possession("net")
    node_key, bls_key = KEYS.node.public_key(), KEYS.bls.public_key()
    assert bls.verify_possession(bls_key, possession_message(b"net", node_key, bls_key.to_bytes()), proof)
    assert not bls.verify_possession(bls_key, possession_message(b"other", node_key, bls_key.to_bytes()), proof)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o610, 0o666, 0o777])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "keys.json", CONTENT, mode)
    assert refused(path) == f"keys: got 'mode {mode:04o}', allowed: mode 0600: run chmod 600 keys"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_of_ones_own(tmp_path: Path, mode: int) -> None:
    assert Keys.load(write(tmp_path / "keys.json", CONTENT, mode)).bls.to_bytes().hex() == SECRETS[0]


def test_a_missing_file(tmp_path: Path) -> None:
    assert "allowed: a readable file" in refused(tmp_path / "keys.json")


@pytest.mark.parametrize("field", ["bls_secret", "node_secret"])
@pytest.mark.parametrize(
    "change", [lambda v: v[:-2], lambda v: v + "00", lambda v: "zz" + v[2:], lambda v: [v], lambda v: int(v[:8], 16)]
)
def test_bad_secrets(tmp_path: Path, field: str, change: Any) -> None:
    path = write(tmp_path / "keys.json", {**CONTENT, field: change(CONTENT[field])}, 0o600)
    assert refused(path) == f"keys: {field}: got '(hidden)', allowed: 64 hexadecimal digits"


@pytest.mark.parametrize("field", ["bls_secret", "node_secret"])
def test_missing_secrets(tmp_path: Path, field: str) -> None:
    content = {key: value for key, value in CONTENT.items() if key != field}
    assert refused(write(tmp_path / "keys.json", content, 0o600)).startswith(
        f"keys: {field}: got '(hidden)', allowed: 64"
    )


@pytest.mark.parametrize(
    "content",
    [
        {**CONTENT, "old_secret": SECRETS[0]},
        {**CONTENT, "backup": {"bls": SECRETS[0]}},
        SECRETS[0],
        [SECRETS[0], SECRETS[1]],
        {"bls_secret": {"bls_secret": SECRETS[0]}, "node_secret": SECRETS[1]},
    ],
)
def test_a_secret_in_the_wrong_place_is_not_shown(tmp_path: Path, content: object) -> None:
    refused(write(tmp_path / "keys.json", content, 0o600))


def test_a_mistake_in_the_json_shows_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    for text in (SECRETS[0], f'{{"bls_secret": {SECRETS[0]}}}', f'{{"bls_secret": "{SECRETS[0]}', f"'{SECRETS[1]}'"):
        path.write_text(text)
        path.chmod(0o600)
        refused(path)


@pytest.mark.parametrize("number", [0, GROUP_ORDER, 2**256 - 1])
def test_a_number_that_is_no_bls_key(tmp_path: Path, number: int) -> None:
    path = write(tmp_path / "keys.json", {**CONTENT, "bls_secret": f"{number:064x}"}, 0o600)
    assert refused(path) == "keys: got '(hidden)', allowed: valid secret keys, as written by hotstuff testnet"


def test_keys_are_not_shown_and_not_pickled() -> None:
    for text in (repr(KEYS), str(KEYS), f"{KEYS}", repr([KEYS.bls, KEYS.node])):
        assert_hidden(text)
        assert "hidden" in text
    with pytest.raises(TypeError, match="not copied or pickled"):
        pickle.dumps(KEYS)
