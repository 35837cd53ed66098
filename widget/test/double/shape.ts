/** Checks of the options of OpenAI's front end, whose names the compiler holds against OpenAI's own types: one too many or too few is an error. */
import type {
  ChatKitOptions, ColorOption, CommandsOption, ComposerOption, CustomApiConfig, DisclaimerOption, EntitiesOption, HeaderOption, HistoryOption,
  ModelOption, StartScreenOption, StartScreenPrompt, ThemeOption, ThreadItemActionsOption, ThreadOption, ToolOption, TypographyOption, WidgetsOption,
} from "@openai/chatkit";
import { isRecord } from "../../src/shared/guards.ts";

/** What is wrong, each with where. */
type Check = (value: unknown, at: string) => string[];
type Shape<T> = { readonly [K in keyof Required<T>]: Check };

const is = (what: string, holds: (value: unknown) => boolean): Check => (value, at) => (holds(value) ? [] : [`${at} is no ${what}: ${JSON.stringify(value)}`]);
const words = is("text", (value) => typeof value === "string");
const filled = is("text with something in it", (value) => typeof value === "string" && value !== "");
const bool = is("boolean", (value) => typeof value === "boolean");
const count = is("number above zero", (value) => typeof value === "number" && Number.isFinite(value) && value > 0);
const call = is("function", (value) => typeof value === "function");
const oneOf = <T extends string | number>(...known: readonly T[]) => is(`one of ${known.join(", ")}`, (value) => known.includes(value as T));
const matching = (pattern: RegExp) => is(`text like ${pattern}`, (value) => typeof value === "string" && pattern.test(value));
const list = (each: Check): Check => (value, at) => (Array.isArray(value) ? value.flatMap((one: unknown, index) => each(one, `${at}[${index}]`)) : [`${at} is no list`]);
const either = (...checks: readonly Check[]): Check => (value, at) => {
  const found = checks.map((check) => check(value, at));
  return found.some((faults) => !faults.length) ? [] : found.flat();
};
const record = (each: Check): Check => (value, at) => (isRecord(value) ? Object.entries(value).flatMap(([name, one]) => each(one, `${at}.${name}`)) : [`${at} is no record`]);

const object = <T>(required: readonly (keyof T & string)[], shape: Shape<T>): Check => (value, at) => {
  if (!isRecord(value)) return [`${at} is no object`];
  const checks = shape as Readonly<Record<string, Check>>;
  return [
    ...required.filter((name) => !Object.hasOwn(value, name)).map((name) => `${at}.${name} is missing`),
    // As with OpenAI's own: an option that is there has a value.
    ...Object.entries(value).flatMap(([name, one]) => (Object.hasOwn(checks, name) ? (checks[name] as Check)(one, `${at}.${name}`) : [`${at}.${name} is no option`])),
  ];
};

const button = object<NonNullable<HeaderOption["leftAction"]>>(["icon", "onClick"], { icon: matching(/^[a-z][a-z-]+$/), onClick: call });
const colour = matching(/^#[0-9a-f]{6}$/i);
const api = object<CustomApiConfig>(["url", "domainKey"], {
  url: filled,
  domainKey: filled,
  fetch: call,
  uploadStrategy: either(
    object<{ type: "two_phase" }>(["type"], { type: oneOf("two_phase") }),
    object<{ type: "direct"; uploadUrl: string }>(["type", "uploadUrl"], { type: oneOf("direct"), uploadUrl: filled }),
  ),
});
const color = object<ColorOption>([], {
  grayscale: object<NonNullable<ColorOption["grayscale"]>>(["hue", "tint"], { hue: count, tint: count, shade: count }),
  accent: object<NonNullable<ColorOption["accent"]>>(["primary", "level"], { primary: colour, level: oneOf(0, 1, 2, 3) }),
  surface: object<NonNullable<ColorOption["surface"]>>(["background", "foreground"], { background: colour, foreground: colour }),
});
const theme = object<ThemeOption>([], {
  colorScheme: oneOf("light", "dark"),
  typography: object<TypographyOption>([], { baseSize: oneOf(14, 15, 16, 17, 18), fontSources: list(record(words)), fontFamily: words, fontFamilyMono: words }),
  radius: oneOf("pill", "round", "soft", "sharp"),
  density: oneOf("compact", "normal", "spacious"),
  color,
});
const composer = object<ComposerOption>([], {
  placeholder: filled,
  attachments: object<NonNullable<ComposerOption["attachments"]>>(["enabled"], {
    enabled: bool, maxSize: either(count, record(count)), maxCount: count, accept: record(list(matching(/^\.[a-z]+$/))),
  }),
  tools: list(object<ToolOption>(["id", "label", "icon"], {
    id: filled, label: filled, icon: filled, shortLabel: words, placeholderOverride: words, pinned: bool, persistent: bool,
  })),
  models: list(object<ModelOption>(["id", "label"], { id: filled, label: filled, description: filled, disabled: bool, default: bool })),
  dictation: object<NonNullable<ComposerOption["dictation"]>>(["enabled"], { enabled: bool }),
});

const options = object<ChatKitOptions>(["api"], {
  api,
  locale: matching(/^[a-z]{2}(-[A-Za-z0-9]{2,4})?$/),
  theme: either(oneOf("light", "dark"), theme),
  frameTitle: filled,
  initialThread: either(filled, is("null", (value) => value === null)),
  onClientTool: call,
  header: object<HeaderOption>([], {
    enabled: bool,
    title: object<NonNullable<HeaderOption["title"]>>([], { enabled: bool, text: filled }),
    leftAction: button,
    rightAction: button,
  }),
  history: object<HistoryOption>([], { enabled: bool, showDelete: bool, showRename: bool }),
  startScreen: object<StartScreenOption>([], {
    greeting: words,
    prompts: list(object<StartScreenPrompt>(["label", "prompt"], { label: filled, prompt: either(filled, list(record(words))), icon: filled })),
  }),
  threadItemActions: object<ThreadItemActionsOption>([], { feedback: bool, retry: bool }),
  composer,
  disclaimer: object<DisclaimerOption>(["text"], { text: filled, highContrast: bool }),
  entities: object<EntitiesOption>([], { onTagSearch: call, showComposerMenu: bool, onClick: call, onRequestPreview: call }),
  commands: object<CommandsOption>(["enabled"], { enabled: bool, onSearch: call, onSelect: call }),
  widgets: object<WidgetsOption>([], { onAction: call }),
  thread: object<ThreadOption>([], { autoScroll: bool }),
});

/** What OpenAI's front end would not take. */
export const faultsOf = (value: unknown): string[] => options(value, "options");
