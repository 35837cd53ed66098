"""Tokens: honest ones as another library makes them, and every forgery we know of."""

import base64
import hashlib
import hmac
import json
import string
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from stonechat import clock
from stonechat.identity import jose
from stonechat.identity.jose import TokenRefused, VerificationKey

SECRET = b"0123456789abcdef0123456789abcdef"
OTHER_SECRET = b"fedcba9876543210fedcba9876543210"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
KEYS = {"k1": VerificationKey("k1", "HS256", SECRET)}
HEADER = {"alg": "HS256", "typ": "at+jwt", "kid": "k1"}
NOW = 1_700_000_000
CLAIMS: dict[str, Any] = {"sub": "user-1", "aud": "us", "iss": "them", "iat": NOW, "exp": NOW + 600}
PUBLIC_PEM = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
PUBLIC_DER = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
)


@pytest.fixture(scope="module", autouse=True)
def time_stands_still() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", lambda: datetime.fromtimestamp(NOW, UTC))
        yield


def b64(value: Any) -> bytes:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def forge(header: Any = HEADER, claims: Any = CLAIMS, secret: bytes = SECRET, digest: Any = hashlib.sha256) -> str:
    """A token with a true HMAC over whatever it is given."""
    signed = b64(header) + b"." + b64(claims)
    return (signed + b"." + b64(hmac.new(secret, signed, digest).digest())).decode()


def believe(token: Any, keys: dict[str, VerificationKey] = KEYS, **changes: Any) -> dict[str, Any]:
    wanted = {"audience": "us", "issuer": "them", "typ": "at+jwt", "max_lifetime": timedelta(minutes=15)} | changes
    return jose.verify(token, keys=keys, **wanted)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in CLAIMS.items() if key != name}


def flipped_last_bit(token: str) -> str:
    """The same bytes under base64's decoder, spelt differently: the last character's unused bits are set."""
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) | 1]


def mixed(header_of: str, claims_of: str, signature_of: str) -> str:
    header, claims, signature = (token.split(".") for token in (header_of, claims_of, signature_of))
    return ".".join((header[0], claims[1], signature[2]))


GOOD = forge()
EVIL = forge(claims=CLAIMS | {"sub": "admin"}, secret=OTHER_SECRET)
NESTED = b'{"alg":' + b"[" * 300 + b"]" * 300 + b"}"
DEEP = json.dumps(CLAIMS).encode()[:-1] + b',"x":' + b"[" * 1500 + b"]" * 1500 + b"}"

ATTACKS: list[tuple[str, Any, str]] = [
    ("alg none, no signature", (b64(HEADER | {"alg": "none"}) + b"." + b64(CLAIMS) + b".").decode(), "shape"),
    ("alg none, some signature", forge(HEADER | {"alg": "none"}), "algorithm"),
    ("alg None in capitals", forge(HEADER | {"alg": "NONE"}), "algorithm"),
    ("alg in lower case", forge(HEADER | {"alg": "hs256"}), "algorithm"),
    ("a stronger HMAC", forge(HEADER | {"alg": "HS512"}, digest=hashlib.sha512), "algorithm"),
    ("an asymmetric algorithm", forge(HEADER | {"alg": "RS256"}), "algorithm"),
    ("alg is a number", forge(HEADER | {"alg": 5}), "header"),
    ("alg is null", forge(HEADER | {"alg": None}), "header"),
    ("alg is missing", forge({"typ": "at+jwt", "kid": "k1"}), "header"),
    ("alg twice", forge(b'{"alg":"none","alg":"HS256","typ":"at+jwt","kid":"k1"}'), "duplicate_member"),
    ("unknown kid", forge(HEADER | {"kid": "k2"}), "unknown_kid"),
    ("kid is an object", forge(HEADER | {"kid": {}}), "header"),
    ("kid is a list", forge(HEADER | {"kid": ["k1"]}), "header"),
    ("kid is empty", forge(HEADER | {"kid": ""}), "header"),
    ("kid is missing", forge({"alg": "HS256", "typ": "at+jwt"}), "header"),
    ("kid is a path", forge(HEADER | {"kid": "../../../dev/null"}), "unknown_kid"),
    ("another typ", forge(HEADER | {"typ": "JWT"}), "typ"),
    ("typ is missing", forge({"alg": "HS256", "kid": "k1"}), "header"),
    ("a crit extension", forge(HEADER | {"crit": ["x"], "x": 1}), "header"),
    ("an embedded key", forge(HEADER | {"jwk": {"kty": "oct", "k": b64(OTHER_SECRET).decode()}}), "header"),
    ("a key by URL", forge(HEADER | {"jku": "https://evil.example/keys"}), "header"),
    ("a certificate by URL", forge(HEADER | {"x5u": "https://evil.example/cert"}), "header"),
    ("a zipped payload", forge(HEADER | {"zip": "DEF"}), "header"),
    ("an unencoded payload", forge(HEADER | {"b64": False}), "header"),
    ("header is a list", forge(["HS256"]), "header"),
    ("header is not JSON", forge(b"alg=HS256"), "malformed"),
    ("header is not UTF-8", forge(b'{"alg":"HS256","typ":"at+jwt","kid":"\xff"}'), "malformed"),
    ("header is nested deep", forge(NESTED), "header"),
    ("header is nested deep, unsigned", (b64(NESTED) + b".e30.AAAA").decode(), "header"),
    ("another secret", EVIL, "signature"),
    ("another payload under a good signature", mixed(GOOD, EVIL, GOOD), "signature"),
    ("another signature", mixed(GOOD, GOOD, EVIL), "signature"),
    ("a truncated signature", GOOD[:-3], "signature"),
    ("an empty signature", GOOD.rsplit(".", 1)[0] + ".", "shape"),
    ("a one-byte signature", GOOD.rsplit(".", 1)[0] + ".AA", "signature"),
    ("sub is missing", forge(claims=without("sub")), "missing_sub"),
    ("sub is a number", forge(claims=CLAIMS | {"sub": 1}), "sub"),
    ("sub is empty", forge(claims=CLAIMS | {"sub": ""}), "sub"),
    ("sub is a list", forge(claims=CLAIMS | {"sub": ["user-1"]}), "sub"),
    ("sub twice", forge(claims=json.dumps(CLAIMS).encode()[:-1] + b',"sub":"admin"}'), "duplicate_member"),
    ("sub holds NUL", forge(claims=CLAIMS | {"sub": "user\0"}), "claims"),
    ("sub holds half a surrogate pair", forge(claims=CLAIMS | {"sub": "\ud800"}), "malformed"),
    ("jti is a number", forge(claims=CLAIMS | {"jti": 7}), "jti"),
    ("aud is missing", forge(claims=without("aud")), "aud"),
    ("aud is another", forge(claims=CLAIMS | {"aud": "others"}), "aud"),
    ("aud is a list that holds us", forge(claims=CLAIMS | {"aud": ["us", "others"]}), "aud"),
    ("aud is null", forge(claims=CLAIMS | {"aud": None}), "aud"),
    ("iss is missing", forge(claims=without("iss")), "iss"),
    ("iss is another", forge(claims=CLAIMS | {"iss": "them.evil.example"}), "iss"),
    ("iss is a list", forge(claims=CLAIMS | {"iss": ["them"]}), "iss"),
    ("exp is missing", forge(claims=without("exp")), "time_type"),
    ("exp is null", forge(claims=CLAIMS | {"exp": None}), "time_type"),
    ("exp is text", forge(claims=CLAIMS | {"exp": str(NOW + 60)}), "time_type"),
    ("exp is a float", forge(claims=CLAIMS | {"exp": NOW + 60.5}), "time_type"),
    ("exp is true", forge(claims=CLAIMS | {"exp": True}), "time_type"),
    ("exp is infinite", forge(claims=b'{"sub":"u","aud":"us","iss":"them","iat":1,"exp":1e400}'), "time_type"),
    ("exp is Infinity", forge(claims=b'{"sub":"u","aud":"us","iss":"them","iat":1,"exp":Infinity}'), "not_json"),
    ("exp is NaN", forge(claims=b'{"sub":"u","aud":"us","iss":"them","iat":1,"exp":NaN}'), "not_json"),
    (
        "exp has 5,000 digits",
        forge(claims=json.dumps(without("exp")).encode()[:-1] + b',"exp":' + b"9" * 5000 + b"}"),
        "malformed",
    ),
    ("exp is past", forge(claims=CLAIMS | {"iat": NOW - 900, "exp": NOW - 60}), "expired"),
    ("exp is before iat", forge(claims=CLAIMS | {"iat": NOW + 10, "exp": NOW + 5}), "lifetime"),
    ("it lives too long", forge(claims=CLAIMS | {"exp": NOW + 901}), "lifetime"),
    ("it lives for ever", forge(claims=CLAIMS | {"exp": 10**15}), "lifetime"),
    ("iat is missing", forge(claims=without("iat")), "time_type"),
    ("iat is negative", forge(claims=CLAIMS | {"iat": -5, "exp": NOW}), "lifetime"),
    ("iat is in the future", forge(claims=CLAIMS | {"iat": NOW + 300, "exp": NOW + 900}), "not_yet_valid"),
    ("nbf is in the future", forge(claims=CLAIMS | {"nbf": NOW + 300}), "not_yet_valid"),
    ("nbf is text", forge(claims=CLAIMS | {"nbf": "0"}), "time_type"),
    ("claims are a list", forge(claims=[CLAIMS]), "claims"),
    ("claims are text", forge(claims=b'"sub"'), "claims"),
    ("claims are not JSON", forge(claims=b"sub=user-1"), "malformed"),
    ("claims are nested deep", forge(claims=DEEP), "depth"),
    ("claims are huge", forge(claims=CLAIMS | {"x": "y" * 9000}), "shape"),
    ("junk after it", GOOD + "!!", "shape"),
    ("padding after it", GOOD + "=", "shape"),
    ("a newline after it", GOOD + "\n", "shape"),
    ("a space before it", " " + GOOD, "shape"),
    ("a fourth segment", GOOD + ".AAAA", "shape"),
    ("five segments, as JWE", "aa.bb.cc.dd.ee", "shape"),
    ("two segments", GOOD.rsplit(".", 1)[0], "shape"),
    ("unused bits set", flipped_last_bit(GOOD), "encoding"),
    ("an impossible length", GOOD + "AA", "encoding"),
    ("standard base64", GOOD.rsplit(".", 1)[0] + ".+/+/", "shape"),
    ("full-width letters", "ａａ.ｂｂ.ｃｃ", "shape"),
    ("bytes", GOOD.encode(), "shape"),
    ("nothing", None, "shape"),
    ("empty text", "", "shape"),
]


def test_there_are_at_least_35_attacks() -> None:
    assert len({name for name, _, _ in ATTACKS}) == len(ATTACKS) >= 35


@pytest.mark.parametrize(("token", "reason"), [pytest.param(t, r, id=name) for name, t, r in ATTACKS])
def test_forged_tokens_are_refused(token: Any, reason: str) -> None:
    with pytest.raises(TokenRefused) as refused:
        believe(token)
    assert refused.value.reason == reason


UNUSABLE_KEYS: list[tuple[str, VerificationKey]] = [
    ("an empty secret", VerificationKey("k1", "HS256", b"")),
    ("a short secret", VerificationKey("k1", "HS256", b"k" * 31)),
    ("a text secret", VerificationKey("k1", "HS256", "k" * 64)),
    ("a published DER key as a secret", VerificationKey("k1", "HS256", PUBLIC_DER)),
    ("a published PEM key as a secret", VerificationKey("k1", "HS256", PUBLIC_PEM)),
    ("an SSH key as a secret", VerificationKey("k1", "HS256", b"ssh-ed25519 " + b"A" * 68)),
    ("a JWK as a secret", VerificationKey("k1", "HS256", {"kty": "oct", "k": b64(SECRET).decode()})),
    ("no such algorithm", VerificationKey("k1", "none", b"k" * 32)),  # type: ignore[arg-type]
    ("a secret where a public key belongs", VerificationKey("k1", "RS256", SECRET)),
    ("an elliptic key for RSA", VerificationKey("k1", "ES256", PUBLIC_PEM)),
    ("a JWK of another kind", VerificationKey("k1", "RS256", {"kty": "oct", "k": b64(SECRET).decode()})),
    ("a JWK without members", VerificationKey("k1", "ES256", {"kty": "EC", "crv": "P-256"})),
    ("a JWK for encryption", VerificationKey("k1", "ES256", {"kty": "EC", "use": "enc"})),
]


@pytest.mark.parametrize("key", [pytest.param(key, id=name) for name, key in UNUSABLE_KEYS])
def test_a_key_that_could_be_forged_with_verifies_nothing(key: VerificationKey) -> None:
    secret = key.key if isinstance(key.key, bytes) else SECRET
    with pytest.raises(TokenRefused):
        key.check()
    with pytest.raises(TokenRefused):
        believe(forge(HEADER | {"alg": key.algorithm}, secret=secret), keys={"k1": key})


def test_a_private_key_is_not_taken_for_a_public_one() -> None:
    private_jwk = json.loads(pyjwt.algorithms.ECAlgorithm(hashlib.sha256).to_jwk(EC_KEY))
    private_pem = EC_KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for key in (private_jwk, private_pem):
        with pytest.raises(TokenRefused):
            VerificationKey("k1", "ES256", key).check()


def test_an_elliptic_key_serves_the_algorithm_of_its_own_curve_only() -> None:
    longer = ec.generate_private_key(ec.SECP384R1()).public_key()
    key = json.loads(pyjwt.algorithms.ECAlgorithm(hashlib.sha384).to_jwk(longer))
    VerificationKey("k", "ES384", key).check()
    with pytest.raises(TokenRefused) as refused:
        VerificationKey("k", "ES256", key).check()
    assert refused.value.reason == "key_type"


def test_weak_rsa_keys_are_refused() -> None:
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    with pytest.raises(TokenRefused) as refused:
        VerificationKey("k", "RS256", json.loads(pyjwt.algorithms.RSAAlgorithm.to_jwk(small))).check()
    assert refused.value.reason == "key_size"


def test_a_token_of_one_key_is_not_verified_by_another_of_the_same_issuer() -> None:
    keys = KEYS | {"k2": VerificationKey("k2", "HS256", OTHER_SECRET)}
    assert believe(forge(HEADER | {"kid": "k2"}, secret=OTHER_SECRET), keys=keys)["sub"] == "user-1"
    with pytest.raises(TokenRefused):
        believe(forge(HEADER | {"kid": "k2"}, secret=SECRET), keys=keys)


def test_an_rsa_public_key_does_not_verify_an_hmac_made_with_it() -> None:
    keys = {"k1": VerificationKey("k1", "RS256", PUBLIC_PEM)}
    for algorithm in ("HS256", "RS256"):
        with pytest.raises(TokenRefused):
            believe(forge(HEADER | {"alg": algorithm}, secret=PUBLIC_PEM), keys=keys)


def test_a_retired_secret_stops_verifying_at_once() -> None:
    assert believe(GOOD)["sub"] == "user-1"
    with pytest.raises(TokenRefused):
        believe(GOOD, keys={"k1": VerificationKey("k1", "HS256", OTHER_SECRET)})
    with pytest.raises(TokenRefused):
        believe(GOOD, keys={})


def test_honest_tokens_of_another_library_are_believed() -> None:
    token = pyjwt.encode(CLAIMS, SECRET, algorithm="HS256", headers={"kid": "k1", "typ": "at+jwt"})
    assert believe(token) == CLAIMS


def test_our_tokens_are_believed_by_another_library() -> None:
    token = jose.sign(CLAIMS, key=SECRET, kid="k1", typ="at+jwt")
    assert pyjwt.get_unverified_header(token) == HEADER
    unhurried = {"verify_exp": False}
    decoded = pyjwt.decode(token, SECRET, algorithms=["HS256"], audience="us", issuer="them", options=unhurried)
    assert decoded == CLAIMS
    assert believe(token) == CLAIMS


@pytest.mark.parametrize("form", ["pem", "pem text", "jwk"])
@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"])
def test_public_keys_verify_tokens_of_another_library(algorithm: str, form: str) -> None:
    curve = {"ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}.get(algorithm, ec.SECP256R1())
    private = RSA_KEY if algorithm.startswith("RS") else ec.generate_private_key(curve)
    token = pyjwt.encode(CLAIMS, private, algorithm=algorithm, headers={"kid": "p", "typ": "at+jwt"})
    public: Any = private.public_key()
    if form == "jwk":
        kind: Any = pyjwt.algorithms.RSAAlgorithm if algorithm.startswith("RS") else pyjwt.algorithms.ECAlgorithm
        key: Any = json.loads(kind.to_jwk(public))
    else:
        key = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        key = key.decode() if form == "pem text" else key
    keys = {"p": VerificationKey("p", algorithm, key)}  # type: ignore[arg-type]
    assert believe(token, keys=keys) == CLAIMS
    with pytest.raises(TokenRefused):
        believe(mixed(token, forge(claims=CLAIMS | {"sub": "admin"}), token), keys=keys)


def test_a_customers_user_token_needs_neither_audience_nor_issuer() -> None:
    claims = {"sub": "u", "iat": NOW, "exp": NOW + 60, "name": "Zoë \U0001f600", "attributes": {"plan": "pro"}}
    token = pyjwt.encode(claims, SECRET, algorithm="HS256", headers={"kid": "k1"})
    assert believe(token, typ="JWT", audience=None, issuer=None) == claims


def test_a_user_token_meant_for_someone_else_is_refused() -> None:
    token = pyjwt.encode(CLAIMS, SECRET, algorithm="HS256", headers={"kid": "k1"})
    with pytest.raises(TokenRefused) as refused:
        believe(token, typ="JWT", audience=None, issuer=None)
    assert refused.value.reason == "aud"


def test_required_claims_are_the_callers_to_name() -> None:
    with pytest.raises(TokenRefused) as refused:
        believe(GOOD, required=("sub", "tid"))
    assert refused.value.reason == "missing_tid"
    assert believe(forge(claims=without("sub")), required=())["iss"] == "them"


def test_leeway_forgives_small_clock_differences_both_ways() -> None:
    early = forge(claims=CLAIMS | {"iat": NOW + 20, "exp": NOW + 300})
    late = forge(claims=CLAIMS | {"iat": NOW - 300, "exp": NOW - 20})
    for token in (early, late):
        assert believe(token, leeway=timedelta(minutes=5))["sub"] == "user-1"
        with pytest.raises(TokenRefused):
            believe(token, leeway=timedelta(0))


def test_peeking_reads_the_kid_and_nothing_malformed() -> None:
    assert jose.peek_kid(EVIL, typ="at+jwt") == "k1"
    for name, token, reason in ATTACKS:
        if reason in {"shape", "encoding", "header", "typ", "duplicate_member"} and "sub" not in name:
            with pytest.raises(TokenRefused):
                jose.peek_kid(token, typ="at+jwt")


def test_keys_do_not_show_in_what_is_printed() -> None:
    assert SECRET.decode() not in repr(KEYS) + str(KEYS["k1"])


@given(st.text(max_size=300) | st.binary(max_size=300) | st.none() | st.integers())
def test_garbage_is_refused_and_nothing_else(garbage: Any) -> None:
    with pytest.raises(TokenRefused):
        believe(garbage)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_signed_garbage_is_refused_and_nothing_else(garbage: Any) -> None:
    for token in (forge(header=garbage), forge(claims=garbage)):
        with pytest.raises(TokenRefused):
            believe(token)


@settings(max_examples=300)
@given(st.integers(0, len(GOOD) - 1), st.sampled_from(string.ascii_letters + string.digits + "-_.=\n"))
def test_no_change_of_one_character_is_believed(index: int, character: str) -> None:
    changed = GOOD[:index] + character + GOOD[index + 1 :]
    if changed != GOOD:
        with pytest.raises(TokenRefused):
            believe(changed)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
        st.integers() | st.booleans(),
        max_size=10,
    )
)
def test_what_is_signed_is_what_is_read(extra: dict[str, Any]) -> None:
    claims = {f"x{name}": value for name, value in extra.items()} | CLAIMS
    assert believe(jose.sign(claims, key=SECRET, kid="k1", typ="at+jwt")) == claims
