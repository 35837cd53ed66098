"""How much of a conversation a model is shown: tokens, estimated without a tokenizer, within what the model can read."""

from __future__ import annotations

import re

from stonechat.assistant.config import AgentConfig

RESERVED_TOKENS = 6_000
"""Of a model's window, for instructions, tools, the passages of this turn's searches, and the answer."""
MIN_TOKENS = 500
CONTEXT_WINDOWS = (
    # The beginning of a model's own name, after its maker's if there is one; the first that fits counts.
    ("gpt-5", 272_000),
    ("gpt-4.1", 1_000_000),
    ("gpt-4o", 128_000),
    ("gpt-4-turbo", 128_000),
    ("gpt-4-32k", 32_000),
    ("gpt-4", 8_000),
    ("gpt-3.5", 16_000),
    ("gpt-oss", 128_000),
    ("o1-mini", 128_000),
    ("o1", 200_000),
    ("o3", 200_000),
    ("o4", 200_000),
    ("claude", 200_000),
    ("gemini-1.5-pro", 2_000_000),
    ("gemini", 1_000_000),
    ("mistral-small", 32_000),
    ("open-mistral", 32_000),
    ("mixtral", 32_000),
    ("mistral", 128_000),
    ("ministral", 128_000),
    ("magistral", 40_000),
    ("codestral", 128_000),
    ("command-a", 256_000),
    ("command-r7b", 128_000),
    ("command-r", 128_000),
    ("command", 4_000),
    ("llama3.1", 128_000),
    ("llama-3.1", 128_000),
    ("llama3.2", 128_000),
    ("llama-3.2", 128_000),
    ("llama3.3", 128_000),
    ("llama-3.3", 128_000),
    ("llama3", 8_000),
    ("llama-3", 8_000),
    ("qwen2.5", 32_000),
    ("qwen3", 32_000),
    ("gemma2", 8_000),
    ("gemma-2", 8_000),
    ("gemma3", 128_000),
    ("gemma-3", 128_000),
    ("phi3", 4_000),
    ("phi-3", 4_000),
    ("phi4", 16_000),
    ("phi-4", 16_000),
    ("deepseek", 64_000),
)
"""Tokens that a model reads at most, on the careful side. Models that are not here have only the agent's own setting."""

_CHARACTERS_PER_TOKEN = 4
# One token a character: kana, Han, Hangul, full-width forms, and what is rare enough to be spelt in bytes.
_DENSE = re.compile(
    "[\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00010000-\U0010ffff]+"
)


def estimate_tokens(text: str) -> int:
    """About how many tokens: a quarter of a token a Latin letter, half of one in other alphabets, one in CJK scripts."""
    if text.isascii():
        return -(-len(text) // _CHARACTERS_PER_TOKEN)
    dense = sum(len(run) for run in _DENSE.findall(text))
    # Letters beyond ASCII have two bytes or three, and split into shorter tokens.
    others = len(text) - dense
    foreign = len(text.encode("utf-8", "surrogatepass")) - others - 3 * dense
    return dense + -(-(others + max(0, foreign)) // _CHARACTERS_PER_TOKEN)


def cut_to_tokens(text: str, tokens: int) -> str:
    """The beginning of the text, at most about `tokens` long."""
    while (estimated := estimate_tokens(text)) > tokens:
        shorter = len(text) * tokens // estimated
        text = text[: min(shorter, len(text) - 1)]
    return text


def context_window(model: str) -> int | None:
    """Tokens that `<provider>/<model>` reads at most; None if that is not known."""
    name = model.rpartition("/")[2].lower()
    for beginning, tokens in CONTEXT_WINDOWS:
        if name.startswith(beginning):
            return tokens
    return None


def history_tokens(config: AgentConfig, model: str) -> int:
    """The budget for earlier messages: what the agent's configuration says, within the model's window."""
    budget = config.history.max_tokens
    window = context_window(model)
    if window is not None:
        room = window - RESERVED_TOKENS - (config.max_output_tokens or 0)
        # A small window is shared: half for what is said now.
        budget = min(budget, max(room, window // 2))
    return max(MIN_TOKENS, budget)
