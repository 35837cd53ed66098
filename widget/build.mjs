/**
 * Bundles the loader and the frame into the folder that the platform serves, byte for byte the same everywhere.
 *
 *   node build.mjs            write
 *   node build.mjs --check    write nothing; fail if what is committed differs from what the sources give
 */
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { fileURLToPath } from "node:url";
import { build, transform } from "esbuild";

const here = new URL("./", import.meta.url);
const out = new URL("../platform/stonechat/embed/static/", here);
const BUNDLES = [
  // A "use strict" would say nothing: in `/e/pk_....js` something stands before it.
  { name: "embed.js", entry: "src/embed/main.ts", format: "iife", sloppy: true, budget: 3 * 1024 },
  { name: "frame.js", entry: "src/frame/main.ts", format: "esm", vendored: true, budget: 45 * 1024 },
  { name: "panel.js", entry: "src/panel.ts", format: "esm", budget: 6 * 1024 },
  { name: "extras.js", entry: "src/extras.ts", format: "esm", budget: 25 * 1024 },
  { name: "stock.js", entry: "src/stock.ts", format: "esm", budget: 5 * 1024 },
];
const VENDORED = ["marked"];

const minifiedCss = {
  name: "minified-css",
  setup(bundler) {
    bundler.onLoad({ filter: /\.css$/ }, async ({ path }) => {
      const { code } = await transform(await readFile(path, "utf8"), { loader: "css", minify: true, target: "es2022" });
      return { contents: code.trim(), loader: "text" };
    });
  },
};

/** Of marked only the lexer is used; its module makes a whole parser when it is loaded, which no bundler may leave out. */
const lexerOnly = {
  name: "lexer-only",
  setup(bundler) {
    bundler.onLoad({ filter: /marked\.esm\.js$/ }, async ({ path }) => {
      const source = await readFile(path, "utf8");
      const end = /var (\w+)=new \w+;function \w+\(\w+,\w+\)\{return \1\.parse\(/.exec(source);
      const lexer = /export\{[^}]*?\b(\w+) as Lexer\b/.exec(source);
      if (!end || !lexer) throw new Error("marked is put together differently now: see lexerOnly");
      return { contents: `${source.slice(0, end.index)}export{${lexer[1]} as Lexer}`, loader: "js" };
    });
  },
};

async function bundle({ entry, format, vendored = false, sloppy = false }) {
  const result = await build({
    absWorkingDir: fileURLToPath(here),
    entryPoints: [entry],
    bundle: true,
    minify: true,
    format,
    target: "es2022",
    // The loader runs in pages of any encoding; the frame's document is ours, and UTF-8.
    charset: vendored ? "utf8" : "ascii",
    legalComments: "none",
    ...(sloppy && { tsconfigRaw: { compilerOptions: { alwaysStrict: false } } }),
    ...(vendored && { banner: { js: "/*! parts by others: see LICENSES.txt beside this file */" } }),
    plugins: [minifiedCss, lexerOnly],
    write: false,
    logLevel: "warning",
  });
  return Buffer.from(result.outputFiles[0].contents);
}

async function licenses() {
  const parts = [];
  for (const name of VENDORED) {
    const folder = new URL(`node_modules/${name}/`, here);
    const { version } = JSON.parse(await readFile(new URL("package.json", folder), "utf8"));
    const text = await readFile(new URL("LICENSE", folder), "utf8");
    parts.push(`${name} ${version}\n\n${text.replaceAll("\r\n", "\n").trim()}\n`);
  }
  return Buffer.from("Bundled into frame.js:\n\n" + parts.join(`\n${"-".repeat(80)}\n\n`));
}

const files = new Map([["LICENSES.txt", await licenses()]]);
const manifest = {};
let tooBig = false;
for (const target of BUNDLES) {
  const bytes = await bundle(target);
  const gzipped = gzipSync(bytes, { level: 9 }).length;
  files.set(target.name, bytes);
  manifest[target.name] = {
    sha256: createHash("sha256").update(bytes).digest("hex"),
    bytes: bytes.length,
    // Rounded up to half a KiB: zlib's last bytes differ between Node versions, and this file must not.
    gzip_kib: Math.ceil(gzipped / 512) / 2,
  };
  console.log(`${target.name}  ${bytes.length} bytes, ${gzipped} gzipped (at most ${target.budget})`);
  tooBig ||= gzipped > target.budget;
}
for (const name of (await readdir(new URL("src/locale/", here))).sort()) {
  if (!name.endsWith(".json") || name === "en.json") continue; // English comes with the frame
  const bytes = Buffer.from(JSON.stringify(JSON.parse(await readFile(new URL(`src/locale/${name}`, here), "utf8"))) + "\n");
  files.set(`words-${name}`, bytes);
  manifest[`words-${name}`] = { sha256: createHash("sha256").update(bytes).digest("hex"), bytes: bytes.length };
}
files.set("manifest.json", Buffer.from(JSON.stringify({ files: manifest }, null, 2) + "\n"));
if (tooBig) throw new Error("a bundle is over its budget");

if (process.argv.includes("--check")) {
  const stale = [];
  for (const [name, bytes] of files) {
    const committed = await readFile(new URL(name, out)).catch(() => Buffer.alloc(0));
    if (!committed.equals(bytes)) stale.push(name);
  }
  if (stale.length) throw new Error(`out of date, run \`npm run build\`: ${stale.join(", ")}`);
} else {
  await mkdir(out, { recursive: true });
  for (const [name, bytes] of files) await writeFile(new URL(name, out), bytes);
}
