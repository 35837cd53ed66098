"""What secrets and personal data look like, at one place of a text that may go on.

A recogniser is asked about a place and answers where the match ends, None (nothing begins here), or `MORE` (the text that
is there could still become a match). An answer other than `MORE` never changes when text is added: that is what lets
a stream be filtered as if it were whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from stonechat.assistant.guardrails import checksums

Redaction = Literal["secrets", "cards", "ibans", "emails", "phones", "national_ids"]

MORE: Final = -1
Answer = int | None
Recognise = Callable[[str, int, bool], Answer]

_BETWEEN = " \u00a0\u2009\u202f\u200b-\u200d\u2060\ufeff.\\-\u2010-\u2015*_~/"
"""What may stand between the digits of one number, Markdown's emphasis and invisible characters included."""
_STRETCH = re.compile(rf"[\d{_BETWEEN}()+]*")
_DIGIT = re.compile(r"\d")
_MAX_STRETCH = 80
_WORD_START = r"(?<![A-Za-z0-9_])"
_BOUNDARY = re.compile(r"[A-Za-z0-9_]")


@dataclass(frozen=True, slots=True)
class Swallow:
    """The rest of a match whose end is not known yet: it goes, however long it is.

    `body` matches what goes; `maybe` matches what goes only if more of the body follows.
    """

    body: re.Pattern[str]
    maybe: re.Pattern[str]

    def step(self, text: str, at: int) -> tuple[int, bool]:
        """Where the rest ends as far as is known, and whether it may go on after more text."""
        end = self.body.match(text, at).end()  # type: ignore[union-attr]  # it matches the empty text too
        return end, self.maybe.match(text, end).end() == len(text)  # type: ignore[union-attr]


@dataclass(frozen=True, slots=True)
class Recogniser:
    """One kind of thing. It begins with one of `starts`, or where `trigger` matches, cut off text included (`\\Z`)."""

    kind: Redaction
    category: str
    starts: tuple[str, ...]
    trigger: str
    recognise: Recognise
    swallow: Swallow | Literal["pem"] | None = None


def prefixes(words: Iterable[str]) -> str:
    """A pattern for any of these words, or for the end of the text in the middle of one."""
    words = sorted(set(words))
    if "" in words:
        return ""
    branches = []
    for first in sorted({word[0] for word in words}):
        rest = prefixes(word[1:] for word in words if word[0] == first)
        branches.append(re.escape(first) + (rf"(?:{rest}|\Z)" if rest else ""))
    return "|".join(branches)


# Secrets

_TOKEN = Swallow(re.compile(r"[A-Za-z0-9_\-]*"), re.compile(""))
_JWT_REST = Swallow(re.compile(r"(?:\.?[A-Za-z0-9_\-=])*"), re.compile(r"\.?"))
_SHAPES: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("API key", ("sk-",), 20),
    ("API key", ("sk_", "rk_", "pplx-", "gsk_", "xai-", "r8_", "whsec_", "hf_", "fw_", "tgp_v1_", "nvapi-"), 20),
    ("AWS key", ("AKIA", "ASIA"), 16),
    ("GitHub token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"), 36),
    ("GitLab token", ("glpat-", "glptt-", "gldt-"), 20),
    ("Slack token", ("xoxa-", "xoxb-", "xoxe-", "xoxo-", "xoxp-", "xoxr-", "xoxs-", "xapp-"), 20),
    ("Google key", ("AIza",), 35),
    ("npm token", ("npm_",), 36),
    ("PyPI token", ("pypi-",), 60),
    ("DigitalOcean token", ("dop_v1_", "doo_v1_"), 60),
    ("Databricks token", ("dapi",), 32),
    ("Shopify token", ("shpat_", "shpss_", "shpca_"), 32),
)
"""Name, how it begins, and at least how many characters follow."""
_RANDOM = re.compile(r"[0-9A-Z]")
_TOKEN_RUN = re.compile(r"[A-Za-z0-9_\-]{0,200}")
_JWT_RUN = re.compile(r"[A-Za-z0-9_\-.]{0,400}")
_JWT_SHAPE = re.compile(r"eyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{4,}|eyJ[A-Za-z0-9_\-]{150}")
_SENDGRID = re.compile(r"SG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}")
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_BEGUN = re.compile(r"-{1,5}\Z|-----(?:B|BE|BEG|BEGI|BEGIN[A-Z0-9 ]{0,64}-{0,4})\Z")


def _token(words: tuple[str, ...], least: int) -> Recognise:
    def recognise(text: str, at: int, final: bool) -> Answer:
        for word in words:
            if text.startswith(word, at):
                run = _TOKEN_RUN.match(text, at + len(word))
                found = run[0] if run else ""
                # Random characters have capitals or digits among them; names in-kebab-case have not.
                if len(found) >= least and _RANDOM.search(found):
                    return at + len(word) + len(found)
                ended = at + len(word) + len(found) < len(text) or len(found) >= 200
                return None if ended or final else MORE
        begun = not final and any(word.startswith(text[at:]) for word in words)
        return MORE if begun else None

    return recognise


def _jwt(text: str, at: int, final: bool) -> Answer:
    run = _JWT_RUN.match(text, at)
    found = run[0] if run else ""
    shape = _JWT_SHAPE.match(found)
    if shape is not None:
        return at + shape.end()
    ended = at + len(found) < len(text) or len(found) >= 400 or not "eyJ".startswith(found[:3])
    return None if ended or final else MORE


def _sendgrid(text: str, at: int, final: bool) -> Answer:
    run = _JWT_RUN.match(text, at)
    found = run[0] if run else ""
    shape = _SENDGRID.match(found)
    if shape is not None:
        return at + shape.end()
    ended = at + len(found) < len(text) or len(found) >= 400 or not "SG.".startswith(found[:3])
    return None if ended or final else MORE


def _pem(text: str, at: int, final: bool) -> Answer:
    found = _PEM.match(text, at)
    if found is not None:
        return found.end()
    return MORE if not final and _PEM_BEGUN.match(text, at) else None


SECRETS = (
    *(Recogniser("secrets", name, words, "", _token(words, least), _TOKEN) for name, words, least in _SHAPES),
    Recogniser("secrets", "JSON Web Token", ("eyJ",), "", _jwt, _JWT_REST),
    Recogniser("secrets", "SendGrid key", ("SG.",), "", _sendgrid, _JWT_REST),
    Recogniser("secrets", "private key", (), r"-{5}|-{1,4}\Z", _pem, "pem"),
)


# Numbers


def _stretch(text: str, at: int, final: bool, *, ahead: int = 1) -> str | None:
    """The digits from here on and what is between them; None while more could follow."""
    stretch = _STRETCH.match(text, at, at + _MAX_STRETCH)
    found = stretch[0] if stretch else ""
    if not final and len(found) < _MAX_STRETCH and at + len(found) + ahead > len(text):
        return None
    return found


def _ascii(digits: str) -> str:
    return digits if digits.isascii() else "".join(str(int(digit)) for digit in digits)


def _ends_at(text: str, end: int) -> bool:
    return end >= len(text) or _BOUNDARY.match(text, end) is None


_FIRST_OF_CARD = frozenset((2, 3, 4, 5, 6, 8, 9))


def _card(text: str, at: int, final: bool) -> Answer:
    if not text[at].isdigit():
        return None
    if int(text[at]) not in _FIRST_OF_CARD:
        return None
    stretch = _stretch(text, at, final)
    if stretch is None:
        return MORE
    places = [found.start() for found in _DIGIT.finditer(stretch)][:19]
    digits = _ascii("".join(stretch[place] for place in places))
    lengths = checksums.card_lengths(digits[:6]) if len(digits) >= 12 else ()
    for length in sorted(lengths, reverse=True):
        if length > len(digits):
            continue
        end = places[length - 1] + 1
        number = stretch[:end]
        if _ends_at(text, at + end) and checksums.is_card(digits[:length]) and _is_grouped_as_card(number):
            return at + end
    return None


def _is_grouped_as_card(number: str) -> bool:
    """Groups of one size (the last may differ), or 4-6-5 and 4-6-4: not the groups of a list of prices."""
    sizes = [len(group) for group in re.split(r"\D+", number)]
    return len(set(sizes[:-1])) <= 1 or sizes in ([4, 6, 5], [4, 6, 4])


_PHONES = (
    re.compile(
        r"(?:\+|00)[ ()./\-\u2010-\u2015\u00a0\u202f]{0,2}[1-9](?:[ ()./\-\u2010-\u2015\u00a0\u202f]{0,3}\d){6,14}"
    ),
    re.compile(r"\(0\d{1,5}\)(?:[ /.\-]{0,3}\d){4,10}"),
    re.compile(r"0\d{1,5}[ /\-]{1,3}\d{2,8}(?:[ .\-]{1}\d{2,6}){0,4}"),
    re.compile(r"0[1-9](?:[ .\-]?\d\d){4}"),
    re.compile(r"0[1-9]\d{8,10}"),
    re.compile(r"(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[-. ])[2-9]\d{2}[-. ]\d{4}"),
)
"""International, then the national forms of much of Europe, then North America's."""


def _phone(text: str, at: int, final: bool) -> Answer:
    stretch = _stretch(text, at, final)
    if stretch is None:
        return MORE
    for pattern in _PHONES:
        found = pattern.match(stretch)
        if found is not None and 7 <= len(re.findall(r"\d", found[0])) <= 15 and _ends_at(text, at + found.end()):
            return at + found.end()
    return None


_NATIONAL: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...] = tuple(
    (re.compile(pattern), check)
    for pattern, check in (
        (r"\d{8}[ -]?[A-Za-z]|[XYZxyz]-?\d{7}-?[A-Za-z]", checksums.is_dni),
        (r"[12] ?\d\d ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d\d|2[ABab]) ?\d{3} ?\d{3} ?\d\d", checksums.is_nir),
        (r"[A-Za-z]{6}\d\d[A-EHLMPRSTa-ehlmprst]\d\d[A-Za-z]\d{3}[A-Za-z]", checksums.is_fiscal_code),
        (r"\d{3}\.?\d{3}\.?\d{3}-?\d\d", checksums.is_cpf),
        (r"\d{11}", checksums.is_pesel),
        (r"\d\d\.?\d\d\.?\d\d[-. ]?\d{3}[. ]?\d\d", checksums.is_rijksregister),
        (r"\d\d ?\d{3} ?\d{3} ?\d{3}", checksums.is_steuer_id),
        (r"(?:\d\d)?\d{6}[-+]?\d{4}", checksums.is_personnummer),
        (r"\d{6}[-+A-FU-Ya-fu-y]\d{3}[0-9A-Ya-y]", checksums.is_hetu),
        (r"\d{9}|\d{4}[. ]\d\d[. ]\d{3}", checksums.is_bsn),
        (r"\d{3}[ -]\d{3}[ -]\d{4}", checksums.is_nhs_number),
        (r"[2-9]\d{3} ?\d{4} ?\d{4}", checksums.is_aadhaar),
        (r"\d{17}[\dXx]", checksums.is_resident_id),
        (r"\d{3}-\d\d-\d{4}", checksums.is_ssn),
    )
)
_MAX_ID = 24
_ID_RUN = re.compile(rf"[A-Za-z0-9 .\-+]{{0,{_MAX_ID}}}")
_BETWEEN_ID = re.compile(r"[ .\-+]")


def _national_id(text: str, at: int, final: bool) -> Answer:
    run = _ID_RUN.match(text, at)
    if run is not None and run.end() == len(text) and not final and run.end() - at < _MAX_ID:
        return MORE
    for pattern, check in _NATIONAL:
        found = pattern.match(text, at)
        if found is None or not found[0].isascii() or not _ends_at(text, found.end()):
            continue
        compact = _BETWEEN_ID.sub("", found[0].upper())
        if check(compact):
            return found.end()
    return None


def _iban(text: str, at: int, final: bool) -> Answer:  # noqa: PLR0911  one line a case
    country = text[at : at + 2].upper()
    if len(country) < 2:
        return None if final else MORE
    length = checksums.IBAN_LENGTHS.get(country)
    if length is None:
        return None
    compact, end, gap = "", at, 0
    for end in range(at, min(len(text), at + 3 * length)):
        character = text[end]
        if character.isascii() and character.isalnum():
            if len(compact) == length:
                return None
            if 2 <= len(compact) < 4 and not character.isdigit():
                return None
            compact, gap = compact + character.upper(), 0
            last = end + 1
        elif len(compact) == length:
            break
        elif character in " \u00a0\u202f-" and gap < 2 and len(compact) >= 4:
            gap += 1
        else:
            return None
    else:
        if not final and len(compact) <= length and end + 1 >= len(text):
            return MORE
    return last if checksums.is_iban(compact) else None


_LOCAL = re.compile(r"[\w.%+'\-]{1,65}")
_DOMAIN_RUN = re.compile(r"[\w.\-]{0,255}")
_DOMAIN = re.compile(r"(?:[^\W_](?:[\w\-]{0,61}[^\W_])?\.)+[^\W\d_][\w\-]{0,30}[^\W_]")


def _email(text: str, at: int, final: bool) -> Answer:
    local = _LOCAL.match(text, at)
    if local is None or len(local[0]) > 64:
        return None
    if local.end() == len(text):
        return None if final else MORE
    if text[local.end()] != "@":
        return None
    run = _DOMAIN_RUN.match(text, local.end() + 1)
    if run is not None and run.end() == len(text) and not final and len(run[0]) < 255:
        return MORE
    domain = _DOMAIN.match(text, local.end() + 1)
    return domain.end() if domain is not None else None


DIGITS = rf"{_WORD_START}\d"
PERSONAL = (
    Recogniser("emails", "e-mail address", (), r"(?<![\w.%+'\-])[\w%+]", _email),
    Recogniser("ibans", "IBAN", (), rf"{_WORD_START}(?:[A-Za-z]{{2}}(?=\d|\Z)|[A-Za-z]\Z)", _iban),
    Recogniser("cards", "card number", (), DIGITS, _card),
    Recogniser(
        "national_ids",
        "national id",
        (),
        rf"{DIGITS}|{_WORD_START}(?:[XYZxyz](?=[-\d]|\Z)|[A-Za-z]{{6}}(?=\d|\Z)|[A-Za-z]{{1,5}}\Z)",
        _national_id,
    ),
    Recogniser("phones", "phone number", (), rf"\+(?=[\d(\s]|\Z)|\((?=[\d+]|\Z)|{DIGITS}", _phone),
)

ALL = (*SECRETS, *PERSONAL)
