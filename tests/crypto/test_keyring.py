"""Platform keys: derivation, wrapping, rotation."""

from uuid import UUID, uuid4

import pytest

from stonechat.crypto.keyring import Keyring, WrappedKey
from stonechat.errors import SecretUnreadable

OLD, NEW = "o" * 40, "n" * 40
DATA_KEY = bytes(range(32))
TENANT = UUID("01890000-0000-7000-8000-000000000001")


def test_each_purpose_and_each_platform_key_has_its_own_key() -> None:
    keyring = Keyring([NEW, OLD])
    keys = [key for purpose in ("sessions", "tickets", "cookies") for _, key in keyring.derive(purpose)]
    assert len(set(keys)) == 6
    assert {len(key) for key in keys} == {32}
    assert all(secret.encode() not in key for key in keys for secret in (OLD, NEW))


def test_derived_keys_come_newest_first_and_stay_the_same() -> None:
    [(new_id, new_key), (old_id, old_key)] = Keyring([NEW, OLD]).derive("sessions")
    assert Keyring([NEW]).derive("sessions") == [(new_id, new_key)]
    assert Keyring([OLD]).derive("sessions") == [(old_id, old_key)]
    assert new_id != old_id


def test_derivation_never_changes_between_versions() -> None:
    """A change here would end every session and lose every stored secret on upgrade."""
    [(key_id, key)] = Keyring(["0123456789abcdef0123456789abcdef"]).derive("sessions")
    assert (key_id, key.hex()) == (
        "88ad554901562418",
        "2c5a61aa7505b5ab878536026b4253bf7e276a8007c41bbd611f853c72c4b19a",
    )


def test_a_wrapped_key_unwraps() -> None:
    keyring = Keyring([NEW])
    unwrapped = keyring.unwrap(keyring.wrap(DATA_KEY, tenant_id=TENANT, version=1), tenant_id=TENANT, version=1)
    assert unwrapped.data_key == DATA_KEY
    assert not unwrapped.needs_rewrap


def test_after_a_rotation_old_keys_unwrap_and_ask_to_be_moved() -> None:
    wrapped = Keyring([OLD]).wrap(DATA_KEY, tenant_id=TENANT, version=1)
    rotated = Keyring([NEW, OLD])
    unwrapped = rotated.unwrap(wrapped, tenant_id=TENANT, version=1)
    assert unwrapped.data_key == DATA_KEY
    assert unwrapped.needs_rewrap
    moved = rotated.wrap(unwrapped.data_key, tenant_id=TENANT, version=1)
    assert not Keyring([NEW]).unwrap(moved, tenant_id=TENANT, version=1).needs_rewrap


def test_a_removed_platform_key_is_named() -> None:
    wrapped = Keyring([OLD]).wrap(DATA_KEY, tenant_id=TENANT, version=1)
    with pytest.raises(SecretUnreadable, match=wrapped.platform_key_id):
        Keyring([NEW]).unwrap(wrapped, tenant_id=TENANT, version=1)


def test_a_wrapped_key_is_bound_to_tenant_version_and_platform_key() -> None:
    keyring = Keyring([NEW, OLD])
    wrapped = keyring.wrap(DATA_KEY, tenant_id=TENANT, version=1)
    [_, (old_id, _)] = keyring.derive("any")
    with pytest.raises(SecretUnreadable):
        keyring.unwrap(wrapped, tenant_id=uuid4(), version=1)
    with pytest.raises(SecretUnreadable):
        keyring.unwrap(wrapped, tenant_id=TENANT, version=2)
    with pytest.raises(SecretUnreadable):
        keyring.unwrap(WrappedKey(old_id, wrapped.sealed), tenant_id=TENANT, version=1)


def test_a_damaged_wrapped_key_is_refused_wherever_the_damage_is() -> None:
    keyring = Keyring([NEW])
    wrapped = keyring.wrap(DATA_KEY, tenant_id=TENANT, version=1)
    damaged = [
        wrapped.sealed[:i] + bytes([wrapped.sealed[i] ^ 1]) + wrapped.sealed[i + 1 :]
        for i in range(len(wrapped.sealed))
    ]
    for sealed in [*damaged, b"", wrapped.sealed[:-1], wrapped.sealed + b"\0"]:
        with pytest.raises(SecretUnreadable):
            keyring.unwrap(WrappedKey(wrapped.platform_key_id, sealed), tenant_id=TENANT, version=1)


def test_wrapping_twice_gives_two_ciphertexts() -> None:
    keyring = Keyring([NEW])
    assert len({keyring.wrap(DATA_KEY, tenant_id=TENANT, version=1).sealed for _ in range(100)}) == 100


@pytest.mark.parametrize("secrets", [[], ["short"], [NEW, "x" * 31]])
def test_missing_and_short_platform_keys_are_refused(secrets: list[str]) -> None:
    with pytest.raises(ValueError, match="platform key"):
        Keyring(secrets)


def test_a_data_key_of_another_length_is_not_wrapped() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keyring([NEW]).wrap(b"short", tenant_id=TENANT, version=1)


def test_a_key_listed_twice_counts_once() -> None:
    assert len(Keyring([NEW, NEW]).derive("sessions")) == 1


def test_nothing_secret_is_printed() -> None:
    keyring = Keyring([NEW, OLD])
    wrapped = keyring.wrap(DATA_KEY, tenant_id=TENANT, version=1)
    unwrapped = keyring.unwrap(wrapped, tenant_id=TENANT, version=1)
    printed = f"{keyring!r} {keyring} {wrapped!r} {unwrapped!r} {unwrapped}"
    for secret in (OLD, NEW, repr(DATA_KEY), DATA_KEY.hex(), repr(wrapped.sealed)):
        assert secret not in printed
