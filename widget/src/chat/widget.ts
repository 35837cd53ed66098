/** A widget's tree of components, changed without touching what stays the same. */
import { isRecord, list, type Json } from "../shared/guards.ts";

const MAX_DEPTH = 32;

/** The children of a component, however they are given: a list, one, or none. */
export const childrenOf = ({ children }: Json): readonly Json[] =>
  (isRecord(children) ? [children] : list(children)).filter(isRecord);

/** The tree with the component of this id changed; the very same tree if it has none. */
export function withComponent(root: Json, id: string, change: (component: Json) => Json, depth = 0): Json {
  if (root.id === id) return change(root);
  if (depth > MAX_DEPTH) return root;
  const { children } = root;
  if (isRecord(children)) {
    const child = withComponent(children, id, change, depth + 1);
    return child === children ? root : { ...root, children: child };
  }
  if (!Array.isArray(children)) return root;
  let changed = false;
  const next = children.map((child: unknown) => {
    if (!isRecord(child)) return child;
    const now = withComponent(child, id, change, depth + 1);
    changed ||= now !== child;
    return now;
  });
  return changed ? { ...root, children: next } : root;
}
