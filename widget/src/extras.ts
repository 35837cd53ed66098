/**
 * The second script: what most conversations never need. Loaded by `items/extras.ts` when the first widget or form
 * appears, when the composer offers more than a field, when a part of an answer is selected, a passage read or an answer
 * disliked.
 */
import { composerExtra } from "./composer/composer.ts";
import styles from "./frame/styles/extras.css";
import { openCited } from "./items/cited.ts";
import { formView } from "./items/form.ts";
import type { Extras } from "./items/kit.ts";
import { whyForm } from "./items/why.ts";
import { widgetView } from "./widgets/widget.ts";

export const extras: Extras = { widget: widgetView, form: formView, composer: composerExtra, cited: openCited, why: whyForm };
export const css = styles;
