/** Storage that may be blocked, full or partitioned away: memory then, for as long as the page lives. */
export interface Storage {
  get(name: string): string | null;
  set(name: string, value: string): void;
  remove(name: string): void;
}

type Backing = Pick<globalThis.Storage, "getItem" | "setItem" | "removeItem">;

export function safeStorage(prefix: string, backing: () => Backing): Storage {
  const memory = new Map<string, string>();
  const attempt = <T>(action: (backing: Backing) => T): T | null => {
    try {
      return action(backing()); // even naming `localStorage` may throw
    } catch {
      return null;
    }
  };
  return {
    get: (name) => memory.get(prefix + name) ?? attempt((store) => store.getItem(prefix + name)),
    set(name, value) {
      memory.set(prefix + name, value);
      attempt((store) => store.setItem(prefix + name, value));
    },
    remove(name) {
      memory.delete(prefix + name);
      attempt((store) => store.removeItem(prefix + name));
    },
  };
}
