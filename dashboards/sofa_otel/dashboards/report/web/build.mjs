// Bundles src/ into dist/report.js and dist/report.css. The same sources and lock file give the same bytes.
import { build } from "esbuild";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
await build({
  absWorkingDir: here,
  entryPoints: { report: "src/main.ts" },
  outdir: process.argv[2] ?? "dist",
  bundle: true,
  minify: true,
  charset: "ascii",
  format: "iife",
  target: "es2020",
  legalComments: "eof",
  define: { "process.env.NODE_ENV": '"production"', __DEV__: "false" },
  logLevel: "warning",
});
