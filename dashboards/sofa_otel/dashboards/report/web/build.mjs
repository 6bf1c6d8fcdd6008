// Bundles src/ into dist/report.js and dist/report.css and gathers the licences of what went in.
// The same sources and lock file give the same bytes (a test rebuilds and compares): node build.mjs [FOLDER]
import { build } from "esbuild";
import { mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const target = process.argv[2] ? resolve(process.argv[2]) : here;

const result = await build({
  absWorkingDir: here,
  entryPoints: { report: "src/main.ts" },
  outdir: join(target, "dist"),
  bundle: true,
  minify: true,
  charset: "ascii",
  format: "iife",
  target: "es2020",
  legalComments: "eof",
  define: { "process.env.NODE_ENV": '"production"', __DEV__: "false" },
  metafile: true,
  logLevel: "warning",
});

const packages = new Set();
for (const input of Object.keys(result.metafile.inputs)) {
  const found = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
  if (found) packages.add(found[1]);
}
const parts = [
  "# Third-party notices\n",
  "`dist/` holds parts of these packages. Those under Apache-2.0 fall under the text in this distribution's LICENSE.\n",
];
for (const name of [...packages].sort()) {
  const folder = join(here, "node_modules", name);
  const { version, license, homepage = "" } = JSON.parse(readFileSync(join(folder, "package.json"), "utf-8"));
  parts.push(`## ${name} ${version} (${license})\n`, homepage ? `${homepage}\n` : "");
  const files = readdirSync(folder).flatMap((file) =>
    statSync(join(folder, file)).isDirectory() && /^licen[cs]es?$/i.test(file) ? readdirSync(join(folder, file)).map((inner) => `${file}/${inner}`) : file,
  );
  for (const file of files.sort()) {
    if (!/^(licen[cs]e|notice|copying)/i.test(file)) continue;
    let text = readFileSync(join(folder, file), "utf-8").replace(/\r\n/g, "\n").trim();
    const end = text.indexOf("limitations under the License.");
    if (/^licen[cs]e/i.test(file) && /Apache License/.test(text) && end > 0) text = text.slice(end + 30).trim();
    if (text) parts.push("```", text.replaceAll("```", "'''"), "```\n");
  }
}
mkdirSync(target, { recursive: true });
writeFileSync(join(target, "NOTICES.md"), parts.filter(Boolean).join("\n"));
