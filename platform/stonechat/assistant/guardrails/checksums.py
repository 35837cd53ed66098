"""Check digits: what tells a card, an account or a national id from any other row of digits."""

from __future__ import annotations

from datetime import date
from functools import lru_cache

_CARD_LENGTHS: tuple[tuple[int, int, frozenset[int]], ...] = tuple(
    (int(low.ljust(6, "0")), int(high.ljust(6, "9")), frozenset(lengths))
    for low, high, lengths in (
        ("4", "4", (13, 16, 19)),
        ("51", "55", (16,)),
        ("2221", "2720", (16,)),
        ("34", "34", (15,)),
        ("37", "37", (15,)),
        ("300", "305", (14, 16, 17, 18, 19)),
        ("36", "36", (14, 15, 16, 17, 18, 19)),
        ("38", "39", (14, 16, 17, 18, 19)),
        ("3528", "3589", (16, 17, 18, 19)),
        ("6011", "6011", (16, 17, 18, 19)),
        ("644", "659", (16, 17, 18, 19)),
        ("62", "62", (16, 17, 18, 19)),
        ("60", "60", (16,)),
        ("81", "82", (16,)),
        ("508", "508", (16,)),
        ("2200", "2204", (16, 17, 18, 19)),
        ("9792", "9792", (16,)),
        ("5018", "5018", tuple(range(12, 20))),
        ("5020", "5020", tuple(range(12, 20))),
        ("5038", "5038", tuple(range(12, 20))),
        ("5893", "5893", tuple(range(12, 20))),
        ("6304", "6304", tuple(range(12, 20))),
        ("6759", "6763", tuple(range(12, 20))),
    )
)
"""Ranges of the first six digits, and how long such cards are: ISO/IEC 7812 and what the schemes publish."""

_IBANS = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 FO18 FR27
GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27
MD24 ME22 MK19 MN20 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SE24 SI19 SK24 SM27 ST25
SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20
"""
IBAN_LENGTHS = {each[:2]: int(each[2:]) for each in _IBANS.split()}
"""Characters of an IBAN by country, from the SWIFT registry."""

_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_HETU_SIGNS = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_FISCAL_ODD = dict(
    zip("0123456789", (1, 0, 5, 7, 9, 13, 15, 17, 19, 21), strict=True),
    **dict(
        zip(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
            strict=True,
        )
    ),
)
_VERHOEFF_D = (
    "0123456789",
    "1234067895",
    "2340178956",
    "3401289567",
    "4012395678",
    "5987604321",
    "6598710432",
    "7659821043",
    "8765932104",
    "9876543210",
)
_VERHOEFF_P = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812: doubled from the right, every second digit."""
    total = 0
    for at, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + at % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_card(digits: str) -> bool:
    """Whether a scheme issues numbers that begin like this, of this length, and the check digit is right."""
    if not 12 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    return len(digits) in card_lengths(digits[:6]) and luhn(digits)


@lru_cache(maxsize=4096)
def card_lengths(first_six: str) -> frozenset[int]:
    """How long the cards are that begin so; empty if no scheme issues any."""
    first = int(first_six)
    return frozenset[int]().union(*(lengths for low, high, lengths in _CARD_LENGTHS if low <= first <= high))


def is_iban(compact: str) -> bool:
    """ISO 13616, upper case and without spaces: the country's length, and 1 modulo 97."""
    if IBAN_LENGTHS.get(compact[:2]) != len(compact) or not compact[2:4].isdigit():
        return False
    return int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97 == 1


def is_dni(text: str) -> bool:
    """Spain: eight digits (or X, Y, Z and seven) and their letter modulo 23."""
    number = text[:-1].replace("X", "0", 1).replace("Y", "1", 1).replace("Z", "2", 1)
    return _DNI_LETTERS[int(number) % 23] == text[-1]


def is_nir(text: str) -> bool:
    """France: thirteen digits and 97 minus their remainder. Corsica's departments 2A and 2B count as 19 and 18."""
    body = text[:13].replace("2A", "19").replace("2B", "18")
    return body.isdigit() and 97 - int(body) % 97 == int(text[13:])


def is_fiscal_code(text: str) -> bool:
    """Italy: sixteen characters, of which the last is the check."""
    even = sum(int(character, 36) - (0 if character.isdigit() else 10) for character in text[1:15:2])
    return (even + sum(_FISCAL_ODD[character] for character in text[0:15:2])) % 26 == ord(text[15]) - ord("A")


def is_cpf(digits: str) -> bool:
    """Brazil: eleven digits, two of them checks."""
    if len(set(digits)) == 1:
        return False
    for length in (9, 10):
        total = sum(int(digit) * (length + 1 - at) for at, digit in enumerate(digits[:length]))
        if total * 10 % 11 % 10 != int(digits[length]):
            return False
    return True


def is_pesel(digits: str) -> bool:
    """Poland: a date of birth whose month tells the century, and a check digit."""
    total = sum(int(digit) * weight for digit, weight in zip(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3), strict=False))
    month = int(digits[2:4])
    century = (1900, 2000, 2100, 2200, 1800)[month // 20]
    return (10 - total % 10) % 10 == int(digits[10]) and _is_date(
        century + int(digits[:2]), month % 20, int(digits[4:6])
    )


def is_rijksregister(digits: str) -> bool:
    """Belgium: a date of birth, a serial number, and 97 minus the remainder (born since 2000: with a 2 in front)."""
    checks = {97 - int(digits[:9]) % 97, 97 - int("2" + digits[:9]) % 97}
    return int(digits[9:]) in checks and int(digits[2:4]) <= 12 and int(digits[4:6]) <= 31


def is_steuer_id(digits: str) -> bool:
    """Germany: eleven digits, ISO 7064 MOD 11,10, of the first ten exactly one twice or thrice."""
    most = max(digits[:10].count(digit) for digit in digits[:10])
    if digits[0] == "0" or not 2 <= most <= 3 or len(set(digits[:10])) not in (8, 9):
        return False
    product = 10
    for digit in digits[:10]:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def is_personnummer(digits: str) -> bool:
    """Sweden: a date of birth, with or without its century, and Luhn over the last ten digits."""
    short = digits[-10:]
    return luhn(short) and 1 <= int(short[2:4]) <= 12 and 1 <= int(short[4:6]) % 60 <= 31


def is_hetu(text: str) -> bool:
    """Finland: a date of birth, perhaps the letter of its century (- and + are left out), three digits and a sign."""
    return (
        _HETU_SIGNS[int(text[:6] + text[-4:-1]) % 31] == text[-1]
        and 1 <= int(text[2:4]) <= 12
        and 1 <= int(text[:2]) <= 31
    )


def is_bsn(digits: str) -> bool:
    """The Netherlands: nine digits, the last with weight -1, divisible by 11."""
    total = sum(int(digit) * weight for digit, weight in zip(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1), strict=True))
    return total % 11 == 0 and len(set(digits)) > 1


def is_nhs_number(digits: str) -> bool:
    """England: ten digits, the last a check modulo 11."""
    check = 11 - sum(int(digit) * (10 - at) for at, digit in enumerate(digits[:9])) % 11
    return check != 10 and check % 11 == int(digits[9]) and len(set(digits)) > 1


def is_aadhaar(digits: str) -> bool:
    """India: twelve digits, not beginning with 0 or 1, by Verhoeff."""
    check = 0
    for at, digit in enumerate(reversed(digits)):
        check = int(_VERHOEFF_D[check][int(_VERHOEFF_P[at % 8][int(digit)])])
    return check == 0 and len(set(digits)) > 1


def is_resident_id(text: str) -> bool:
    """China: seventeen digits with a date of birth, and a sign by ISO 7064 MOD 11-2."""
    total = sum(int(digit) * (2 ** (17 - at) % 11) for at, digit in enumerate(text[:17]))
    return "10X98765432"[total % 11] == text[17] and _is_date(int(text[6:10]), int(text[10:12]), int(text[12:14]))


def is_ssn(digits: str) -> bool:
    """The United States give no check digit: only what is never issued can be told."""
    return digits[:3] not in ("000", "666") and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return 1800 <= year < 2300
