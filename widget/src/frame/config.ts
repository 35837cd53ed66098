/** What the platform wrote into the document: whose chat this is and how it looks. */
import { isColour } from "../shared/colour.ts";
import type { Offer, Offers } from "../items/kit.ts";
import { isRecord, isString, list, records, text, type Json } from "../shared/guards.ts";

export interface Theme {
  readonly accent: string;
  readonly scheme: "auto" | "light" | "dark";
  readonly radius: "none" | "small" | "medium" | "large";
  readonly density: "compact" | "normal" | "spacious";
}

export interface Agent extends Offers {
  readonly name: string;
  readonly greeting: string;
  readonly prompts: readonly { readonly label: string; readonly prompt: string }[];
  readonly disclaimer: string | null;
  /** The site's own language. */
  readonly locale: string | null;
  readonly placeholder: string | null;
  /** Whether visitors may judge answers. */
  readonly feedback: boolean;
  readonly launcher: { readonly label: string; readonly position: "left" | "right" };
  /** Hosts, besides the platform's, from which a widget's pictures may come: `img.example.com` or `*.example.com`. */
  readonly imageHosts: readonly string[];
}

export interface Config {
  readonly domainKey: string;
  readonly ticket: string;
  /** Where the second script is. */
  readonly extras: string;
  /** Where else something may be fetched: the paths of words and of the panel of conversations, by name. */
  path(name: string): string;
  /** Origins that may hold this frame; `https://*.example.com` means every host below. */
  readonly parents: readonly string[];
  readonly agent: Agent | null;
  readonly theme: Theme;
  readonly error: { readonly code: string; readonly message: string | null } | null;
  /** OpenAI's front end is to be drawn; `stock/options.ts` reads what it needs for that. */
  readonly stock: boolean;
  /** Set where the console shows an agent that is being edited: the scheme to show it in. */
  readonly preview: "light" | "dark" | null;
}

const oneOf = <T extends string>(value: unknown, options: readonly [T, ...T[]], otherwise: T): T =>
  options.includes(value as T) ? (value as T) : otherwise;

export function parseTheme(value: unknown): Theme {
  const theme = isRecord(value) ? value : {};
  return {
    accent: isColour(theme.accent) ? theme.accent : "#1f6f5c",
    scheme: oneOf(theme.scheme, ["auto", "light", "dark"], "auto"),
    radius: oneOf(theme.radius, ["none", "small", "medium", "large"], "medium"),
    density: oneOf(theme.density, ["compact", "normal", "spacious"], "normal"),
  };
}

const offers = (value: unknown): Offer[] =>
  records(value).flatMap(({ id, label }) => (isString(id) && id ? [{ id, label: text(label) || id }] : []));

/** What an agent says whose maker wrote nothing: the visitor's language has words of its own for it. */
const UNWRITTEN = new Set(["Hello! How can I help?", "Ask a question…"]);
const written = (value: unknown): string => (isString(value) && !UNWRITTEN.has(value) ? value : "");

function parseAgent(value: Json): Agent {
  const { attachments: files } = value;
  const launcher = isRecord(value.launcher) ? value.launcher : {};
  return {
    name: text(value.name) || "Assistant",
    greeting: written(value.greeting),
    prompts: records(value.prompts).flatMap(({ label, prompt }) =>
      isString(prompt) && prompt ? [{ label: text(label) || prompt, prompt }] : [],
    ),
    disclaimer: text(value.disclaimer) || null,
    locale: text(value.locale) || null,
    placeholder: written(value.placeholder) || null,
    feedback: value.feedback === true,
    launcher: {
      label: (text(launcher.label) ?? "").slice(0, 80),
      position: oneOf(launcher.position, ["right", "left"], "right"),
    },
    attachments:
      isRecord(files) && files.enabled === true
        ? {
            images: files.images === true,
            documents: files.documents === true,
            maxBytes: Number(files.max_bytes) || 0,
            maxFiles: Number(files.max_files) || 0,
          }
        : null,
    dictation: value.dictation === true,
    tools: offers(value.tools),
    models: offers(value.models),
    imageHosts: list(value.image_hosts).filter(isString),
  };
}

export function parseConfig(value: unknown): Config {
  const config = isRecord(value) ? value : {};
  const agent = isRecord(config.agent) ? config.agent : null;
  const error = isRecord(config.error) ? config.error : null;
  return {
    domainKey: text(config.domain_key) ?? "",
    ticket: text(config.ticket) ?? "",
    extras: text(config.extras) ?? "",
    path: (name) => `/embed/assets/${isRecord(config.files) ? String(config.files[name]) : ""}/${name}`,
    parents: list(config.parents).filter(isString),
    agent: agent && parseAgent(agent),
    theme: parseTheme(agent?.theme),
    error: error && { code: text(error.code) ?? "unexpected", message: text(error.message) },
    stock: agent !== null && isRecord(config.stock),
    preview: config.preview === "light" || config.preview === "dark" ? config.preview : null,
  };
}

export function readConfig(document: Document): Config {
  try {
    return parseConfig(JSON.parse(document.getElementById("stonechat-config")?.textContent ?? "null"));
  } catch {
    return parseConfig(null);
  }
}
