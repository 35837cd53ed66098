"""A tenant's sealed secrets open for that tenant, that kind, that subject, and unharmed; or not at all."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stonechat.crypto.cipher import MAX_PLAINTEXT_BYTES, TenantCipher
from stonechat.errors import SecretUnreadable

TENANT = UUID("01890000-0000-7000-8000-000000000001")
KEY, NEXT_KEY = b"k" * 32, b"n" * 32
CIPHER = TenantCipher(TENANT, {1: KEY})
PLAINTEXT = b"sk-a-model-providers-key"
SEALED = CIPHER.seal(PLAINTEXT, kind="provider_key", subject="prv_1")


def test_what_was_sealed_opens() -> None:
    assert CIPHER.open(SEALED, kind="provider_key", subject="prv_1") == PLAINTEXT
    assert PLAINTEXT not in SEALED


@given(st.binary(max_size=200), st.text(max_size=20), st.text(max_size=20))
def test_any_bytes_for_any_kind_and_subject_come_back(plaintext: bytes, kind: str, subject: str) -> None:
    try:
        sealed = CIPHER.seal(plaintext, kind=kind, subject=subject)
    except UnicodeEncodeError:
        return
    assert CIPHER.open(sealed, kind=kind, subject=subject) == plaintext


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        ("webhook_secret", "prv_1"),
        ("provider_key", "prv_2"),
        ("provider_keyp", "rv_1"),
        ("provider_ke", "yprv_1"),
        ("", "provider_keyprv_1"),
        ("prv_1", "provider_key"),
    ],
)
def test_it_does_not_open_as_another_kind_or_for_another_subject(kind: str, subject: str) -> None:
    with pytest.raises(SecretUnreadable):
        CIPHER.open(SEALED, kind=kind, subject=subject)


def test_it_does_not_open_for_another_tenant_even_under_the_same_key() -> None:
    with pytest.raises(SecretUnreadable):
        TenantCipher(uuid4(), {1: KEY}).open(SEALED, kind="provider_key", subject="prv_1")


def test_it_does_not_open_under_another_key() -> None:
    with pytest.raises(SecretUnreadable):
        TenantCipher(TENANT, {1: NEXT_KEY}).open(SEALED, kind="provider_key", subject="prv_1")


@pytest.mark.parametrize("length", range(len(SEALED)))
def test_no_prefix_of_it_opens(length: int) -> None:
    with pytest.raises(SecretUnreadable):
        CIPHER.open(SEALED[:length], kind="provider_key", subject="prv_1")


def test_no_flipped_bit_goes_unnoticed() -> None:
    for position in range(len(SEALED) * 8):
        harmed = bytearray(SEALED)
        harmed[position // 8] ^= 1 << position % 8
        with pytest.raises(SecretUnreadable):
            CIPHER.open(bytes(harmed), kind="provider_key", subject="prv_1")


@given(st.binary(max_size=200))
def test_garbage_is_refused(garbage: bytes) -> None:
    for sealed in (garbage, b"\x01\x00\x00\x00\x01" + garbage):
        with pytest.raises(SecretUnreadable):
            CIPHER.open(sealed, kind="provider_key", subject="prv_1")


def test_after_a_rotation_the_new_key_seals_and_the_old_one_still_opens() -> None:
    rotated = TenantCipher(TENANT, {1: KEY, 2: NEXT_KEY})
    assert rotated.open(SEALED, kind="provider_key", subject="prv_1") == PLAINTEXT
    resealed = rotated.seal(PLAINTEXT, kind="provider_key", subject="prv_1")
    assert TenantCipher(TENANT, {2: NEXT_KEY}).open(resealed, kind="provider_key", subject="prv_1") == PLAINTEXT
    with pytest.raises(SecretUnreadable):
        CIPHER.open(resealed, kind="provider_key", subject="prv_1")


def test_the_key_version_in_the_header_cannot_be_changed() -> None:
    both = TenantCipher(TENANT, {1: KEY, 2: KEY})
    assert both.open(SEALED, kind="provider_key", subject="prv_1") == PLAINTEXT
    with pytest.raises(SecretUnreadable):
        both.open(SEALED[:4] + b"\x02" + SEALED[5:], kind="provider_key", subject="prv_1")


def test_nonces_do_not_repeat() -> None:
    nonces = {CIPHER.seal(b"same", kind="k", subject="s")[5:17] for _ in range(2000)}
    assert len(nonces) == 2000


def test_too_much_is_not_sealed() -> None:
    with pytest.raises(ValueError, match="bytes can be sealed"):
        CIPHER.seal(b"x" * (MAX_PLAINTEXT_BYTES + 1), kind="k", subject="s")


@pytest.mark.parametrize("data_keys", [{}, {1: b"short"}, {1: KEY, 2: b""}])
def test_a_cipher_without_proper_keys_is_not_made(data_keys: dict[int, bytes]) -> None:
    with pytest.raises(ValueError, match="data key"):
        TenantCipher(TENANT, data_keys)


def test_nothing_secret_is_printed() -> None:
    printed = f"{CIPHER!r} {CIPHER}"
    assert KEY.decode() not in printed
    assert KEY.hex() not in printed
