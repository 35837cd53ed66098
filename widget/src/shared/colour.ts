/** WCAG contrast, for accents that a customer picks freely. Colours are `#rrggbb`. */

const WHITE = "#ffffff";
const BLACK = "#000000";

export const isColour = (value: unknown): value is string => typeof value === "string" && /^#[0-9a-f]{6}$/i.test(value);

const channels = (colour: string): number[] => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

const WEIGHTS = [0.2126, 0.7152, 0.0722];

/** Relative luminance, 0 (black) to 1 (white). */
export const luminance = (colour: string): number =>
  channels(colour).reduce((sum, value, at) => {
    const part = value / 255;
    return sum + (WEIGHTS[at] as number) * (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  }, 0);

/** Contrast ratio, 1 to 21. */
export function contrast(one: string, other: string): number {
  const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

/**
 * Black or white, whichever reads better on the colour; always at least 4.5 to 1.
 * The two are equal where (L + 0.05)² = 1.05 × 0.05.
 */
export const inkOn = (colour: string): string => (luminance(colour) > 0.179 ? BLACK : WHITE);

export function mix(one: string, other: string, share: number): string {
  const to = channels(other);
  const parts = channels(one).map((value, at) => Math.round(value + ((to[at] as number) - value) * share));
  return "#" + parts.map((value) => value.toString(16).padStart(2, "0")).join("");
}

/** The colour, moved no further than needed towards black or white until it stands `ratio` to 1 on the background. */
export function readableOn(colour: string, background: string, ratio: number): string {
  const towards = inkOn(background);
  for (let share = 0; share < 1; share += 0.04) {
    const candidate = mix(colour, towards, share);
    if (contrast(candidate, background) >= ratio) return candidate;
  }
  return towards;
}
