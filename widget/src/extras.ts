/**
 * The second script: what most conversations never need. Loaded by `items/extras.ts` when the first widget or form
 * appears, when the composer offers more than a field, or when a part of an answer is selected.
 */
import { composerExtra } from "./composer/composer.ts";
import styles from "./frame/styles/extras.css";
import { formView } from "./items/form.ts";
import type { Extras } from "./items/kit.ts";
import { widgetView } from "./widgets/widget.ts";

export const extras: Extras = { widget: widgetView, form: formView, composer: composerExtra };
export const css = styles;
