"""What is blacked out and what is not: a digit wrong is enough to be left alone."""

from __future__ import annotations

import random

import pytest

from stonechat.assistant.guardrails.output import REDACTED
from support.guardrails import EVERYTHING, cleaned, redacted

JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIEpAIBAAKCAQEA7bq\n+/Zz==\n-----END RSA PRIVATE KEY-----"

CARDS = [
    "4111 1111 1111 1111",
    "4111111111111111",
    "4111-1111-1111-1111",
    "4222222222222",
    "5555 5555 5555 4444",
    "2223 0031 2200 3222",
    "3782 822463 10005",
    "371449635398431",
    "3056 930902 5904",
    "6011 1111 1111 1117",
    "3530 1113 3330 0000",
    "6200 0000 0000 0005",
    "4111\u00a01111\u00a01111\u00a01111",
    "４１１１ １１１１ １１１１ １１１１",
    "4111\u200b1111\u200b1111\u200b1111",
    "**4111** **1111** **1111** **1111**".strip("*"),
]
NO_CARDS = [
    "4111 1111 1111 1112",
    "5555 5555 5555 4445",
    "3782 822463 10006",
    "9111 1111 1111 1111",
    "1234 5678 9012 3452",
    "0000 0000 0000 0000",
    "4.000 5.000 6.000 7.000 8.000",
    "41111111111111111",
    "ref4111111111111111",
    "2024-11-22 and 2025-01-31",
    "978-3-16-148410-0",
]
SECRETS = [
    "sk-proj-Ab3dEf6hIj9kLm2nOp5qRs8tUv1w",
    "sk-ant-api03-Ab3dEf6hIj9kLm2nOp5qRs8tUv1w",
    "sk_" + "live_4eC39HqLyjWDarjtT1zdp7dc",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_" + "Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4zAb3d",
    "github_pat_11ABCDEFG0123456789_abcdefghijklmnopqrstuvwxyz",
    "glpat-Ab3dEf6hIj9kLm2nOp5q",
    "xoxb-123456789012-Ab3dEf6hIj9kLm2n",
    "AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
    "npm_Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4zAb3d",
    "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",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    JWT,
    PEM,
]
NO_SECRETS = [
    "sk-learn",
    "sk-loading-indicator-container-small",
    "task-1234567890123456789012345",
    "sk-short1",
    "AKIA is how such keys begin",
    "AKIAIOSFODNN7EXAMPL",
    "eyJhbGciOiJIUzI1NiJ9",
    "ghp_tooshort1",
    "-----BEGIN CERTIFICATE-----\nMIIEpAIBAAKCAQEA7bq\n-----END CERTIFICATE-----",
    "----- a ruler of dashes -----",
    "a-b-c",
]
IBANS = [
    "DE89 3704 0044 0532 0130 00",
    "GB82WEST12345698765432",
    "FR14 2004 1010 0505 0001 3M02 606",
    "NO9386011117947",
    "nl91abna0417164300",
]
NO_IBANS = [
    "DE89 3704 0044 0532 0130 01",
    "GB82WEST12345698765433",
    "DE8937040044053201300",
    "XX89370400440532013000",
    "DE89 and more",
    "it 14 days",
]
IDS = [
    "12345678Z",
    "X1234567L",
    "1 84 12 76 451 089 46",
    "RSSMRA85T10A562S",
    "529.982.247-25",
    "44051401359",
    "85.07.30-033 28",
    "86 095 742 719",
    "811218-9876",
    "131052-308T",
    "111222333",
    "943 476 5919",
    "2341 2341 2346",
    "11010519491231002X",
    "078-05-1120",
]
NO_IDS = [
    "12345678A",
    "X1234567M",
    "1 84 12 76 451 089 47",
    "RSSMRA85T10A562T",
    "529.982.247-26",
    "44051401358",
    "85.07.30-033 29",
    "86 095 742 718",
    "811218-9875",
    "131052-308U",
    "111222334",
    "943 476 5918",
    "2341 2341 2345",
    "110105194912310021",
    "000-05-1120",
    "666-05-1120",
]
EMAILS = ["ann@shop.example", "a.b+c@mail.shop.example", "müller@bücher.example", "12@x.example"]
NO_EMAILS = ["@handle", "a @ b", "user@localhost", "price@ 5", "a@b"]
PHONES = [
    "+49 30 1234567",
    "+1 (555) 123-4567",
    "0049 30 1234567",
    "(030) 1234567",
    "030/1234567",
    "555-234-5678",
    "(555) 234-5678",
    "01 23 45 67 89",
]
NO_PHONES = ["2024-11-22", "14 days", "1,234,567.89", "12:30", "+5 points", "3.14159", "10.000.000", "555-12"]

MATCHES = [
    *((["cards"], text) for text in CARDS),
    *((["secrets"], text) for text in SECRETS),
    *((["ibans"], text) for text in IBANS),
    *((["national_ids"], text) for text in IDS),
    *((["emails"], text) for text in EMAILS),
    *((["phones"], text) for text in PHONES),
]
NEAR_MISSES = [
    *((["cards"], text) for text in NO_CARDS),
    *((["secrets"], text) for text in NO_SECRETS),
    *((["ibans"], text) for text in NO_IBANS),
    *((["national_ids"], text) for text in NO_IDS),
    *((["emails"], text) for text in NO_EMAILS),
    *((["phones"], text) for text in NO_PHONES),
]


@pytest.mark.parametrize(("kinds", "text"), MATCHES)
def test_what_is_meant_is_blacked_out(kinds: list[str], text: str) -> None:
    assert redacted(f"It is {text}, you see.", kinds) == f"It is {REDACTED}, you see."
    assert redacted(text, kinds) == REDACTED
    assert redacted(f"Here:\n{text}\n", kinds).startswith(f"Here:\n{REDACTED}")


@pytest.mark.parametrize(("kinds", "text"), NEAR_MISSES)
def test_what_only_looks_alike_stays(kinds: list[str], text: str) -> None:
    sentence = f"It is {text}, you see."
    assert redacted(sentence, kinds) == sentence


def test_by_default_only_secrets_and_cards_go() -> None:
    text = "Write to ann@shop.example or call +49 30 1234567. IBAN DE89 3704 0044 0532 0130 00."
    assert cleaned(text) == text
    assert cleaned(f"Pay with {CARDS[0]} and {SECRETS[0]}.") == f"Pay with {REDACTED} and {REDACTED}."


def test_each_of_several_goes_and_what_is_between_stays() -> None:
    text = f"12 {CARDS[0]} 7, {CARDS[2]}; mail a@shop.example, {IBANS[0]}!"
    assert redacted(text, EVERYTHING) == f"12 {REDACTED} 7, {REDACTED}; mail {REDACTED}, {REDACTED}!"


@pytest.mark.parametrize("place", range(12, 19))
def test_one_wrong_digit_is_no_card(place: int) -> None:
    number = list("4111 1111 1111 1111")
    if number[place] == " ":
        place += 1
    number[place] = str((int(number[place]) + 1 + random.randrange(8)) % 10)
    text = f"It is {''.join(number)}."
    assert redacted(text, ["cards"]) == text


def test_a_key_without_an_end_is_gone_to_the_last_character() -> None:
    secret = "sk-" + "aB3" * 3_000
    for text in (f"See {secret}", f"See {secret} there"):
        assert "aB3" not in redacted(text, ["secrets"])
    body = "MIIEpAIBAAKCAQEA7bq\n" * 400
    assert redacted(f"-----BEGIN PRIVATE KEY-----\n{body}", ["secrets"]) == REDACTED
