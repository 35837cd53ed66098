/**
 * Storage that may be blocked, full or partitioned away. Who the visitor is, and where they were, is then kept in a cookie of
 * this site within the page's; where that is blocked, too, in memory for as long as the page lives.
 */
export interface Storage {
  get(name: string): string | null;
  set(name: string, value: string): void;
  remove(name: string): void;
}

type Backing = Pick<globalThis.Storage, "getItem" | "setItem" | "removeItem">;

const IN_COOKIES = /^(visitor|conversation)$/;
const YEAR = 31_536_000;

const bake = (name: string, value: string, age: number) => {
  document.cookie = `__Host-${name}=${encodeURIComponent(value)};Max-Age=${age};Path=/;Secure;SameSite=None;Partitioned`;
};
const cookie = (name: string): string | null => {
  const found = `; ${document.cookie}`.split(`; __Host-${name}=`)[1]?.split(";")[0];
  return found ? decodeURIComponent(found) : null;
};

export function safeStorage(prefix: string, backing: () => Backing): Storage {
  const memory = new Map<string, string>();
  /** What the action answers; what is done instead, if even naming the storage throws. */
  const attempt = <T>(name: string, action: (store: Backing) => T, instead: () => T): T | null => {
    try {
      return action(backing());
    } catch {
      try {
        return IN_COOKIES.test(name) ? instead() : null;
      } catch {
        return null;
      }
    }
  };
  return {
    get(name) {
      const key = prefix + name;
      return memory.get(key) ?? attempt(name, (store) => store.getItem(key), () => cookie(key));
    },
    set(name, value) {
      const key = prefix + name;
      memory.set(key, value);
      attempt(name, (store) => store.setItem(key, value), () => bake(key, value, YEAR));
    },
    remove(name) {
      const key = prefix + name;
      memory.delete(key);
      attempt(name, (store) => store.removeItem(key), () => bake(key, "", 0));
    },
  };
}
