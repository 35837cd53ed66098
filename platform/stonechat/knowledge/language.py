"""Which language a text is in: by its script, and among Latin scripts by its commonest small words."""

from __future__ import annotations

import re
from collections import Counter

DEFAULT = "en"
_PROBE = 20_000
_WORD = re.compile(r"[^\W\d_]+")
_SMALL_WORDS = {
    "en": "the of and to in is that for it with as was on are be this by you or have not from can your will",
    "de": "der die und das ist nicht ein eine mit auf für den dem von zu sich sie wir bei auch werden oder im kann",
    "fr": "le la les des est et une un que dans pour pas vous sur avec par au du nous ce sont ou votre être",
    "es": "el la los las que de y en un una es por con para no se su del al como más está o puede",
    "it": "il che di e la un una per non è con si del della sono nel gli i le da come anche può o questo",
    "pt": "o que de e a um uma para não com os as do da em por se no na é como mais ou seu você são",
    "nl": "de het een en van is dat niet op te voor met zijn die aan bij ook als u of er worden kan deze",
    "sv": "och att det som en på är av för med den till inte om ett du har kan eller från vi vid din",
    "da": "og det at en den til er som på de med for ikke der et af kan du har vi eller fra skal din",
    "no": "og det at en den til er som på de med for ikke et av kan du har vi eller fra skal din hvis",
    "fi": "ja on ei se että en hän oli ole mutta kun niin tai voi ovat myös jos sen tämä joka",
    "ro": "și de la cu nu este în un o care pe să sunt din pentru mai sau fi ca ce dacă prin",
    "hu": "a az és hogy nem is egy van meg de ez ha csak vagy mint már még el lehet azt",
    "tr": "ve bir bu için ile de da ne var gibi daha çok olarak veya değil olan ise kadar sonra",
    "ca": "el la els les que de i en un una és per amb no es seu del com més o pot",
    "id": "yang dan di untuk dengan tidak ini itu dari pada adalah atau anda dapat ke akan dalam oleh",
}
_LISTS = {language: frozenset(words.split()) for language, words in _SMALL_WORDS.items()}
_SCRIPTS = (
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("ko", re.compile(r"[\uac00-\ud7af]")),
    ("zh", re.compile(r"[\u4e00-\u9fff]")),
    ("th", re.compile(r"[\u0e00-\u0e7f]")),
    ("ru", re.compile(r"[\u0400-\u04ff]")),
    ("el", re.compile(r"[\u0370-\u03ff]")),
    ("ar", re.compile(r"[\u0600-\u06ff]")),
    ("he", re.compile(r"[\u0590-\u05ff]")),
    ("bn", re.compile(r"[\u0980-\u09ff]")),
)
_LATIN = re.compile(r"[A-Za-zÀ-ɏ]")
_CLEAR_SHARE, _CLEAR_WORDS = 0.08, 3


def detect_language(text: str) -> str:
    """ISO 639-1 of the text's language; English when nothing tells."""
    script = language_of_script(text)
    if script is not None:
        return script
    shares, total = small_word_shares(text)
    if not total:
        return DEFAULT
    best = max(shares, key=lambda language: (shares[language][0], language == DEFAULT))
    share, different = shares[best]
    return best if share >= _CLEAR_SHARE and different >= _CLEAR_WORDS else DEFAULT


def language_of_script(text: str) -> str | None:
    """The language that the text's letters tell; None for Latin ones, and for scripts that are not known here."""
    probe = text[:_PROBE]
    latin = len(_LATIN.findall(probe))
    for language, script in _SCRIPTS:
        found = len(script.findall(probe))
        # A character of Chinese says as much as three or four letters; kana decide for Japanese even among many Han.
        if found and found * (4 if language in ("zh", "ko", "ja") else 1) > latin:
            return language
    return None


def small_word_shares(text: str) -> tuple[dict[str, tuple[float, int]], int]:
    """For each language of Latin script: the share of the words that are its small words, and how many different ones
    there are. And the number of words.
    """
    words = Counter(word.lower() for word in _WORD.findall(text[:_PROBE]))
    total = sum(words.values())
    return {
        language: (sum(words[word] for word in small) / max(total, 1), sum(1 for word in small if words[word]))
        for language, small in _LISTS.items()
    }, total
