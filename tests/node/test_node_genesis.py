from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from node_helpers import make_genesis, write

from hotstuff.cli import main
from hotstuff.crypto import bls
from hotstuff.errors import ConfigError
from hotstuff.node.genesis import PROTOCOLS, Genesis, Rotation
from hotstuff.types.validators import MAX_TOTAL_POWER

GENESIS, KEYS = make_genesis(4)


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "written.json"
    GENESIS.save(path)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def refused(tmp_path: Path, content: object) -> str:
    path = write(tmp_path / "genesis.json", content)
    with pytest.raises(ConfigError) as caught:
        Genesis.load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    GENESIS.save(path)
    again = Genesis.load(path)
    assert again == GENESIS
    assert again.chain_id == GENESIS.chain_id
    assert again.context == GENESIS.context
    assert (again.context.epoch, again.context.vset_hash) == (1, GENESIS.validators.hash)
    assert path.stat().st_mode & 0o200


def test_the_hash_does_not_depend_on_the_spelling(tmp_path: Path, content: dict[str, Any]) -> None:
    members = [
        {key: member[key].upper() if key != "power" else member[key] for key in random.Random(5).sample([*member], 4)}
        for member in content["validators"]
    ]
    del members[0]["power"]  # 1 is the default
    for order in (members, members[::-1], members[2:] + members[:2]):
        other = {"validators": order, "protocol": content["protocol"], "name": content["name"]}
        path = tmp_path / "other.json"
        path.write_text(json.dumps(other, indent=random.Random(3).randint(1, 9)))
        assert Genesis.load(path).chain_id == GENESIS.chain_id
        assert Genesis.load(path).validators == GENESIS.validators


def test_the_hash_depends_on_everything_else(tmp_path: Path, content: dict[str, Any]) -> None:
    ids = {GENESIS.chain_id, make_genesis(4, "other")[0].chain_id, make_genesis(3)[0].chain_id}
    content["validators"][1]["power"] = 2
    ids.add(Genesis.load(write(tmp_path / "power.json", content)).chain_id)
    assert len(ids) == 4


def test_index_of() -> None:
    for i, keys in enumerate(KEYS):
        assert GENESIS.index_of(keys.bls.public_key().to_bytes()) == i
    assert GENESIS.index_of(bytes(48)) is None


@pytest.mark.parametrize("field", ["name", "protocol", "validators"])
def test_missing_fields(tmp_path: Path, content: dict[str, Any], field: str) -> None:
    del content[field]
    text = refused(tmp_path, content)
    assert text.startswith(f"{field}: got None, allowed: ")
    assert text.endswith("(the field is missing)")


@pytest.mark.parametrize("value", [None, 1, "", "x" * 65, ["testnet"]])
def test_names(tmp_path: Path, content: dict[str, Any], value: object) -> None:
    text = refused(tmp_path, {**content, "name": value})
    assert text == f"name: got {value!r}, allowed: 1 to 64 characters"


@pytest.mark.parametrize("value", [None, 2, "fast", "CHAINED", ""])
def test_protocols(tmp_path: Path, content: dict[str, Any], value: object) -> None:
    allowed = "basic or chained or hotstuff2 or jolteon"
    assert refused(tmp_path, {**content, "protocol": value}) == f"protocol: got {value!r}, allowed: {allowed}"


def test_the_command_line_knows_the_protocols() -> None:
    assert main.PROTOCOLS == tuple(PROTOCOLS)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "leaders: got 7, allowed: an object with turns and sticky"),
        ({"turns": "random"}, "leaders: turns: got 'random', allowed: weighted or equal"),
        ({"sticky": 0}, "leaders: sticky: got 0, allowed: an integer from 1 to 64"),
        ({"seed": 1}, "leaders: seed: got 1, allowed: nothing by this name; known fields: turns, sticky"),
    ],
)
def test_leaders(tmp_path: Path, content: dict[str, Any], value: object, text: str) -> None:
    assert refused(tmp_path, {**content, "leaders": value}) == text


def test_the_rotation_is_part_of_the_chain_id() -> None:
    others = [Rotation("equal", 1), Rotation("weighted", 4), Rotation("equal", 4)]
    assert len({GENESIS.chain_id, *(replace(GENESIS, rotation=other).chain_id for other in others)}) == 4


def test_sticky_leaders_have_several_views_in_a_row() -> None:
    for turns in ("weighted", "equal"):
        leaders = Rotation(turns, 3).leaders(GENESIS.validators)
        assert [leaders.leader(view) for view in range(9)] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("value", [None, {}, "x", []])
def test_lists_of_validators(tmp_path: Path, content: dict[str, Any], value: object) -> None:
    assert refused(tmp_path, {**content, "validators": value}).endswith("allowed: a list of validators")


def test_unknown_fields(tmp_path: Path, content: dict[str, Any]) -> None:
    text = refused(tmp_path, {**content, "epoch": 1})
    assert text == "epoch: got 1, allowed: nothing by this name; known fields: name, protocol, leaders, validators"
    content["validators"][2]["weight"] = 3
    text = refused(tmp_path, content)
    known = "node_key, bls_key, possession, power"
    assert text == f"validators[2]: weight: got 3, allowed: nothing by this name; known fields: {known}"


@pytest.mark.parametrize(("field", "size"), [("node_key", 32), ("bls_key", 48), ("possession", 96)])
@pytest.mark.parametrize(
    "change", [lambda _: None, lambda _: 7, lambda v: v[:-2], lambda v: v + "00", lambda v: "zz" + v[2:]]
)
def test_keys_of_a_validator(tmp_path: Path, content: dict[str, Any], field: str, size: int, change: Any) -> None:
    member = content["validators"][1]
    member[field] = change(member[field])
    text = refused(tmp_path, content)
    assert text == f"validators[1]: {field}: got {member[field]!r}, allowed: {2 * size} hexadecimal digits"
    del member[field]
    assert refused(tmp_path, content).startswith(f"validators[1]: {field}: got None, allowed: ")


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "1", None, MAX_TOTAL_POWER + 1])
def test_powers(tmp_path: Path, content: dict[str, Any], value: object) -> None:
    content["validators"][0]["power"] = value
    text = refused(tmp_path, content)
    assert text == f"validators[0]: power: got {value!r}, allowed: an integer from 1 to {MAX_TOTAL_POWER}"


def test_too_much_power_in_all(tmp_path: Path, content: dict[str, Any]) -> None:
    for member in content["validators"][:2]:
        member["power"] = MAX_TOTAL_POWER // 2 + 1
    assert "total power exceeds" in refused(tmp_path, content)


def test_an_entry_that_is_no_object(tmp_path: Path, content: dict[str, Any]) -> None:
    content["validators"][3] = "node3"
    assert refused(tmp_path, content) == "validators[3]: got 'node3', allowed: a JSON object"


def test_a_bls_key_that_is_no_point(tmp_path: Path, content: dict[str, Any]) -> None:
    content["validators"][0]["bls_key"] = "c0" + "00" * 47  # infinity
    assert "validators[0]: bls_key: got 'c0" in refused(tmp_path, content)
    content["validators"][0]["bls_key"] = "ff" * 48
    assert "allowed: a valid public key" in refused(tmp_path, content)


def proof_refused(tmp_path: Path, content: dict[str, Any], i: int) -> None:
    given = content["validators"][i]["possession"]
    expected = f"validators[{i}]: possession: got '{given}', allowed: a proof by this BLS key for this node key"
    assert refused(tmp_path, content) == expected


def test_a_proof_of_another_key(tmp_path: Path, content: dict[str, Any]) -> None:
    content["validators"][0]["possession"] = content["validators"][1]["possession"]
    proof_refused(tmp_path, content, 0)


def test_a_proof_for_another_network(tmp_path: Path, content: dict[str, Any]) -> None:
    content["validators"][2]["possession"] = KEYS[2].possession("other").hex()
    proof_refused(tmp_path, content, 2)
    content["validators"][2]["possession"] = KEYS[2].possession("testnet").hex()
    proof_refused(tmp_path, {**content, "name": "other"}, 0)


def test_a_proof_with_another_node_key(tmp_path: Path, content: dict[str, Any]) -> None:
    first, second = content["validators"][:2]
    first["node_key"], second["node_key"] = second["node_key"], first["node_key"]
    proof_refused(tmp_path, content, 0)


def test_a_copied_bls_key_with_its_proof(tmp_path: Path, content: dict[str, Any]) -> None:
    first, second = content["validators"][:2]
    second["bls_key"], second["possession"] = first["bls_key"], first["possession"]
    proof_refused(tmp_path, content, 1)


def test_a_signature_is_no_proof(tmp_path: Path, content: dict[str, Any]) -> None:
    from hotstuff.types.hashing import possession_message

    key = KEYS[0]
    message = possession_message(b"testnet", key.node.public_key(), key.bls.public_key().to_bytes())
    content["validators"][0]["possession"] = key.bls.sign(message).hex()
    proof_refused(tmp_path, content, 0)
    assert bls.verify_possession(key.bls.public_key(), message, GENESIS.possessions[0])


@pytest.mark.parametrize("value", ["00" * 96, "c0" + "00" * 95, "ff" * 96])
def test_a_proof_that_is_no_point(tmp_path: Path, content: dict[str, Any], value: str) -> None:
    content["validators"][0]["possession"] = value
    proof_refused(tmp_path, content, 0)


def test_duplicates(tmp_path: Path, content: dict[str, Any]) -> None:
    again = {**content, "validators": [*content["validators"], content["validators"][0]]}
    assert "two validators have the same or opposite BLS keys" in refused(tmp_path, again)


def test_one_node_key_for_two(tmp_path: Path, content: dict[str, Any]) -> None:
    from hotstuff.node.keys import Keys

    double = Keys(KEYS[1].bls, KEYS[0].node)
    content["validators"][1] |= {
        "node_key": double.node.public_key().hex(),
        "possession": double.possession("testnet").hex(),
    }
    assert "two validators have the same node key" in refused(tmp_path, content)
