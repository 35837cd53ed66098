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
  /** What the action answers, and null if even naming what it uses throws. */
  const attempt = <T>(action: () => T): T | null => {
    try {
      return action();
    } catch {
      return null;
    }
  };
  /** The cookie is there where the storage did not take the last value: what the storage may still hold is older. */
  const baked = (name: string) => (IN_COOKIES.test(name) ? attempt(() => cookie(prefix + name)) : null);
  const forget = (name: string) => baked(name) !== null && attempt(() => bake(prefix + name, "", 0));
  return {
    get(name) {
      const key = prefix + name;
      return memory.get(key) ?? baked(name) ?? attempt(() => backing().getItem(key));
    },
    set(name, value) {
      const key = prefix + name;
      memory.set(key, value);
      try {
        backing().setItem(key, value);
        forget(name);
      } catch {
        if (IN_COOKIES.test(name)) attempt(() => bake(key, value, YEAR));
      }
    },
    remove(name) {
      const key = prefix + name;
      memory.delete(key);
      attempt(() => backing().removeItem(key));
      forget(name);
    },
  };
}
