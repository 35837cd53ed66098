/* The look of an agent: what is typed shows at once in the widget's own frames, which say how well the colour stands out. */

const DRAFT = "stonechat:draft";
const DRAWN = "stonechat:drawn";
const EASY = 3; // WCAG's ratio for shapes
const COLOUR = /^#[0-9a-f]{6}$/i;

const form = () => document.getElementById("agent-form");
const figures = [...document.querySelectorAll("[data-preview]")];
let accent = "#2563eb";
let sample;

function agentOf() {
  const fields = form().elements;
  const value = (name) => fields[name]?.value.trim() ?? "";
  if (COLOUR.test(value("accent"))) accent = value("accent");
  const prompts = [];
  for (let at = 0; fields[`prompt_text_${at}`]; at++) {
    const prompt = value(`prompt_text_${at}`);
    if (prompt) prompts.push({ prompt, label: value(`prompt_label_${at}`) || prompt.slice(0, 80) });
  }
  const { name, disclaimer, placeholder } = form().dataset;
  return {
    name,
    disclaimer,
    placeholder,
    greeting: value("greeting"),
    prompts,
    theme: { accent, scheme: value("scheme"), radius: value("radius"), density: value("density") },
    launcher: { label: value("launcher_label"), position: value("launcher_position"), icon: value("launcher_icon") },
  };
}

function draw() {
  const agent = agentOf();
  for (const figure of figures) {
    const { preview: scheme } = figure.dataset;
    figure.querySelector("iframe").contentWindow?.postMessage({ type: DRAFT, agent, sample }, location.origin);
    figure.querySelector("[data-disc]").setAttribute("fill", accent);
    figure.querySelector("[data-launcher]").setAttribute("aria-label", `The button: ${agent.launcher.label}`);
    for (const path of figure.querySelectorAll("[data-drawing]")) path.classList.toggle("hidden", path.dataset.drawing !== agent.launcher.icon);
    const left = agent.launcher.position === "left";
    figure.querySelector("[data-launcher-place]").classList.toggle("justify-start", left);
    figure.querySelector("[data-launcher-place]").classList.toggle("justify-end", !left);
    const fixed = agent.theme.scheme;
    const caption = fixed === "auto" ? `for visitors whose device is ${scheme}` : fixed === scheme ? "for everyone" : "is shown to nobody now";
    figure.querySelector("[data-caption]").textContent = caption;
  }
}

function warn(figure, ratio) {
  const place = figure.querySelector("[data-contrast]");
  const hard = ratio < EASY;
  if (hard) {
    const { preview: scheme } = figure.dataset;
    place.querySelector("[data-text]").textContent =
      `Hard to see on ${scheme} (${ratio.toFixed(1)} to 1; from 3 to 1 it is easy). ` +
      `Links and lines use a ${scheme === "light" ? "darker" : "lighter"} shade of it; the button and messages keep it.`;
  }
  place.hidden = !hard;
  const mark = document.querySelector(`[data-see="${figure.dataset.preview}"] [data-hard]`);
  if (mark) mark.hidden = !hard;
}

addEventListener("message", ({ source, origin, data }) => {
  const figure = figures.find((each) => each.querySelector("iframe").contentWindow === source);
  if (!figure || origin !== location.origin || data?.type !== DRAWN || typeof data.contrast !== "number") return;
  if (COLOUR.test(data.ink)) figure.querySelector("[data-ink]").setAttribute("fill", data.ink);
  warn(figure, data.contrast);
});
for (const figure of figures) figure.querySelector("iframe").addEventListener("load", draw);

document.addEventListener("input", (event) => {
  if (event.target.form !== form()) return;
  const { accent: written } = form().elements;
  const picker = form().querySelector("[data-picker]");
  if (event.target === picker) written.value = picker.value;
  else if (event.target === written && COLOUR.test(written.value)) picker.value = written.value;
  draw();
});
document.addEventListener("click", (event) => {
  const swatch = event.target.closest("[data-accent]");
  if (swatch && !swatch.matches(":disabled")) {
    const { accent: written } = form().elements;
    written.value = swatch.dataset.accent;
    written.dispatchEvent(new Event("input", { bubbles: true }));
  }
  const see = event.target.closest("[data-see]");
  if (see) {
    for (const each of document.querySelectorAll("[data-see]")) each.ariaPressed = String(each === see);
    for (const figure of figures) figure.classList.toggle("unseen", figure.dataset.preview !== see.dataset.see);
  }
  const view = event.target.closest("[data-sample]");
  if (!view) return;
  sample = view.dataset.sample === "conversation";
  for (const each of document.querySelectorAll("[data-sample]")) each.ariaPressed = String(each === view);
  draw();
  sample = undefined;
});
document.addEventListener("htmx:after:swap", () => form() && draw());
draw();
