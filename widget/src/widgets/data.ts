/** Tables and charts. */
import { isRecord, list, numeric, records, text, type Json } from "../shared/guards.ts";
import { childrenOf } from "../chat/widget.ts";
import { words, type Draw } from "./context.ts";
import { colourOf, length } from "./style.ts";
import { readableOn } from "../shared/colour.ts";

const MAX_ROWS = 200;
const MAX_COLUMNS = 20;
const MAX_POINTS = 300;
const MAX_SERIES = 10;
const WIDTH = 480;
const TOP = 8;
const SERIES_COLOURS = ["blue", "orange", "green", "purple", "red", "yellow", "pink", "teal"];

const scroller = (draw: Draw, label: string, content: HTMLElement) =>
  draw.kit.h("div", { class: "w-wide", tabindex: 0, role: "group", "aria-label": label }, content);

/** `columns` and `rows` of data, or components for rows and cells. */
export function table(node: Json, draw: Draw): HTMLElement {
  const { h, locale } = draw.kit;
  const caption = words(node.caption ?? node.title);
  const built = childrenOf(node).slice(0, MAX_ROWS);
  const rows = built.length ? componentRows(built, draw) : dataRows(node, draw);
  return scroller(draw, caption || locale.t("table"), h("table", {}, caption && h("caption", {}, caption), ...rows));
}

function componentRows(rows: readonly Json[], draw: Draw): HTMLElement[] {
  const { h } = draw.kit;
  return rows.map((row) =>
    h(
      "tr",
      {},
      ...childrenOf(row).slice(0, MAX_COLUMNS).map((cell) => {
        const isHead = row.header === true || cell.header === true || cell.type === "Table.Header";
        const value = words(cell.value ?? cell.label);
        const isCell = /cell|header/i.test(words(cell.type)); // anything else stands in a cell by itself
        return h(isHead ? "th" : "td", { scope: isHead ? "col" : null }, ...(isCell ? [value, ...draw.children(cell)] : draw.children({ children: [cell] })));
      }),
    ),
  );
}

function dataRows(node: Json, draw: Draw): HTMLElement[] {
  const { h } = draw.kit;
  const rows = list(node.rows ?? node.data).slice(0, MAX_ROWS);
  const columns = list(node.columns).slice(0, MAX_COLUMNS).map((column, at) => {
    const given: Json = isRecord(column) ? column : { label: column, key: column };
    const key = words(given.key ?? given.dataKey ?? given.name) || String(at);
    const align = words(given.align);
    return { key, label: words(given.label ?? given.header ?? given.title) || key, align: /^(start|center|end)$/.test(align) ? align : null };
  });
  const known = columns.length ? columns : Object.keys(rows.find(isRecord) ?? {}).slice(0, MAX_COLUMNS).map((key) => ({ key, label: key, align: null }));
  const cell = (row: unknown, key: string, at: number) => (Array.isArray(row) ? row[at] : isRecord(row) && Object.hasOwn(row, key) ? row[key] : "");
  return [
    h("thead", {}, h("tr", {}, ...known.map(({ label, align }) => h("th", { scope: "col", "data-align": align }, label)))),
    h("tbody", {}, ...rows.map((row) => h("tr", {}, ...known.map(({ key, align }, at) => h("td", { "data-align": align }, words(cell(row, key, at))))))),
  ];
}

interface Series {
  readonly kind: "bar" | "area" | "line";
  readonly label: string;
  readonly colour: string;
  readonly values: readonly number[];
  readonly stack: string | null;
  readonly isStepped: boolean;
}

export function chart(node: Json, draw: Draw): HTMLElement {
  const { kit } = draw;
  const { h, svg, locale } = kit;
  const data = records(node.data).slice(0, MAX_POINTS);
  const axis: Json = isRecord(node.xAxis) ? node.xAxis : { dataKey: node.xAxis };
  const labels = isRecord(axis.labels) ? axis.labels : {};
  const names = data.map((row) => {
    const name = words(row[words(axis.dataKey)]);
    return Object.hasOwn(labels, name) ? words(labels[name]) : name;
  });
  const series = records(node.series).slice(0, MAX_SERIES).map((given, at): Series => {
    const key = words(given.dataKey);
    const kind = given.type === "area" || given.type === "line" ? given.type : "bar";
    const colour = colourOf(given.color, draw.scheme) ?? colourOf(SERIES_COLOURS[at % SERIES_COLOURS.length], draw.scheme) ?? "#2f74e6";
    return {
      kind,
      label: words(given.label) || key,
      colour: readableOn(colour, draw.surface, 3),
      values: data.map((row) => (Number.isFinite(numeric(row[key])) ? numeric(row[key]) : 0)),
      stack: kind === "line" ? null : text(given.stack),
      isStepped: words(given.curveType).startsWith("step"),
    };
  });

  // Stacked series stand on what is below them.
  const below = new Map<string, number[]>();
  const layers = series.map((one) => {
    const floor = one.stack === null ? one.values.map(() => 0) : (below.get(one.stack) ?? one.values.map(() => 0));
    const top = one.values.map((value, at) => value + (floor[at] as number));
    if (one.stack !== null) below.set(one.stack, top);
    return { ...one, floor, top };
  });
  const all = layers.flatMap(({ top }) => top);
  const { low, high, steps } = scale(Math.min(0, ...all), Math.max(0, ...all));
  const HEIGHT = Math.min(Math.max(Number.parseFloat(length(node.height) ?? "200"), 120), 480);
  const hasAxis = node.showYAxis === true;
  const left = hasAxis ? 44 : 6;
  const bottom = axis.hide === true ? 8 : 24;
  const y = (value: number) => TOP + (HEIGHT - TOP - bottom) * (1 - (value - low) / (high - low || 1));
  const slot = (WIDTH - left - 6) / Math.max(data.length, 1);
  const x = (at: number) => left + slot * (at + 0.5);
  const bars = layers.filter(({ kind }) => kind === "bar");
  const lanes = [...new Set(bars.map((bar, at) => bar.stack ?? `#${at}`))];
  const round = (value: number) => Math.round(value * 10) / 10;
  const number = new Intl.NumberFormat(locale.tag, { maximumFractionDigits: 2 });
  const short = new Intl.NumberFormat(locale.tag, { notation: "compact", maximumFractionDigits: 1 });

  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "w-chart", role: "img" });
  picture.setAttribute("aria-label", `${locale.t("chart")}: ${layers.map(({ label }) => label).join(", ")}`);
  for (const step of steps) {
    picture.append(svg("line", { x1: left, x2: WIDTH - 6, y1: round(y(step)), y2: round(y(step)), class: step === 0 ? "w-axis" : "w-grid" }));
    if (hasAxis) picture.append(svg("text", { x: left - 6, y: round(y(step)) + 4, "text-anchor": "end" }, short.format(step)));
  }
  for (const layer of layers) {
    const { kind, colour, floor, top, label } = layer;
    const titleAt = (at: number) => svg("title", {}, `${label}, ${names[at]}: ${number.format(layer.values[at] as number)}`);
    if (kind === "bar") {
      const lane = lanes.indexOf(layer.stack ?? `#${bars.indexOf(layer)}`);
      const thick = Math.min((slot * 0.72) / lanes.length, 48);
      top.forEach((value, at) => {
        const [one, other] = [y(value), y(floor[at] as number)];
        const start = x(at) - (thick * lanes.length) / 2 + lane * thick;
        picture.append(
          svg("rect", { x: round(start + 1), y: round(Math.min(one, other)), width: round(Math.max(thick - 2, 1)), height: round(Math.max(Math.abs(one - other), 0.5)), rx: 2, fill: colour }, titleAt(at)),
        );
      });
      continue;
    }
    const points = top.map((value, at) => [round(x(at)), round(y(value))] as const);
    const path = points.map(([px, py], at) => (at === 0 ? `M${px} ${py}` : layer.isStepped ? `H${px}V${py}` : `L${px} ${py}`)).join("");
    if (kind === "area" && points.length) {
      const back = floor.map((value, at) => `L${round(x(at))} ${round(y(value))}`).toReversed().join("");
      picture.append(svg("path", { d: `${path}${back}Z`, fill: colour, "fill-opacity": 0.22 }));
    }
    picture.append(svg("path", { d: path, fill: "none", stroke: colour, "stroke-width": 2, "stroke-linejoin": "round" }));
    if (points.length <= 40) points.forEach(([px, py], at) => picture.append(svg("circle", { cx: px, cy: py, r: 3, fill: colour }, titleAt(at))));
  }
  if (axis.hide !== true) {
    const every = Math.ceil(names.length / 8);
    names.forEach((name, at) => at % every === 0 && picture.append(svg("text", { x: round(x(at)), y: HEIGHT - 7, "text-anchor": "middle" }, name.length > 10 ? `${name.slice(0, 9)}…` : name)));
  }

  const legend = (node.showLegend ?? layers.length > 1) === true &&
    h("ul", { class: "w-legend", role: "list" }, ...layers.map(({ label, colour }) => {
      const swatch = h("span", { class: "w-swatch" });
      swatch.style.background = colour;
      return h("li", {}, swatch, label);
    }));
  // Figures for those who cannot see the picture, or want to copy them.
  const figures = dataRows({ columns: ["", ...layers.map(({ label }) => label)], rows: data.map((_, at) => [names[at], ...layers.map(({ values }) => number.format(values[at] as number))]) }, draw);
  const details = h("details", { class: "w-data" }, h("summary", {}, locale.t("show_data")), scroller(draw, locale.t("table"), h("table", {}, ...figures)));
  return h("div", { class: "w-figure" }, picture as unknown as HTMLElement, legend, details);
}

/** Round steps over a range: four or five of them. */
function scale(low: number, high: number): { low: number; high: number; steps: number[] } {
  const span = high - low || 1;
  const magnitude = 10 ** Math.floor(Math.log10(span / 4));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * magnitude).find((size) => span / size <= 5) ?? magnitude * 10;
  const from = Math.floor(low / step) * step;
  const to = Math.ceil(high / step) * step || step;
  const steps: number[] = [];
  for (let at = 0; at <= 6 && from + at * step <= to + step / 1e6; at++) steps.push(from + at * step);
  return { low: from, high: to, steps };
}
