/** From what an agent's maker published to the options of OpenAI's front end. Pure, and typed against OpenAI's own types. */
import type { ChatKitOptions, ComposerOption, CustomApiConfig, SupportedLocale, ThemeOption } from "@openai/chatkit";
import { parseTheme } from "../frame/config.ts";
import { accentProperties, type Scheme } from "../frame/theme.ts";
import { isRecord, isString, list, records, text, type Json } from "../shared/guards.ts";

const RADIUS = { none: "sharp", small: "soft", medium: "round", large: "pill" } as const satisfies Record<string, ThemeOption["radius"]>;
const ACCENT_LEVEL = 2;

/** What is not published but depends on the visitor, the page and the moment. */
export interface Moment {
  readonly api: CustomApiConfig;
  readonly locale: SupportedLocale | null;
  readonly scheme: Scheme;
  readonly thread: string | null;
  /** Opens the visitor's conversations and data. */
  readonly onMenu: () => void;
  /** Absent where there is no panel to be closed. */
  readonly onClose: (() => void) | null;
  readonly onClientTool: NonNullable<ChatKitOptions["onClientTool"]>;
  readonly onAction: NonNullable<NonNullable<ChatKitOptions["widgets"]>["onAction"]>;
}

function composerOf(agent: Json): ComposerOption {
  const files = isRecord(agent.attachments) && agent.attachments.enabled === true ? agent.attachments : null;
  const offered = (value: unknown) =>
    records(value).flatMap(({ id, label, description }) =>
      isString(id) && id ? [{ id, label: text(label) || id, description: text(description) }] : [],
    );
  const tools = offered(agent.tools);
  const models = offered(agent.models);
  const placeholder = text(agent.placeholder);
  return {
    ...(placeholder && { placeholder }),
    ...(files && {
      attachments: {
        enabled: true,
        maxSize: Number(files.max_bytes),
        maxCount: Number(files.max_files),
        // Documents are judged by their content; without pictures there is no way to say "all but these".
        ...(files.documents !== true && { accept: { "image/*": [".png", ".jpg", ".jpeg", ".webp", ".gif"] } }),
      },
    }),
    ...(tools.length && { tools: tools.map(({ id, label }) => ({ id, label, icon: "bolt" as const })) }),
    ...(models.length && {
      models: models.map(({ id, label, description }) => ({ id, label, ...(description && { description }) })),
    }),
    ...(agent.dictation === true && { dictation: { enabled: true } }),
  };
}

/** `agent` is the public configuration as the platform wrote it into the document. */
export function stockOptions(agent: Json, moment: Moment): ChatKitOptions {
  const theme = parseTheme(agent.theme);
  const greeting = text(agent.greeting);
  const disclaimer = text(agent.disclaimer);
  const name = text(agent.name) || "Chat";
  const prompts = records(agent.prompts).flatMap(({ label, prompt }) =>
    isString(prompt) && prompt ? [{ label: text(label) || prompt, prompt }] : [],
  );
  return {
    api: moment.api,
    frameTitle: name,
    initialThread: moment.thread,
    ...(moment.locale && { locale: moment.locale }),
    theme: {
      colorScheme: moment.scheme,
      radius: RADIUS[theme.radius],
      density: theme.density,
      // Where the accent would be hard to tell from the surface, a shade of it that is not.
      color: { accent: { primary: accentProperties(theme.accent, moment.scheme)["--accent-line"] ?? theme.accent, level: ACCENT_LEVEL } },
    },
    header: {
      enabled: true,
      title: { enabled: true, text: name },
      leftAction: { icon: "settings-cog", onClick: moment.onMenu },
      ...(moment.onClose && { rightAction: { icon: "close", onClick: moment.onClose } }),
    },
    history: { enabled: true, showDelete: true, showRename: true },
    startScreen: { ...(greeting && { greeting }), prompts },
    threadItemActions: { feedback: agent.feedback === true, retry: true },
    thread: { autoScroll: true },
    composer: composerOf(agent),
    ...(disclaimer && { disclaimer: { text: disclaimer } }),
    widgets: { onAction: moment.onAction },
    onClientTool: moment.onClientTool,
  };
}

/** What the platform wrote into the document for this script. */
export interface Written {
  readonly agent: Json;
  readonly script: string;
  readonly domainKey: string;
}

export function readWritten(document: Document): Written | null {
  let config: unknown;
  try {
    config = JSON.parse(document.getElementById("stonechat-config")?.textContent ?? "null");
  } catch {
    return null;
  }
  if (!isRecord(config) || !isRecord(config.agent) || !isRecord(config.stock)) return null;
  const script = text(config.stock.script);
  const domainKey = text(config.stock.domain_key);
  return script && domainKey ? { agent: config.agent, script, domainKey } : null;
}

export const recordOf = (value: unknown): Json => (isRecord(value) ? value : { result: list(value).length ? value : (value ?? null) });
