/** The second script, fetched once. A failure is forgotten, so that the next need tries again. */
import { sheetOf } from "../frame/view/dom.ts";
import type { Extras, LoadExtras } from "./kit.ts";

interface Script {
  readonly extras: Extras;
  readonly css: string;
}

export function extrasFrom(path: string): LoadExtras {
  let loading: Promise<Extras> | null = null;
  return () => {
    // Modules that a script with a nonce imports are covered by its nonce.
    loading ??= (import(path) as Promise<Script>).then(({ extras, css }) => {
      document.adoptedStyleSheets.push(sheetOf(css));
      return extras;
    });
    loading.catch(() => {
      loading = null;
    });
    return loading;
  };
}
