"""SSH keypairs that derive from a seed are those that other programs read."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.ssh_keys import NotAKey, made, public_of

SEEDS = [bytes([number] * 32) for number in (0, 7, 255)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_gives_the_keypair_that_it_gives_everywhere(seed: bytes) -> None:
    keys = made(seed)
    read = serialization.load_ssh_private_key(keys.private.encode(), None)
    assert isinstance(read, Ed25519PrivateKey)
    assert read.private_bytes_raw() == seed
    assert public_of(keys.private) == keys.public
    assert made(seed) == keys != made(b"another seed, of thirty-two byte")


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
def test_openssh_reads_it(tmp_path: Path) -> None:
    keys = made(SEEDS[1])
    file = tmp_path / "id_ed25519"
    file.touch(mode=0o600)
    file.write_text(keys.private)
    told = subprocess.run(["ssh-keygen", "-y", "-f", file], capture_output=True, text=True, check=True).stdout
    assert told.split()[:2] == keys.public.split()


@pytest.mark.parametrize("text", ["", "no key", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_what_is_no_private_key_is_told(text: str) -> None:
    with pytest.raises(NotAKey):
        public_of(text)
