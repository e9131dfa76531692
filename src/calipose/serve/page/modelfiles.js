// A model's file, and NAME.calipose.json beside it, which says what the scores mean (calipose/config/stored.py).

import { UserError } from "./calipose.js";

export const MODEL = "model.onnx"; // beside this page; what `calipose export` wrote

export const isModel = (file) => file.name.toLowerCase().endsWith(".onnx");
const storedName = (name) => name.replace(/\.onnx$/i, ".calipose.json");

/** The model beside this page: its bytes and, where there is one, the calibration that takes the place of its own. */
export async function fetchModel() {
  const response = await fetch(MODEL, { cache: "no-cache" }).catch(() => null);
  if (!response) throw new UserError("The server of this page does not answer: start it again, then reload the page.");
  if (!response.ok) {
    throw new UserError(
      `There is no ${MODEL} beside this page. Put one there with: calipose export CHECKPOINT ${MODEL}, ` +
        "or choose a file that it wrote.",
    );
  }
  const bytes = new Uint8Array(await response.arrayBuffer());
  // The servers of this project say whether there is such a file; others are asked for it.
  const link = response.headers.get("Link")?.match(/^<([^>]+)>; rel="describedby"$/)?.[1];
  const beside = await fetch(link ?? storedName(MODEL), { cache: "no-cache" }).catch(() => null);
  const stored = beside?.ok ? await beside.json().catch(() => null) : null;
  if (link && !stored) throw new UserError(`The file that says what the scores of ${MODEL} mean, ${link}, cannot be read.`);
  return { bytes, calibration: stored && (stored.calibration ?? {}) };
}

/** A model that was chosen or dropped; the file beside it counts where it was chosen, too. */
export async function chosenModel(file, files) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const beside = files.find((other) => other.name === storedName(file.name));
  if (!beside) return { bytes };
  const stored = await beside.text().then(JSON.parse).catch(() => {
    throw new UserError(`${beside.name} is not JSON, or it is damaged.`);
  });
  await check(stored, bytes, file.name, beside.name);
  return { bytes, calibration: stored.calibration ?? {} };
}

/** Refuses what was stored for another model, as `read_stored` does in Python. */
async function check({ model, sha256 }, bytes, name, beside) {
  const digest = sha256 && (await crypto.subtle?.digest("SHA-256", bytes)); // pages of other machines need https for it
  const hex = digest && [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if ((model && model !== name) || (hex && hex !== sha256)) {
    throw new UserError(`${beside} was made for another model (${model || "another file"}) than ${name}.`);
  }
}
