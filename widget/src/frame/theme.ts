/** The customer's accent, made safe to read in both schemes; set as custom properties, which the CSP allows. */
import { contrast, inkOn, mix, readableOn } from "../shared/colour.ts";
import type { Theme } from "./config.ts";

export const SURFACE = { light: "#ffffff", dark: "#16181b" } as const;
export type Scheme = keyof typeof SURFACE;

const RADIUS = { none: 0, small: 6, medium: 12, large: 20 } as const;
const DENSITY = { compact: 0.82, normal: 1, spacious: 1.2 } as const;
const TEXT = 4.5;
const SHAPE = 3;

export function accentProperties(accent: string, scheme: Scheme): Record<string, string> {
  const surface = SURFACE[scheme];
  // An accent that melts into the surface needs an edge to be seen as a shape.
  const edge = contrast(accent, surface) < 1.4 ? readableOn(accent, surface, SHAPE) : "transparent";
  const tint = mix(surface, accent, scheme === "light" ? 0.08 : 0.16);
  return {
    "--accent": accent,
    "--on-accent": inkOn(accent),
    "--accent-edge": edge,
    "--accent-text": readableOn(readableOn(accent, tint, TEXT), surface, TEXT),
    "--accent-line": readableOn(accent, surface, SHAPE),
    "--accent-tint": tint,
  };
}

export function applyTheme(root: HTMLElement, theme: Theme, prefersDark: MediaQueryList): void {
  const apply = () => {
    const scheme: Scheme = theme.scheme === "auto" ? (prefersDark.matches ? "dark" : "light") : theme.scheme;
    root.dataset.scheme = scheme;
    const properties = {
      ...accentProperties(theme.accent, scheme),
      "--radius": `${RADIUS[theme.radius]}px`,
      "--density": String(DENSITY[theme.density]),
    };
    for (const [name, value] of Object.entries(properties)) root.style.setProperty(name, value);
  };
  prefersDark.addEventListener("change", apply);
  apply();
}
