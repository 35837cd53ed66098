/** Which pictures may be loaded: files of conversations, inline data, and those of hosts that the agent's owner listed. */

const INLINE = /^data:image\/(png|jpeg|webp|gif);base64,[\w+/=]*$/;

/** The address to load, or null. Files of a conversation are fetched from this origin whatever host their link names. */
export function pictureAddress(src: string, hosts: readonly string[], here: Location | URL): string | null {
  if (INLINE.test(src)) return src;
  try {
    const url = new URL(src, here.href);
    if (/^https?:$/.test(url.protocol) && url.pathname.startsWith("/v1/uploads/")) return url.pathname + url.search;
    return url.protocol === "https:" && !url.port && !url.username && hosts.some((host) => covers(host, url.hostname)) ? url.href : null;
  } catch {
    return null;
  }
}

const covers = (host: string, name: string): boolean => name === host || (host.startsWith("*.") && name.endsWith(host.slice(1)));
