/**
 * `<script async src="https://HOST/embed.js" data-domain-key="pk_...">`
 *
 * A classic script: modules have no `document.currentScript`. It may run in <head>, twice, or again after
 * `Stonechat('shutdown')`; while a widget lives, a second copy does nothing.
 */
import { start, type Api } from "./api.ts";
import { optionsOf } from "./options.ts";

declare global {
  interface Window {
    Stonechat?: Api;
  }
}

const script = document.currentScript as HTMLScriptElement | null;

// A browser tells a script in a shadow root, or one that was imported, nothing of its tag.
if (!script) throw "Stonechat: no currentScript in a shadowRoot";
if (!window.Stonechat?.live) window.Stonechat = start(optionsOf(script), window.Stonechat?.q ?? []);
