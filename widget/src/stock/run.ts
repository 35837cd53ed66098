/**
 * OpenAI's front end in our frame: loaded, told what was published, tied to the page around the frame. Whatever keeps it
 * from being ready in five seconds, or makes it give up, our own takes its place and the platform is told.
 */
import type { ChatKitEvents, OpenAIChatKit } from "@openai/chatkit";
import { forget, keep, keptIn } from "../chat/kept.ts";
import type { Scheme } from "../frame/theme.ts";
import { Problem } from "../net/problem.ts";
import type { User } from "../net/session.ts";
import { isRecord } from "../shared/guards.ts";
import { sessionFetch } from "./fetch.ts";
import type { StockKit } from "./kit.ts";
import { stockLocale } from "./locales.ts";
import { readWritten, recordOf, stockOptions, type Written } from "./options.ts";
import css from "./stock.css";

export const READY_WITHIN = 5_000;
const TAG = "openai-chatkit";
const RENEW_CHECK = 30_000;
const RENEW_BEFORE = 90_000;

type Reason = "refused" | "timeout" | "error";

export function runStock(kit: StockKit): void {
  const written = readWritten(document);
  if (written) new Stock(kit, written).start();
  else kit.instead({ opened: false, focus: false });
}

class Stock {
  readonly #main: HTMLElement;
  readonly #wait: HTMLElement;
  readonly #dark = matchMedia("(prefers-color-scheme: dark)");
  #element: OpenAIChatKit | null = null;
  #user: User | null = null;
  #thread: string | null = null;
  #over = false;
  #ready = false;
  #asked = false;
  #visible: boolean;
  #opened = false;
  #focus = false;
  #unread = 0;
  #late: ReturnType<typeof setTimeout> | undefined;
  #renewal: ReturnType<typeof setInterval> | undefined;

  constructor(
    private readonly kit: StockKit,
    private readonly written: Written,
  ) {
    const { h, locale, parent } = kit;
    this.#visible = parent?.hello.layout !== "panel";
    this.#wait = h("p", { class: "stock-wait", role: "status" }, locale.t("loading"));
    this.#main = h("main", { class: "stock" }, this.#wait);
  }

  start(): void {
    const { kit } = this;
    document.adoptedStyleSheets.push(kit.sheetOf(css));
    document.body.append(this.#main);
    this.#late = setTimeout(this.#tooLate, READY_WITHIN);
    kit.parent?.listen((message) => {
      if (message.type === "open") this.#open(message.focus);
      else if (message.type === "closed") this.#visible = false;
      else void this.#identify(message.userToken);
    });
    document.addEventListener("keydown", this.#keys);
    this.#dark.addEventListener("change", this.#dress);
    this.#renewal = setInterval(() => this.#renew(), RENEW_CHECK);
    void this.#bring();
  }

  async #bring(): Promise<void> {
    const { session } = this.kit;
    const script = document.createElement("script");
    script.src = this.written.script;
    script.async = true;
    script.onerror = () => this.#giveUp("refused");
    document.head.append(script);
    const began = Date.now();
    let loaded = Infinity;
    void customElements.whenDefined(TAG).then(() => (loaded = Date.now()));
    try {
      const user = await session.user();
      this.#user ??= user;
      const thread = await this.#lastThread(user);
      if (this.#user.id === user.id) this.#thread = thread;
    } catch {
      this.#leave(); // not OpenAI's doing; our own says what is wrong, and what to do
      return;
    }
    history.replaceState(null, "", location.pathname + location.search);
    if (!this.#over && loaded < Infinity) {
      // It was there, and waited for us: its clock stood still.
      clearTimeout(this.#late);
      this.#late = setTimeout(this.#tooLate, READY_WITHIN - (loaded - began));
    }
    await customElements.whenDefined(TAG);
    if (!this.#over) this.#mount();
  }

  /** A new element, with nothing of whoever was here before. */
  #mount(): void {
    const { kit } = this;
    const element = document.createElement(TAG) as OpenAIChatKit;
    const on = <K extends keyof ChatKitEvents>(type: K, heard: (detail: ChatKitEvents[K]["detail"]) => void) =>
      element.addEventListener(type, (event) => {
        if (this.#element === element) heard((event as ChatKitEvents[K]).detail as ChatKitEvents[K]["detail"]);
      });
    on("chatkit.ready", () => this.#arrived());
    on("chatkit.error", (detail) => this.#failed(isRecord(detail) ? detail.error : null));
    on("chatkit.effect", ({ name, data }) => kit.parent?.post({ type: "effect", detail: { name, data: data ?? {} } }));
    on("chatkit.response.start", () => void (this.#asked = true));
    on("chatkit.response.end", () => {
      kit.parent?.post({ type: "message" });
      if (!this.#visible) kit.parent?.post({ type: "unread", count: ++this.#unread });
    });
    on("chatkit.thread.change", ({ threadId }) => {
      this.#thread = threadId;
      if (this.#user) keep(kit.storage, this.#user.id, { thread: threadId, run: null });
    });
    this.#element?.remove();
    this.#element = element;
    try {
      this.#dress();
      this.#main.prepend(element);
    } catch (error) {
      this.#failed(error);
    }
  }

  readonly #dress = (): void => {
    const { kit, written } = this;
    const { parent } = kit;
    const isPanel = parent?.hello.layout === "panel";
    const { scheme } = document.documentElement.dataset; // which `applyTheme` keeps
    this.#element?.setOptions(
      stockOptions(written.agent, {
        api: {
          url: new URL("/chatkit", location.href).href,
          domainKey: written.domainKey,
          fetch: sessionFetch(kit.session, kit.lapsed),
          uploadStrategy: { type: "two_phase" },
        },
        locale: stockLocale(kit.wishes),
        scheme: (scheme ?? "light") as Scheme,
        thread: this.#thread,
        onMenu: () => void this.#menu(),
        onClose: isPanel ? () => parent.post({ type: "close" }) : null,
        onClientTool: async ({ name, params }) => {
          if (!parent) throw new Error("There is no page around this chat to ask.");
          return recordOf(await parent.tool(name, params));
        },
        onAction: async ({ type: name, payload }, { id: item }) => parent?.post({ type: "action", detail: { name, payload, item } }),
      }),
    );
  };

  #arrived(): void {
    if (this.#over || this.#ready) return;
    this.#ready = true;
    clearTimeout(this.#late);
    this.#wait.remove();
    if (this.#opened && this.#focus) this.#focusComposer();
  }

  /** Many errors are of one answer, and the front end shows them. These two leave the visitor with nothing. */
  #failed(error: unknown): void {
    const words = error instanceof Error || isRecord(error) ? `${String(error.name)} ${String(error.message)}` : "";
    const isBarred = /domain/i.test(words) && !this.#asked;
    if (!this.#ready || isBarred) this.#giveUp("error");
  }

  readonly #tooLate = (): void => {
    // The script came, and the platform's own session did not: not OpenAI's doing.
    if (customElements.get(TAG) && !this.#element) this.#leave();
    else this.#giveUp("timeout");
  };

  #giveUp(reason: Reason): void {
    if (this.#over) return;
    this.#leave();
    const told = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ reason }) };
    this.kit.api.request("/embed/stock-trouble", told).catch(() => undefined);
  }

  #leave(): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#late);
    clearInterval(this.#renewal);
    document.removeEventListener("keydown", this.#keys);
    this.#dark.removeEventListener("change", this.#dress);
    this.#element = null;
    this.#main.remove();
    this.kit.instead({ opened: this.#opened && this.#visible, focus: this.#focus });
  }

  #open(focus: boolean): void {
    this.#visible = this.#opened = true;
    this.#focus = focus;
    this.#unread = 0;
    if (this.#ready && focus) this.#focusComposer();
  }

  #focusComposer(): void {
    // On a phone the field would raise the keyboard over the greeting.
    if (matchMedia("(pointer: coarse)").matches) return;
    this.#element?.focusComposer().catch(() => undefined);
  }

  async #identify(userToken: string | null): Promise<void> {
    const before = this.#user?.id;
    try {
      this.#user = await this.kit.session.identify(userToken);
    } catch {
      return; // the next request says so
    }
    if (this.#over || this.#user.id === before) return;
    this.#thread = null; // it was the other's
    if (this.#element) this.#mount();
  }

  /** The conversation that was on the screen when the visitor left, if it is still there. */
  async #lastThread(user: User): Promise<string | null> {
    const { storage, api } = this.kit;
    const kept = keptIn(storage);
    if (kept?.user !== user.id || !kept.thread) return null;
    try {
      return (await api.history(kept.thread)).thread?.id ?? null;
    } catch (error) {
      if (error instanceof Problem && error.status === 404) forget(storage);
      return null;
    }
  }

  /** A visitor's conversations, their data and their language: what OpenAI's front end does not offer. */
  async #menu(): Promise<void> {
    const { kit } = this;
    const element = this.#element;
    if (!element || element.inert) return;
    const move = (thread: string | null) => void element.setThreadId(thread).catch(() => undefined);
    try {
      const { openPanel } = await kit.panel();
      if (element.inert) return; // pressed twice
      element.inert = true;
      const said = kit.h("p", { class: "hidden", role: "status" });
      this.#main.append(said);
      openPanel(
        {
          h: kit.h, svg: kit.svg, setText: kit.setText, locale: kit.locale, languages: kit.languages, api: kit.api, sentence: kit.sentence,
          current: () => this.#thread,
          open: move,
          restart: () => move(null),
          speak(tag) {
            kit.storage.set("locale", tag);
            location.reload();
          },
          announce: (text) => kit.setText(said, text),
          closed: () => {
            said.remove();
            element.inert = false;
            this.#focusComposer();
          },
        },
        this.#main,
      );
    } catch {
      element.inert = false;
    }
  }

  readonly #keys = (event: KeyboardEvent): void => {
    const { parent } = this.kit;
    if (event.key === "Escape" && !event.isComposing && parent?.hello.layout === "panel") parent.post({ type: "close" });
  };

  /** While someone looks on, the session stays alive. */
  #renew(): void {
    const { session } = this.kit;
    if (!this.#visible || document.hidden || session.expires === null || session.expires - Date.now() > RENEW_BEFORE) return;
    session.token().catch(() => undefined);
  }
}
