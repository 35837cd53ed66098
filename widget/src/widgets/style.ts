/**
 * Looks that a widget asks for, as custom properties and single declarations set one by one: no value of a widget's ever
 * becomes a style sheet, none can name an address, and none is larger than a screen.
 */
import { inkOn, isColour, mix, readableOn } from "../shared/colour.ts";
import { isRecord, isString, numeric, type Json } from "../shared/guards.ts";

export const SURFACE = { light: "#ffffff", dark: "#16181b" } as const;
const MAX_PIXELS = 1_200;
const UNIT = 4;

/** Lengths: a number is pixels; text is one length in pixels, rem, em or per cent, clamped. */
export function length(value: unknown, unit = 1): string | null {
  if (typeof value === "number" && Number.isFinite(value)) return `${clamp(value * unit, MAX_PIXELS)}px`;
  if (!isString(value)) return null;
  const found = /^(\d{1,4}(?:\.\d{1,3})?)(px|rem|em|%)?$/.exec(value.trim());
  if (!found) return null;
  const [, digits = "", of = "px"] = found;
  const most = of === "px" ? MAX_PIXELS : of === "%" ? 100 : 80;
  return `${clamp(Number(digits) * (found[2] ? 1 : unit), most)}${of}`;
}

/** Distances: a number is so many times four pixels. */
export const spacing = (value: unknown): string | null => length(value, UNIT);

const clamp = (value: number, most: number): number => Math.min(Math.max(value, 0), most);

const BASES: Readonly<Record<string, string>> = {
  gray: "#6b7280", slate: "#64748b", red: "#e5484d", orange: "#f07020", amber: "#f5a60b", yellow: "#e5b800", green: "#2e9e5b",
  teal: "#129488", blue: "#2f74e6", indigo: "#5b5bd6", purple: "#8e4ec6", pink: "#d6409f",
};

/** `red-100` and the like, `#rgb` and `#rrggbb`, as `#rrggbb`; null for what is no such colour. */
function hex(value: string): string | null {
  const short = /^#([0-9a-f])([0-9a-f])([0-9a-f])$/i.exec(value);
  if (short) return `#${short[1]}${short[1]}${short[2]}${short[2]}${short[3]}${short[3]}`;
  if (isColour(value)) return value;
  if (value === "white" || value === "black") return value === "white" ? "#ffffff" : "#000000";
  const [, name = "", digits = "500"] = /^([a-z]+)(?:-(\d{1,3}))?$/.exec(value) ?? [];
  const base = Object.hasOwn(BASES, name) ? (BASES[name] as string) : null;
  const shade = Number(digits);
  if (!base) return null;
  return shade <= 500 ? mix(base, "#ffffff", ((500 - shade) / 500) * 0.94) : mix(base, "#000000", ((Math.min(shade, 1000) - 500) / 500) * 0.8);
}

export function colourOf(value: unknown, scheme: "light" | "dark"): string | null {
  const one = isRecord(value) ? value[scheme] : value;
  return isString(one) ? hex(one.trim()) : null;
}

const TEXTS: Readonly<Record<string, string>> = {
  prose: "var(--text)", primary: "var(--text)", emphasis: "var(--text)", secondary: "var(--muted)", tertiary: "var(--muted)",
  success: "var(--good)", warning: "var(--warn)", danger: "var(--danger)",
};
const SURFACES: Readonly<Record<string, string>> = {
  surface: "var(--bg)", "surface-secondary": "var(--soft)", "surface-tertiary": "var(--soft)", "surface-elevated": "var(--bg)",
  "surface-elevated-secondary": "var(--soft)",
};
const named = (table: Readonly<Record<string, string>>, value: unknown): string | null =>
  isString(value) && Object.hasOwn(table, value) ? (table[value] as string) : null;

/** The tokens that `fill` does not set anew for a surface of another colour. */
const TONES: Readonly<Record<string, string>> = { success: "#157347", warning: "#8a5a00", danger: "#b42318" };

/** A colour for text, moved as far as it must be to be read on the surface it stands on. */
export function ink(value: unknown, surface: string, scheme: "light" | "dark"): string | null {
  const tone = named(TONES, value);
  if (tone && surface !== SURFACE[scheme]) return readableOn(tone, surface, 4.5);
  const token = named(TEXTS, value);
  if (token) return token;
  const colour = colourOf(value, scheme);
  return colour && readableOn(colour, surface, 4.5);
}

const ALIGN: Readonly<Record<string, string>> = { start: "flex-start", center: "center", end: "flex-end", baseline: "baseline", stretch: "stretch" };
const JUSTIFY: Readonly<Record<string, string>> = {
  start: "flex-start", center: "center", end: "flex-end", between: "space-between", around: "space-around", evenly: "space-evenly", stretch: "stretch",
};
const RADII: Readonly<Record<string, string>> = {
  none: "0", "2xs": "2px", xs: "4px", sm: "6px", md: "8px", lg: "12px", xl: "16px", "2xl": "20px", "3xl": "24px", "4xl": "32px", full: "999px", "100%": "50%",
};
const SIZES: Readonly<Record<string, string>> = {
  "3xs": "11px", "2xs": "12px", xs: "12.5px", sm: "14px", md: "15px", lg: "17px", xl: "20px", "2xl": "22px", "3xl": "26px", "4xl": "30px", "5xl": "36px",
};
const WEIGHTS: Readonly<Record<string, string>> = { normal: "400", medium: "500", semibold: "600", bold: "700" };
const WRAPS: Readonly<Record<string, string>> = { nowrap: "nowrap", wrap: "wrap", "wrap-reverse": "wrap-reverse" };
const STYLES = ["solid", "dashed", "dotted", "double"];

const set = (element: HTMLElement, property: string, value: string | null): void => {
  if (value !== null) element.style.setProperty(property, value);
};

const SIDES = [
  ["top", ["top"]], ["right", ["right"]], ["bottom", ["bottom"]], ["left", ["left"]], ["x", ["left", "right"]], ["y", ["top", "bottom"]],
] as const;

function edges(element: HTMLElement, property: "padding" | "margin", value: unknown): void {
  if (!isRecord(value)) return set(element, property, spacing(value));
  for (const [name, sides] of SIDES) for (const side of sides) set(element, `${property}-${side}`, spacing(value[name]));
}

function border(element: HTMLElement, value: unknown, scheme: "light" | "dark"): void {
  const draw = (side: string, given: unknown) => {
    const { size, color, style } = isRecord(given) ? given : { size: given, color: null, style: null };
    const width = typeof size === "number" ? clamp(size, 8) : null;
    if (width === null) return;
    const line = isString(style) && STYLES.includes(style) ? style : "solid";
    set(element, `border${side}`, `${width}px ${line} ${colourOf(color, scheme) ?? "var(--line)"}`);
  };
  if (isRecord(value) && !("size" in value)) for (const [name, sides] of SIDES) for (const side of sides) draw(`-${side}`, value[name]);
  else draw("", value);
}

/** The box that a component asks for; returns the surface that its children stand on. */
export function dressBox(element: HTMLElement, node: Json, surface: string, scheme: "light" | "dark"): string {
  const pairs = [["width", "Width"], ["height", "Height"]] as const;
  for (const [property, suffix] of pairs) {
    set(element, property, length(node[property] ?? node.size));
    for (const bound of ["min", "max"] as const) set(element, `${bound}-${property}`, length(node[bound + suffix] ?? node[`${bound}Size`]));
  }
  set(element, "max-inline-size", "100%");
  set(element, "align-items", named(ALIGN, node.align));
  set(element, "justify-content", named(JUSTIFY, node.justify));
  set(element, "flex-wrap", named(WRAPS, node.wrap));
  set(element, "gap", spacing(node.gap));
  set(element, "border-radius", named(RADII, node.radius));
  if (typeof node.flex === "number" || (isString(node.flex) && /^\d{1,2}$/.test(node.flex))) set(element, "flex", `${node.flex} 1 0%`);
  const ratio = typeof node.aspectRatio === "number" ? String(node.aspectRatio) : node.aspectRatio;
  if (isString(ratio) && /^\d{1,4}(\.\d+)?(\s*\/\s*\d{1,4}(\.\d+)?)?$/.test(ratio)) set(element, "aspect-ratio", ratio);
  edges(element, "padding", node.padding);
  edges(element, "margin", node.margin);
  border(element, node.border, scheme);
  return fill(element, node.background, surface, scheme);
}

export function fill(element: HTMLElement, background: unknown, surface: string, scheme: "light" | "dark"): string {
  const token = named(SURFACES, background);
  if (token) set(element, "background", token);
  const colour = token ? null : colourOf(background, scheme);
  if (!colour) return surface;
  const on = inkOn(colour);
  for (const [property, value] of [["background", colour], ["color", on], ["--text", on], ["--muted", on], ["--accent-text", on]] as const) {
    set(element, property, value);
  }
  return colour;
}

export function dressText(element: HTMLElement, node: Json, surface: string, scheme: "light" | "dark"): void {
  set(element, "color", ink(node.color, surface, scheme));
  set(element, "font-size", named(SIZES, node.size));
  set(element, "font-weight", named(WEIGHTS, node.weight));
  set(element, "width", length(node.width));
  if (isString(node.textAlign) && /^(start|center|end)$/.test(node.textAlign)) set(element, "text-align", node.textAlign);
  if (node.italic === true) set(element, "font-style", "italic");
  if (node.lineThrough === true) set(element, "text-decoration", "line-through");
  const lines = node.truncate === true ? 1 : numeric(node.maxLines);
  if (lines >= 1 && lines <= 50) {
    element.classList.add("w-clamped");
    set(element, "-webkit-line-clamp", String(Math.floor(lines)));
  }
  const least = numeric(node.minLines);
  if (least >= 1 && least <= 50) set(element, "min-height", `${Math.floor(least)}lh`);
}
