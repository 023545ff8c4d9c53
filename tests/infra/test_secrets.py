"""No secret is readable in the log, and what is sealed cannot be moved, changed or opened with another key."""

import base64

import pytest
from typer.testing import CliRunner

from domain.messages import AgentId, KernelId, SessionId
from infra import keys
from infra.secrets import (
    BadKey,
    BadToken,
    CannotUnseal,
    agent_key,
    check_internal_token,
    hash_password,
    internal_token,
    master_key,
    new_key,
    password_fits,
    seal,
    session_to_start,
    start_token,
    unseal,
)
from infra.settings import Settings
from infra.storage_passes import storage_key

AGENT = AgentId("gpu-1")


def _settings(**changed: str) -> Settings:
    return Settings.model_validate({"master_key": new_key(), "internal_key": "k" * 32} | changed)


def test_what_is_sealed_opens_with_the_same_key_and_subject_only() -> None:
    key = master_key(_settings())
    sealed = seal(key, "a secret", "AKADA")
    assert "secret" not in base64.b64decode(sealed).decode("latin-1")
    assert unseal(key, sealed, "AKADA") == "a secret"
    assert seal(key, "a secret", "AKADA") != sealed, "two sealed texts never show that they are the same"
    for other_key, other_subject in ((master_key(_settings()), "AKADA"), (key, "AKEVE")):
        with pytest.raises(CannotUnseal):
            unseal(other_key, sealed, other_subject)


def test_a_changed_text_does_not_open() -> None:
    key = master_key(_settings())
    raw = bytearray(base64.b64decode(seal(key, "a secret", "AKADA")))
    for index in (0, 1, 13, len(raw) - 1):
        changed = bytes(raw[:index]) + bytes([raw[index] ^ 1]) + bytes(raw[index + 1 :])
        with pytest.raises(CannotUnseal):
            unseal(key, base64.b64encode(changed).decode(), "AKADA")
    for text in ("", "!", base64.b64encode(b"\x01short").decode()):
        with pytest.raises(CannotUnseal):
            unseal(key, text, "AKADA")


@pytest.mark.parametrize("key", ["", "not base64!", base64.b64encode(b"short").decode()])
def test_a_bad_master_key_is_told(key: str) -> None:
    with pytest.raises(BadKey):
        master_key(_settings(master_key=key))


def test_passwords_are_argon2id() -> None:
    hashed = hash_password("correct horse")
    assert hashed.startswith("$argon2id$")
    assert password_fits(hashed, "correct horse")
    assert not password_fits(hashed, "wrong horse")
    assert not password_fits("no hash", "correct horse")


def test_an_internal_token_opens_one_kernel_for_a_while() -> None:
    settings, kernel = _settings(), KernelId("k1")
    check_internal_token(settings, AGENT, internal_token(settings, AGENT, kernel), kernel)
    for token, asked in (
        (internal_token(settings, AGENT, kernel), KernelId("k2")),
        (internal_token(settings, AGENT, kernel, seconds=-1), kernel),
        (internal_token(_settings(internal_key="x" * 32), AGENT, kernel), kernel),
        (internal_token(settings, AgentId("gpu-2"), kernel), kernel),
        ("rubbish", kernel),
    ):
        with pytest.raises(BadToken):
            check_internal_token(settings, AGENT, token, asked)
    with pytest.raises(BadKey):
        internal_token(_settings(internal_key="short"), AGENT, kernel)


def test_neither_side_takes_the_others_token_or_its_own_back() -> None:
    settings, kernel, session = _settings(), KernelId("k1"), SessionId("s1")
    assert session_to_start(settings, start_token(settings, AGENT, kernel, session), kernel) == (session, AGENT)
    with pytest.raises(BadToken):
        check_internal_token(settings, AGENT, start_token(settings, AGENT, kernel, session), kernel)
    with pytest.raises(BadToken):
        session_to_start(settings, internal_token(settings, AGENT, kernel), kernel)


def test_an_agent_that_has_only_its_own_key_is_that_agent_and_no_other() -> None:
    everything, kernel, session = _settings(), KernelId("k1"), SessionId("s1")
    own = _settings(internal_key="", agent_key=agent_key(everything, AGENT))
    other = AgentId("gpu-2")
    check_internal_token(own, AGENT, internal_token(everything, AGENT, kernel), kernel)
    assert session_to_start(everything, start_token(own, AGENT, kernel, session), kernel) == (session, AGENT)
    for act in (
        lambda: check_internal_token(own, AGENT, internal_token(everything, other, kernel), kernel),
        lambda: session_to_start(everything, start_token(own, other, kernel, session), kernel),
        lambda: session_to_start(
            everything, start_token(_settings(internal_key="x" * 32), AGENT, kernel, session), kernel
        ),
    ):
        with pytest.raises(BadToken):
            act()
    with pytest.raises(BadKey):
        agent_key(_settings(internal_key="", agent_key="short"), AGENT)


def test_the_key_of_an_agent_is_printed_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = _settings()
    monkeypatch.setattr(keys, "settings", lambda: everything)
    printed = CliRunner().invoke(keys.app, ["agent", AGENT])
    assert (printed.exit_code, printed.output.strip()) == (0, agent_key(everything, AGENT))


def test_the_key_of_a_storage_service_is_printed_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = _settings()
    monkeypatch.setattr(keys, "settings", lambda: everything)
    printed = CliRunner().invoke(keys.app, ["storage", "local"])
    assert (printed.exit_code, printed.output.strip()) == (0, storage_key(everything, "local"))
