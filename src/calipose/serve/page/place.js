// Where poses are found, the browser or the server, and what the server's calibration data say of a target precision.

import { ServerModel, askServer, askThreshold } from "./server.js";

const element = (id) => document.getElementById(id);

export class Place {
  /** @param {object} page `attempt`, `changed` (the place is another one) and `setThreshold` of the page */
  constructor(page) {
    Object.assign(this, { page, server: null, about: "No model", packaged: true });
    for (const choice of document.querySelectorAll("input[name=where]")) choice.addEventListener("change", () => this.#change());
    element("precision").addEventListener("change", () => this.#choosePrecision());
  }

  get onServer() {
    return this.server !== null && document.querySelector("input[name=where]:checked").value === "server";
  }

  #token = () => element("token").value;

  /** What has the server find the poses. */
  serverModel() {
    return new ServerModel(this.server, this.#token);
  }

  /** Shows what the server offers, if there is one; where the browser cannot find poses itself, the server does. */
  async meet() {
    this.server = await askServer();
    if (!this.server) return void this.page.changed();
    const [browser, remote] = document.querySelectorAll("input[name=where]");
    element("where").hidden = false;
    element("token-row").hidden = !this.server.needs_token;
    const { model, second_look: twice } = this.server;
    element("server-model").textContent = `${model || "its own model"}, ${twice ? "two looks, more exact" : "one look"}`;
    if (!this.server.in_browser) {
      browser.disabled = true;
      remote.checked = true;
      element("where-note").textContent =
        "This server has no onnxruntime-web, so images are sent to it (docs/serve.md: --web-runtime).";
    }
    this.#change();
  }

  #change() {
    this.forgetPrecision();
    this.#show();
    this.page.changed();
  }

  /**
   * The browser has a model; with a file that was chosen, it finds the poses from now on.
   * @param {string} name of its file; @param {string} about it
   * @param {boolean} packaged it is the one that came with the page: the server, if there is one, knows its calibration data
   */
  browserHas(name, about, packaged) {
    Object.assign(this, { about, packaged });
    element("browser-model").textContent = packaged ? "onepass, one look" : `${name}, one look`;
    if (this.onServer && !packaged) {
      document.querySelector("input[name=where]").checked = true;
      this.forgetPrecision();
    }
    this.#show();
  }

  #show() {
    const { onServer, server } = this;
    element("about-model").textContent = onServer ? `The server's model: short side ${server.short_side} px` : this.about;
    element("precision-row").hidden = !server || !(onServer || this.packaged);
    element("privacy").textContent = onServer
      ? `Images are sent to ${location.host}, which keeps none of them.`
      : "Computed on this device: nothing is uploaded.";
  }

  /** The slider was moved by hand. */
  forgetPrecision() {
    element("precision").value = element("precision-note").textContent = "";
  }

  /** Moves the slider to the score that reaches the chosen precision, by the calibration data. */
  #choosePrecision() {
    const precision = element("precision").value;
    element("precision-note").textContent = "";
    if (!precision) return;
    this.page.attempt("", async () => {
      try {
        const chosen = await askThreshold(precision, !this.onServer, this.#token());
        this.page.setThreshold(chosen.min_score);
        element("precision-note").textContent =
          `${Math.round(100 * chosen.precision)} % of ${chosen.poses} poses of the calibration data were that good ` +
          `(at least ${Math.round(100 * chosen.bound)} % with 95 % confidence).`;
      } catch (error) {
        element("precision").value = "";
        throw error;
      }
    });
  }
}
