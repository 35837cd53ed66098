"""Dictation: what was said into a microphone, as text, by the tenant's own provider."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from uuid import UUID

import openai

from stonechat.errors import (
    AudioTooLarge,
    InvalidInput,
    ModelUnknown,
    PayloadTooLarge,
    SecretUnreadable,
    TargetNotAllowed,
    UnsupportedMediaType,
    UpstreamFailed,
    UpstreamTimedOut,
)
from stonechat.providers.counting import counted
from stonechat.providers.provider import ModelProviders
from stonechat.providers.retries import judge

MAX_AUDIO_BYTES = 10_000_000
MAX_TEXT = 20_000
SECONDS = 60.0
_NOT_SET_UP = "Dictation does not work right now because of how it is set up. Please type instead."
_BUSY = "Dictation is not available at the moment. Please type instead, or try again."
_LATE = "Dictation took too long. Please type instead, or try again."
_REFUSED = "The recording could not be understood. Please try again."


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said, and what it cost."""

    text: str
    provider: str
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    reported: bool = False
    """Whether the provider told the tokens; many bill by the minute and tell none."""


def audio_type(audio: bytes) -> tuple[str, str]:
    """The file name and the media type of a recording, by its content. Raises `UnsupportedMediaType`."""
    head = audio[:12]
    for starts, name, media_type in (
        (b"\x1aE\xdf\xa3", "speech.webm", "audio/webm"),
        (b"OggS", "speech.ogg", "audio/ogg"),
        (b"fLaC", "speech.flac", "audio/flac"),
        (b"ID3", "speech.mp3", "audio/mpeg"),
    ):
        if head.startswith(starts):
            return name, media_type
    if head[4:8] == b"ftyp":
        return "speech.m4a", "audio/mp4"
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "speech.wav", "audio/wav"
    # An MPEG frame: eleven set bits, and a layer that exists.
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06:
        return "speech.mp3", "audio/mpeg"
    raise UnsupportedMediaType("This is no recording of a kind that can be transcribed.")


async def transcribe(
    providers: ModelProviders, tenant_id: UUID, *, model: str, audio: bytes, seconds: float = SECONDS
) -> Transcript:
    """The text of a recording, by `<provider>/<model>` of the tenant's own. The platform's key never pays for it.

    Raises `AudioTooLarge`, `UnsupportedMediaType`, `InvalidInput`, `UpstreamFailed`, `UpstreamTimedOut`, `ProviderResting`.
    """
    if len(audio) > MAX_AUDIO_BYTES:
        raise AudioTooLarge(f"A recording has at most {MAX_AUDIO_BYTES // 1_000_000} MB.", max_bytes=MAX_AUDIO_BYTES)
    if not audio:
        raise InvalidInput("The recording is empty.")
    name, media_type = audio_type(audio)
    provider, _, model_name = model.partition("/")
    try:
        async with providers.client(tenant_id, provider) as client:
            place = (tenant_id, f"{provider}:transcription")
            with counted("dictation"), providers.breakers.calling(place) as call:
                try:
                    async with asyncio.timeout(seconds):
                        answer = await client.audio.transcriptions.create(
                            model=model_name, file=(name, audio, media_type), response_format="json"
                        )
                except Exception as error:
                    call.failed() if judge(error).counts else call.succeeded()
                    raise
                call.succeeded()
    except (ModelUnknown, SecretUnreadable, TargetNotAllowed) as error:
        raise UpstreamFailed(_NOT_SET_UP, reason=error.code, allow_retry=False) from error
    except (openai.APITimeoutError, TimeoutError) as error:
        raise UpstreamTimedOut(_LATE, reason="timed_out", allow_retry=True) from error
    except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
        raise InvalidInput(_REFUSED) from error
    except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
        raise UpstreamFailed(_NOT_SET_UP, reason="refused", allow_retry=False) from error
    except (openai.OpenAIError, PayloadTooLarge, ValueError) as error:
        raise UpstreamFailed(_BUSY, reason="unreachable", allow_retry=True) from error
    text = getattr(answer, "text", None)
    if not isinstance(text, str):
        raise UpstreamFailed(_NOT_SET_UP, reason="bad_answer", allow_retry=False)
    usage = getattr(answer, "usage", None)
    taken, given = getattr(usage, "input_tokens", None), getattr(usage, "output_tokens", None)
    return Transcript(
        text.strip()[:MAX_TEXT],
        provider,
        model_name,
        input_tokens=taken if isinstance(taken, int) else 0,
        output_tokens=given if isinstance(given, int) else 0,
        reported=isinstance(taken, int),
    )
