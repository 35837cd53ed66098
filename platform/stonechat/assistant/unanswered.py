"""Which turns left their question unanswered, and noting it once they are over: never in the way of the answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from chatkit.types import ThreadItem, UserMessageItem
from sqlalchemy.exc import IntegrityError

from stonechat.assistant.config import AgentConfig
from stonechat.assistant.config_rules import Guardrails, OutputRules
from stonechat.assistant.guardrails.rules import clean_text
from stonechat.assistant.tools.hand_over import HAND_OVER_TOOL_NAME
from stonechat.assistant.trace import Span, Trace
from stonechat.assistant.turn import Turn
from stonechat.db.session import Database
from stonechat.knowledge.grouping import MAX_QUESTION
from stonechat.knowledge.unanswered import Asked, Reason, note_unanswered

_LOOKED_AT = 1200
"""Characters of an answer, from its beginning, in which it may say that it does not know."""
_CLEANING = AgentConfig(
    name="-",
    guardrails=Guardrails(
        output=OutputRules(links="any", redact=("secrets", "cards", "ibans", "emails", "phones", "national_ids"))
    ),
)
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Controls but for white space; what changes direction or is invisible without belonging to a script; halves of pairs."""
# A guess, and said to be one wherever it is shown: models say it in as many ways as people do. Only answers that cite
# nothing although documents were searched are looked at.
_UNKNOWN = re.compile(
    r"\b(?:i|we) (?:do not|don['’]t|cannot|can['’]t|could not|couldn['’]t|was unable to|am unable to|was not able to)"
    r" (?:know|find|have (?:any |that |this |enough |specific )*(?:information|details|answer)|see any|answer|locate|say)"
    r"|\b(?:no|not any) (?:specific |further )?information (?:about|on|regarding|is available|was found|could be found)"
    r"|\b(?:documents?|passages?|knowledge base|information i have)\b.{0,40}"
    r"\b(?:do(?:es)? not|don['’]t|doesn['’]t) (?:say|mention|contain|include|cover|hold)"
    r"|\bi['’]m not sure\b|\bi am not sure\b"
    r"|\b(?:weiß|weiss) (?:ich|das) (?:leider )?nicht|\bich weiß\b.{0,30}\bnicht|\bkeine (?:\w+ )?(?:informationen?|angaben?|antwort)\b"
    r"|\bnicht (?:finden|gefunden|beantworten)\b|\bliegen mir\b.{0,40}\bnicht vor"
    r"|\bje ne (?:sais|trouve|dispose|peux)\b|\bje n['’]ai (?:pas|trouvé aucune)\b|\baucune information\b"
    r"|\bno (?:lo )?sé\b|\bno (?:he )?(?:encontr[oéa]|puedo encontrar|tengo información|dispongo)|\bno hay información\b"
    r"|\bnon (?:lo )?so\b|\bnon ho (?:trovato|informazioni)|\bnon (?:riesco a|posso) (?:trovare|rispondere)|\bnessuna informazione\b"
    r"|\bnão (?:sei|encontrei|tenho|consigo encontrar|há informaç)"
    r"|\bik weet (?:het|dat)? ?niet|\bik kan\b.{0,40}\bniet (?:vinden|beantwoorden)|\bgeen informatie\b"
    r"|\bnie (?:wiem|mam informacji|znalazł[ae]m)|\bbrak informacji\b"
    r"|\bjag (?:vet inte|hittar inte|kan inte)|\bingen information\b|\bjeg (?:ved ikke|vet ikke|kan ikke finde)"
    r"|\ben (?:tiedä|löydä|löytänyt)\b|\bbilmiyorum\b|\bbulamadım\b|\bbilgi (?:yok|bulunamadı|bulunmuyor)"
    r"|\bnevím\b|\bnenašel jsem\b|\bnem (?:tudom|találok|találtam)\b|\bnu (?:știu|am găsit)\b"
    r"|не знаю|не наш[её]л|не могу найти|нет информации|не знайшов|немає інформації|δεν (?:γνωρίζω|βρήκα|ξέρω)"
    r"|不知道|不清楚|找不到|没有(?:找到|相关)|沒有(?:找到|相關)|无法(?:找到|回答)|無法(?:找到|回答)"
    r"|わかりません|分かりません|見つかりません|情報が(?:ない|ありません)|모르겠|찾을 수 없|찾지 못|정보가 없"
    r"|لا أعرف|لا أعلم|لم أجد|لا توجد معلومات|לא יודע|לא מצאתי|ไม่ทราบ|ไม่พบ",
    re.IGNORECASE | re.DOTALL,
)


def says_unknown(answer: str) -> bool:
    """Whether an answer says, as far as its words tell, that it does not know. A heuristic."""
    return _UNKNOWN.search(answer[:_LOOKED_AT]) is not None


def why_unanswered(trace: Trace, *, said: str, citations: int) -> Reason | None:
    """Why a turn's question went unanswered; None if it was answered, or needed no document."""
    spans = trace.spans
    if any(span.kind == "tool" and span.name == HAND_OVER_TOOL_NAME and span.error is None for span in spans):
        return "handed_over"
    searches = [span for span in spans if span.kind == "retrieval"]
    found = found_by(searches)
    if trace.abstained:
        return "abstained" if found else "no_passages"
    if not searches or citations:
        return None
    if not found and all(span.error is None for span in searches):
        return "no_passages"
    return "said_unknown" if says_unknown(said) else None


def found_by(searches: Sequence[Span]) -> list[dict[str, Any]]:
    """The passages of these searches, each once, as they stand in the trace."""
    found: dict[str, dict[str, Any]] = {}
    for span in searches:
        for passage in span.data.get("passages") or ():
            found.setdefault(str(passage.get("chunk_id")), passage)
    return list(found.values())


def asked_in(history: Sequence[ThreadItem]) -> UserMessageItem | None:
    """The visitor's last message."""
    return next((item for item in reversed(history) if isinstance(item, UserMessageItem)), None)


def cleaned_question(item: UserMessageItem) -> str:
    """What a visitor typed, in one line, without personal data as far as our recognisers know it."""
    return cleaned_words("".join(part.text for part in item.content), max_characters=MAX_QUESTION)


def cleaned_words(text: str, *, max_characters: int) -> str:
    """The same for any words of a visitor's that are noted for the team: what controls, turns or hides text is left out, too."""
    plain = _UNPRINTABLE.sub("", text[: 2 * max_characters])
    return " ".join(clean_text(_CLEANING, plain).split())[:max_characters]


class UnansweredQuestions:
    """Notes them. One per process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def consider(self, turn: Turn, *, said: str, citations: int) -> None:
        """Called when the answer is over: leaves the noting to be done after the turn. What nobody asked on a page is not looked at."""
        if turn.caller.preview or turn.caller.origin is None or turn.stopped or not turn.config.knowledge.enabled:
            return
        reason = why_unanswered(turn.trace, said=said, citations=citations)
        item = asked_in(turn.history)
        if reason is not None and item is not None:
            searches = [span for span in turn.trace.spans if span.kind == "retrieval"]
            turn.afterwards.append(partial(self._note, turn, item, reason, found_by(searches)))

    async def _note(self, turn: Turn, item: UserMessageItem, reason: Reason, found: list[dict[str, Any]]) -> None:
        caller = turn.caller
        asked = Asked(
            caller.agent_id, caller.user_id, turn.thread.id, item.id, cleaned_question(item), reason, tuple(found)
        )
        await self.note(caller.tenant_id, asked)

    async def note(self, tenant_id: UUID, asked: Asked) -> None:
        """Write one down. One whose message is gone meanwhile is forgotten."""
        try:
            async with self._database.tenant(tenant_id) as session:
                await note_unanswered(session, tenant_id, asked=asked)
        except IntegrityError:
            return
