// Serves the page, and this folder's model.onnx and node_modules, to this computer alone: node serve.mjs [PORT]
// Unlike `python -m http.server` it sends the two headers without which browsers refuse threads to WebAssembly.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize, sep } from "node:path";
import { fileURLToPath } from "node:url";

const PAGE = fileURLToPath(new URL("../../src/calipose/serve/page/", import.meta.url));
const HERE = fileURLToPath(new URL(".", import.meta.url));
const STORED = "/model.calipose.json"; // what the scores of model.onnx mean; calipose export and calibrate write it
const ours = (pathname) => ["/model.onnx", STORED].includes(pathname) || pathname.startsWith("/node_modules/onnxruntime-web/dist/");
const TYPES = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".json": "application/json",
  ".mjs": "text/javascript",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};
const HEADERS = {
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cache-Control": "no-cache",
};

const server = createServer(async (request, response) => {
  try {
    const { pathname } = new URL(request.url, "http://localhost");
    const folder = ours(pathname) ? HERE : PAGE;
    let file = normalize(join(folder, decodeURIComponent(pathname)));
    if (file.endsWith(sep)) file += "index.html";
    if (!file.startsWith(folder) || !["GET", "HEAD"].includes(request.method)) throw new Error("not served");
    const found = await stat(file);
    if (!found.isFile()) throw new Error("a folder");
    const type = TYPES[extname(file)] ?? "application/octet-stream";
    const beside = pathname === "/model.onnx" && (await stat(join(HERE, STORED)).catch(() => null));
    const link = beside ? { Link: `<${STORED}>; rel="describedby"` } : {};
    response.writeHead(200, { ...HEADERS, ...link, "Content-Type": type, "Content-Length": found.size });
    if (request.method === "HEAD") response.end();
    else createReadStream(file).on("error", () => response.destroy()).pipe(response);
  } catch {
    response.writeHead(404, HEADERS).end("not found\n");
  }
});

server.listen(Number(process.argv[2] ?? 8000), "127.0.0.1", () => {
  console.log(`http://localhost:${server.address().port}`);
});
