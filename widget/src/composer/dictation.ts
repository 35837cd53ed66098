/** Speaking instead of typing: recorded here, written down by the platform, put where the cursor is. Nothing is sent by itself. */
import type { Kit, Slots } from "../items/kit.ts";

const MAX_SECONDS = 120;
const TYPES = ["audio/webm;codecs=opus", "audio/webm", "audio/mp4", "audio/ogg;codecs=opus"];
const MIC = "M12 4a2.5 2.5 0 0 1 2.5 2.5v5a2.5 2.5 0 0 1-5 0v-5A2.5 2.5 0 0 1 12 4Zm-6 7.5a6 6 0 0 0 12 0M12 17.5V20";

export function dictationButton(kit: Kit, slots: Slots): HTMLElement | null {
  const { h, icon, locale, deeds, announce } = kit;
  if (typeof MediaRecorder === "undefined" || !navigator.mediaDevices?.getUserMedia) return null;
  const button = h("button", { type: "button", class: "tool c-mic" }, icon(null, MIC));
  let recorder: MediaRecorder | null = null;
  let isWaiting = false;

  const show = (state: "idle" | "listening" | "writing") => {
    const label = locale.t(state === "listening" ? "dictate_stop" : "dictate");
    button.ariaLabel = button.title = label;
    button.ariaPressed = String(state === "listening");
    button.setAttribute("data-state", state);
    button.toggleAttribute("aria-busy", state === "writing");
    if (state !== "idle") announce(locale.t(state === "listening" ? "dictate_listening" : "dictate_writing"));
  };

  const write = async (audio: Blob) => {
    show("writing");
    try {
      const text = (await deeds.transcribe(await base64(audio), audio.type)).trim();
      if (!text) return slots.complain(locale.t("dictate_nothing"));
      const { value, selectionStart: at } = slots.input;
      slots.insert(at > 0 && !/\s$/.test(value.slice(0, at)) ? ` ${text}` : text);
    } catch (error) {
      slots.complain(deeds.sentence(error) || locale.t("dictate_failed"));
    } finally {
      isWaiting = false;
      show("idle");
    }
  };

  const listen = async () => {
    slots.complain("");
    isWaiting = true;
    let stream: MediaStream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch (error) {
      isWaiting = false;
      const isMissing = error instanceof DOMException && error.name === "NotFoundError";
      return slots.complain(locale.t(isMissing ? "dictate_missing" : "dictate_refused"));
    }
    const mimeType = TYPES.find((type) => MediaRecorder.isTypeSupported(type));
    const parts: Blob[] = [];
    const recording = new MediaRecorder(stream, mimeType ? { mimeType, audioBitsPerSecond: 32_000 } : {});
    recorder = recording;
    const timer = setTimeout(() => recording.stop(), MAX_SECONDS * 1_000);
    recording.ondataavailable = ({ data }) => data.size && parts.push(data);
    recording.onstop = () => {
      clearTimeout(timer);
      recorder = null;
      for (const track of stream.getTracks()) track.stop();
      void write(new Blob(parts, { type: recording.mimeType || "audio/webm" }));
    };
    recording.start();
    show("listening");
  };

  button.onclick = () => {
    if (recorder) recorder.stop();
    else if (!isWaiting) void listen();
  };
  show("idle");
  return button;
}

async function base64(audio: Blob): Promise<string> {
  const bytes = new Uint8Array(await audio.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}
