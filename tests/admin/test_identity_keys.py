"""Identity keys in the console: shown once, with examples that work as they stand."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stonechat import clock
from stonechat.errors import InvalidUserToken
from stonechat.identity.user_tokens import VouchedUser, verify_user_token
from stonechat_admin.views.identity_keys import SECRET_VARIABLE
from support.console import Browser, ConsoleWorld

PATH = "/console/identity-keys"
LANGUAGES = ("node", "python", "php", "ruby")


@pytest.fixture
async def tenant_id(world: ConsoleWorld) -> UUID:
    return await world.another_tenant()


@pytest.fixture
async def editor(world: ConsoleWorld, tenant_id: UUID) -> Browser:
    return await world.signed_in("editor", tenant_id=tenant_id)


async def verify(world: ConsoleWorld, tenant_id: UUID, token: str) -> VouchedUser:
    async with world.services.database.tenant(tenant_id) as session:
        return await verify_user_token(session, tenant_id, token=token, keyring=world.services.keyring)


async def test_the_example_signs_a_token_that_is_accepted(
    world: ConsoleWorld, tenant_id: UUID, editor: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Visitors are strangers so far" in (await editor.page(PATH)).text
    answer = await editor.htmx("POST", PATH)
    assert answer.told["show"] == "identity-key-created"
    secret = answer.one("#new-secret").text(strip=True)
    page = await editor.page(PATH)
    assert secret not in page.response.text
    monkeypatch.setenv(SECRET_VARIABLE, secret)
    run: dict[str, Any] = {}
    exec(page.one("#sign-python").text(), run)
    user = await verify(world, tenant_id, run["token"])
    assert (user.external_id, user.name, user.email) == ("customer-42", "Anna Berg", "anna@example.com")


async def test_every_language_names_the_newest_key_or_the_chosen_one(world: ConsoleWorld, editor: Browser) -> None:
    for _ in range(2):
        await editor.htmx("POST", PATH)
    page = await editor.page(PATH)
    newest, oldest = (option.text(strip=True) for option in page.all("#kid-choice option"))
    assert newest > oldest
    chosen = await editor.page(f"{PATH}?kid={oldest}")
    for language in LANGUAGES:
        assert newest in page.one(f"#sign-{language}").text()
        assert oldest in chosen.one(f"#sign-{language}").text()
        assert SECRET_VARIABLE in page.one(f"#sign-{language}").text()
    assert newest in (await editor.page(f"{PATH}?kid=<script>")).one("#sign-node").text()


async def test_a_public_key_is_added(world: ConsoleWorld, tenant_id: UUID, editor: Browser) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    answer = await editor.htmx("POST", f"{PATH}/public", {"public_key": f"\n{pem.decode()} ", "kid": "shop-1"})
    assert answer.told["close"]
    assert "shop-1" in answer.text
    assert "sign with its private half" in answer.text
    now = clock.now().timestamp()
    claims = {"sub": "7", "iat": int(now), "exp": int(now) + 60}
    token = jwt.encode(claims, private, algorithm="ES256", headers={"kid": "shop-1"})
    assert (await verify(world, tenant_id, token)).external_id == "7"
    again = await editor.htmx("POST", f"{PATH}/public", {"public_key": pem.decode(), "kid": "shop-1"}, status=422)
    assert "name of its own" in again.one("#kid-error").text()


@pytest.mark.parametrize(
    ("typed", "field", "said"),
    [
        ({"public_key": "", "kid": ""}, "public_key", "Paste the whole public key"),
        ({"public_key": "ssh-rsa AAAA", "kid": ""}, "public_key", "No public key"),
        ({"public_key": "x" * 9000, "kid": ""}, "public_key", "at most 8,192"),
        ({"public_key": "x", "kid": "with space"}, "kid", "no spaces"),
    ],
)
async def test_what_is_wrong_is_said_at_the_field(
    editor: Browser, typed: dict[str, str], field: str, said: str
) -> None:
    answer = await editor.htmx("POST", f"{PATH}/public", typed, status=422)
    assert said in answer.one(f"#{field}-error").text()
    assert answer.one(f"#{field}").attributes["aria-invalid"] == "true"


async def test_a_private_key_is_refused_with_a_warning(editor: Browser) -> None:
    private = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    answer = await editor.htmx("POST", f"{PATH}/public", {"public_key": private.decode()}, status=422)
    assert "private key" in answer.one("#public_key-error").text()


async def test_a_retired_key_signs_nobody_in(world: ConsoleWorld, tenant_id: UUID, editor: Browser) -> None:
    answer = await editor.htmx("POST", PATH)
    secret = answer.one("#new-secret").text(strip=True)
    (row,) = answer.all("#identity-key-rows tr")
    assert row.id is not None
    retired = await editor.htmx("DELETE", f"{PATH}/{row.id}")
    assert "Visitors are strangers" in retired.text
    now = int(clock.now().timestamp())
    token = jwt.encode({"sub": "1", "iat": now, "exp": now + 60}, secret, headers={"kid": row.id})
    with pytest.raises(InvalidUserToken):
        await verify(world, tenant_id, token)
    assert (await editor.htmx("DELETE", f"{PATH}/{row.id}", status=404)).toast == "There is no such identity key."


async def test_viewers_look_and_strangers_find_nothing(world: ConsoleWorld, tenant_id: UUID, editor: Browser) -> None:
    answer = await editor.htmx("POST", PATH)
    (row,) = answer.all("#identity-key-rows tr")
    viewer = await world.signed_in("viewer", tenant_id=tenant_id)
    page = await viewer.page(PATH)
    assert row.id in page.text
    assert page.all("main [hx-post], main [hx-delete]") == []
    for method, path in (("POST", PATH), ("POST", f"{PATH}/public"), ("DELETE", f"{PATH}/{row.id}")):
        assert "needs the role editor" in (await viewer.htmx(method, path, status=403)).toast
    stranger = await world.signed_in("owner", tenant_id=await world.another_tenant())
    await stranger.htmx("DELETE", f"{PATH}/{row.id}", status=404)
    assert row.id in (await viewer.page(PATH)).text
