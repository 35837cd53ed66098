/* Uploads by drop and by button: one request a file, two at a time, each with its own progress and its own refusal. */

import { refresh, watch } from "./progress.js";

const AT_ONCE = 2;
const MOST = 200;
const zone = document.getElementById("drop");
const field = document.getElementById("files");
const lines = document.getElementById("uploads");
const news = document.getElementById("upload-news");
const token = document.querySelector('meta[name="csrf-token"]')?.content ?? "";
const mostBytes = Number(zone.dataset.maxBytes);
const waiting = [];
let running = 0;
let depth = 0;

field.required = false; // the form is not sent where this runs
field.addEventListener("change", () => {
  take([...field.files]);
  field.value = "";
});

// The whole page takes files: who misses the zone does not leave the console for the file's text.
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => {
  if (!carriesFiles(event)) return;
  depth += 1;
  zone.dataset.over = "";
});
addEventListener("dragleave", (event) => {
  if (!carriesFiles(event)) return;
  depth = Math.max(0, depth - 1);
  if (!depth) delete zone.dataset.over;
});
addEventListener("dragover", (event) => {
  if (carriesFiles(event)) event.preventDefault();
});
addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  depth = 0;
  delete zone.dataset.over;
  const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
  const folders = items.map((item) => item.webkitGetAsEntry?.()).filter((entry) => entry?.isDirectory);
  const named = new Set(folders.map((entry) => entry.name));
  for (const name of named) refuse(addLine(name), "This is a folder. Open it and drop the files in it.");
  take([...event.dataTransfer.files].filter((file) => !named.has(file.name) || file.size > 0 && file.type));
});

addEventListener("beforeunload", (event) => {
  if (running || waiting.length) event.preventDefault();
});

function take(files) {
  for (const file of files.slice(0, MOST)) {
    const line = addLine(file.name);
    if (file.size > mostBytes) refuse(line, `This file is too large. A document may have at most ${zone.dataset.maxMegabytes} MB: cut it into parts.`);
    else if (!file.size) refuse(line, "This file is empty. Choose one with something in it.");
    else waiting.push({ file, line });
  }
  if (files.length > MOST) refuse(addLine(`${files.length - MOST} more files`), `At most ${MOST} are taken at once. Add these afterwards.`);
  next();
}

function addLine(name) {
  const line = document.getElementById("upload-line").content.firstElementChild.cloneNode(true);
  line.querySelector("[data-name]").textContent = name;
  note(line, "Waiting");
  lines.append(line);
  return line;
}

function note(line, text, pattern) {
  const place = line.querySelector("[data-note]");
  place.replaceChildren();
  if (pattern) place.append(document.getElementById(pattern).content.cloneNode(true));
  const words = document.createElement("span");
  words.textContent = text;
  place.append(words);
}

function refuse(line, reason) {
  line.dataset.state = "refused";
  note(line, reason, "upload-refused");
  line.querySelector("progress")?.remove();
  const dismiss = document.getElementById("upload-dismiss").content.firstElementChild.cloneNode(true);
  dismiss.setAttribute("aria-label", `Dismiss ${line.querySelector("[data-name]").textContent}`);
  dismiss.addEventListener("click", () => line.remove());
  line.append(dismiss);
  news.textContent = `${line.querySelector("[data-name]").textContent}: ${reason}`;
}

function done(line) {
  line.dataset.state = "done";
  note(line, "Uploaded, now being read", "upload-done");
  line.querySelector("progress")?.remove();
  news.textContent = `${line.querySelector("[data-name]").textContent} was uploaded.`;
  setTimeout(() => line.remove(), 4000);
}

async function next() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    send(waiting.shift()).finally(() => {
      running -= 1;
      next();
    });
  }
}

function send({ file, line }) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    const bar = line.querySelector("progress");
    bar.setAttribute("aria-label", `Upload of ${file.name}`);
    note(line, "0 %");
    request.upload.addEventListener("progress", (event) => {
      if (!event.lengthComputable) return;
      const share = Math.round((100 * event.loaded) / event.total);
      bar.value = share;
      note(line, share < 100 ? `${share} %` : "Being checked");
    });
    request.addEventListener("load", () => {
      if (request.status < 300) {
        done(line);
        refresh().then(watch);
      } else refuse(line, reasonOf(request));
      resolve();
    });
    const broken = () => {
      refuse(line, "The server could not be reached. Check your connection and add the file again.");
      resolve();
    };
    request.addEventListener("error", broken);
    request.addEventListener("abort", broken);
    const body = new FormData();
    body.append("file", file);
    request.open("POST", zone.action);
    request.setRequestHeader("X-CSRF-Token", token);
    request.setRequestHeader("HX-Request-Type", "partial");
    request.send(body);
  });
}

function reasonOf(request) {
  if (request.status === 401) return "You were signed out. Load the page again, sign in, and add the file once more.";
  try {
    return JSON.parse(request.getResponseHeader("Console")).toast.text;
  } catch {
    return "The server did not take this file. Try it again in a moment.";
  }
}
