/** Items that the second script draws: a quiet place for them until it is here, their plain text if it does not come. */
import type { ThreadItem } from "../chat/protocol.ts";
import type { ItemStatus } from "../chat/state.ts";
import { h } from "../frame/view/dom.ts";
import type { Extras, Kit, LoadExtras, View } from "./kit.ts";

export function later<T extends ThreadItem>(
  role: string,
  kit: Kit,
  load: LoadExtras,
  make: (extras: Extras) => (kit: Kit) => View<T>,
  plain: (item: T) => string,
): View<T> {
  const element = h("div", { class: "message assistant", "data-role": role }, h("div", { class: "later" }));
  let view: View<T> | null = null;
  let loading = false;
  let last: [T, ItemStatus];
  return {
    element,
    draw(...given) {
      last = given;
      if (view) return view.draw(...last);
      if (loading) return;
      loading = true;
      load()
        .then((extras) => {
          view = make(extras)(kit);
          view.draw(...last);
          element.replaceChildren(view.element);
          kit.grew();
        })
        .catch(() => {
          view = null;
          loading = false; // tried again when the item changes
          const body = h("div", { class: "prose" });
          new kit.Markdown(body).update(plain(last[0]), [], false);
          element.replaceChildren(body);
        });
    },
  };
}
