"""Heuristics for prompt injection: messages that try to change the agent's instructions, or to read them.

These are guesses from wording. They miss what is phrased differently and are sometimes wrong about what is harmless; an agent
must be safe without them. That is why they only flag unless an admin says otherwise, and why every place that shows their
result says that it is a guess.
"""

from __future__ import annotations

import re

from stonechat.assistant.guardrails.folding import fold, hidden_characters, words

_GAP = r"(?: [^\W_]+){0,4}?"
_BEFORE = "previous|prior|above|earlier|preceding|foregoing|initial|original|former|system|your|these safety"
_ORDERS = "instructions?|prompts?|rules?|guidelines?|directives?|directions|programming|commands?|restrictions?|training|guardrails?"

_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (category, re.compile(pattern))
    for category, pattern in (
        (
            "overrides instructions",
            rf" (?:ignor\w*|disregard\w*|forget|override|bypass|discard|neglect|do not follow|don't follow|stop following){_GAP}"
            rf" (?:{_BEFORE}|all|any|everything){_GAP} (?:{_ORDERS}|above|before|said) ",
        ),
        (
            "overrides instructions",
            r" (?:ignorier\w*|vergiss|missachte\w*|übergeh\w*)(?: [^\W_]+){0,4}? (?:anweisung\w*|instruktion\w*|vorgaben?|regeln) ",
        ),
        (
            "overrides instructions",
            r" (?:ignore[zr]?|oublie[zr]?|ne tiens pas compte)(?: [^\W_']+){0,5}? (?:instructions?|consignes?|règles)"
            r" (?:précédentes?|antérieures?|ci|système|initiales?) ",
        ),
        (
            "overrides instructions",
            r" (?:ignor[ae]r?|olvid[ae]r?|desatiende|descarta|esquece|esqueça|dimentica|trascura)(?: [^\W_]+){0,4}?"
            r" (?:instrucciones|instruções|istruzioni|reglas|regras|regole) (?:anteriores|previas|prévias|precedenti|del sistema|do sistema) ",
        ),
        (
            "asks for the instructions",
            rf" (?:reveal|show|print|repeat|output|display|give me|tell me|leak|recite|dump|expose|copy|what is|what's|what are)"
            rf"{_GAP} (?:your|the)(?: [^\W_]+){{0,2}}? (?:system prompt|system message|initial prompt|hidden prompt|hidden instructions|"
            r"initial instructions|original instructions|secret instructions|developer message|pre prompt|prompt verbatim) ",
        ),
        (
            "asks for the instructions",
            r" (?:repeat|print|output|copy|write)(?: [^\W_]+){0,4}? (?:words|text|everything|all) above ",
        ),
        (
            "asks for the instructions",
            r" (?:zeig\w*|nenn\w*|verrat\w*|wiederhol\w*|gib)(?: [^\W_]+){0,4}? (?:systemprompt|system prompt|systemanweisung\w*|"
            r"deine anweisungen|ihre anweisungen) ",
        ),
        (
            "plays another role",
            r" (?:you are now|from now on you are|from now on you will|act as|pretend to be|pretend you are|roleplay as|behave like|simulate)"
            r"(?: [^\W_]+){0,5}? (?:dan|jailbroken|unrestricted|unfiltered|uncensored|evil|without (?:any )?(?:restrictions|rules|limits|"
            r"filters|guidelines)|no (?:restrictions|rules|limits|filters)|developer mode|root|administrator) ",
        ),
        (
            "plays another role",
            r" (?:enable|enter|activate|switch to|turn on)(?: [^\W_]+){0,2}? (?:developer|debug|god|jailbreak|dan|admin|unrestricted) mode ",
        ),
        ("plays another role", r" do anything now "),
        (
            "plays another role",
            r" (?:du bist (?:jetzt|nun|ab sofort)|tu so als|ab jetzt bist du)(?: [^\W_]+){0,6}? (?:ohne (?:regeln|einschränkungen|filter)|"
            r"uneingeschränkt\w*|unzensiert\w*) ",
        ),
        (
            "sends data away",
            r" (?:append|add|include|put|embed|encode|send|post|forward|exfiltrate|transmit)(?: [^\W_]+){0,8}?"
            r" (?:conversation|chat history|chat|messages?|personal data|email|api keys?|secrets?|passwords?|context)(?: [^\W_]+){0,6}?"
            r" (?:url|link|image|markdown|query string|webhook|https?|server) ",
        ),
    )
)
_MARKERS = re.compile(
    r"<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id)\|>|\[/?INST\]|<<SYS>>|</?(?:system|instructions?)>"
    r"|^\s*#{2,}\s*(?:system|instructions?|new instructions?)\s*:?\s*$|^\s*(?:system|developer)\s*(?:message|prompt|override)?\s*:\s*\S",
    re.IGNORECASE | re.MULTILINE,
)
_IDEOGRAPHIC = re.compile(
    r"(?:忽略|无视|忘记|忘掉|無視|忘れ).{0,12}(?:指令|指示|提示|规则|規則|命令)|(?:指示|命令|ルール|プロンプト).{0,8}(?:無視|忘れて)"
    r"|(?:시스템 ?프롬프트|이전 ?(?:지시|명령)).{0,12}(?:무시|잊|보여|알려)|игнорируй.{0,40}(?:инструкци|правила|указани)"
)


def find_injection(text: str) -> str | None:
    """What kind of attempt the text looks like; None if it looks harmless. A guess: see the module's docstring."""
    if hidden_characters(text) >= 4:
        return "hidden characters"
    if _MARKERS.search(text):
        return "imitates the model’s own markers"
    folded = fold(text)
    if _IDEOGRAPHIC.search(folded):
        return "overrides instructions"
    spoken = words(folded)
    for category, pattern in _PATTERNS:
        if pattern.search(spoken):
            return category
    return None
