// Talks to `calipose serve`, where this page comes from there; beside a server of plain files there is none.

import { UserError } from "./calipose.js";

/** What the server says of itself; null where there is none that finds poses. */
export async function askServer() {
  const response = await fetch("info").catch(() => null);
  if (!response?.ok) return null;
  return response.json().catch(() => null);
}

async function ask(path, options, token) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const response = await fetch(path, { ...options, headers }).catch(() => null);
  if (!response) throw new UserError("The server does not answer any more: start it again.");
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({ error: `it answers ${response.status}` }));
  throw new UserError(response.status === 401 ? "The server wants its token: write it into the field below." : `The server says: ${error}.`);
}

/** Finds poses on the server; has what the page needs of `Model`. */
export class ServerModel {
  constructor(info, token) {
    this.name = "the server";
    this.skeleton = info.skeleton;
    this.settings = { short_side: info.short_side };
    this.token = token; // a function
  }

  /**
   * Poses in an image, best first, as `Model.predict` gives them.
   * @param {ImageBitmap} image for its size
   * @param {Blob} file the image's file, which is sent
   */
  async predict(image, file) {
    const start = performance.now();
    const headers = { "Content-Type": "application/octet-stream" };
    const response = await ask("predict?min_score=0", { method: "POST", body: file, headers }, this.token());
    const entry = (await response.json()).images[0];
    const { keypoints: names } = this.skeleton;
    const poses = entry.poses.map(({ keypoints, ...pose }) => {
      const found = { ...pose, keypoints: names.map((name) => [keypoints[name].x, keypoints[name].y]) };
      if (names.every((name) => "score" in keypoints[name])) found.keypoint_scores = names.map((name) => keypoints[name].score);
      return found;
    });
    return { poses, milliseconds: { prepare: 0, network: performance.now() - start } };
  }

  async release() {}
}

/** What the calibration of the server's model knows of regions, as JSON of a `RegionMap`. */
export async function askRegions(token) {
  return (await (await ask("regions", {}, token)).json()).regions;
}

/** The score threshold for a target precision, by the calibration data of the server's model or of the page's. */
export async function askThreshold(precision, ofThePage, token) {
  const query = new URLSearchParams({ precision, ...(ofThePage ? { model: "onepass" } : {}) });
  return (await ask(`threshold?${query}`, {}, token)).json();
}
