"""The data folder, its secrets and ports, and the pinned jars: what must hold before any server starts."""

import os
import socket
import stat
from pathlib import Path

import pytest

from infra.embedded import folder, jars, keys, postgres_user, stack
from infra.embedded.folder import CannotStart, held, make_folder, ports


def test_two_refolds_never_share_a_data_folder(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(CannotStart, match=f"in use by another Refold \\(process {os.getpid()}\\)"):
        held(tmp_path).__enter__()
    with held(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match=r"cannot write to the data folder .*: Not a directory"):
        make_folder(tmp_path / "file" / "data")


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "DISK_BYTES_MIN", 1 << 62)
    with pytest.raises(CannotStart, match="MB are free on the disk"):
        make_folder(tmp_path)


def test_ports_are_remembered(tmp_path: Path) -> None:
    first = ports(tmp_path, "a", "b")
    assert len({*first.values()}) == 2
    assert ports(tmp_path, "a", "b") == first


def test_a_remembered_port_that_somebody_else_has_taken_is_replaced(tmp_path: Path) -> None:
    first = ports(tmp_path, "a", "b")
    with socket.create_server(("127.0.0.1", first["a"])):
        second = ports(tmp_path, "a", "b")
    assert second["a"] != first["a"]
    assert second["b"] == first["b"]


def test_ports_lie_outside_the_range_of_outgoing_connections(tmp_path: Path) -> None:
    assert all(port < 32_768 for port in ports(tmp_path, *"abcdefgh").values())


def test_secrets_are_made_once_and_readable_for_their_owner_only(tmp_path: Path) -> None:
    first = keys.shared_secrets(tmp_path)
    assert keys.shared_secrets(tmp_path) == first
    assert {*first} == {"REFOLD_MASTER_KEY", "REFOLD_INTERNAL_KEY"}
    assert stat.S_IMODE((tmp_path / "secrets.env").stat().st_mode) == 0o600


def test_a_lost_master_key_is_never_replaced_beside_a_log_it_must_read(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    with pytest.raises(CannotStart, match="is gone"):
        keys.shared_secrets(tmp_path)


def test_the_administrators_keys_stay_and_their_endpoint_follows_the_api(tmp_path: Path) -> None:
    first = keys.admin_credentials(tmp_path, "http://127.0.0.1:1")
    assert keys.admin_credentials(tmp_path, "http://127.0.0.1:2") == first
    text = (tmp_path / "admin.env").read_text()
    assert text == (
        "BACKEND_ENDPOINT=http://127.0.0.1:2\nBACKEND_ENDPOINT_TYPE=api\n"
        f"BACKEND_ACCESS_KEY={first.access_key}\nBACKEND_SECRET_KEY={first.secret_key}\n"
        f"ADMIN_EMAIL={first.email}\nADMIN_PASSWORD={first.password}\n"
    )
    assert (len(first.access_key), len(first.secret_key)) == (20, 40)
    assert stat.S_IMODE((tmp_path / "admin.env").stat().st_mode) == 0o600


def test_every_locked_jar_has_one_version_and_a_hash() -> None:
    locked = jars.locked()
    assert len({(jar.group, jar.artifact) for jar in locked}) == len(locked) == 46
    assert all(len(jar.sha256) == 64 for jar in locked)


def test_a_damaged_or_partial_jar_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = b"whole jar"
    jar = jars.Jar("g", "a", "1", "95a2b0d7d7c2d44c0c4a1cb5ff1b1ac1", len(whole))
    fetched = list[jars.Jar]()
    monkeypatch.setattr(jars, "_fetch", lambda _folder, missing: fetched.extend(missing))
    (tmp_path / jar.file).write_bytes(whole[:-1])
    assert jars.fetch(tmp_path, [jar]) == [tmp_path / "a-1.jar"]
    assert fetched == [jar]


def test_without_a_network_the_first_fetch_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nobody listens on the discard port
    with pytest.raises(CannotStart, match="cannot fetch Kafka's jars: is there a way to Maven"):
        jars.fetch(tmp_path, jars.locked()[:2])
    assert list(tmp_path.iterdir()) == []


def test_servers_the_environment_names_are_used_and_not_started(tmp_path: Path) -> None:
    given = {"REFOLD_KAFKA": "kafka.example:9092", "REFOLD_DATABASE": "postgresql://db.example/refold"}
    chosen = stack.choose(tmp_path, given)
    assert chosen.embedded == []
    assert chosen.addresses() == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as somebody else")
def test_only_postgres_own_user_is_let_through_a_closed_folder(tmp_path: Path) -> None:
    user = postgres_user.system_user()
    assert user is not None
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    (closed / "file").touch()
    postgres_user.let_pass(user, closed / "file")
    postgres_user.let_pass(user, closed / "file")  # doing it twice is doing it once
    status = stat.S_IMODE(closed.stat().st_mode)
    assert status & 0o007 == 0  # others stay out
    assert status & 0o060 == 0  # nobody was given the right to list or write
    assert len(os.getxattr(closed, postgres_user.ACL)) == 4 + 5 * 8
