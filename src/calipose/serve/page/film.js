// Frames of a camera or a video file, one after the other as fast as their poses are found.

import { UserError } from "./calipose.js";

export class Film {
  /** @param {HTMLVideoElement} video shows it; @param {(frame: ImageBitmap) => Promise<void>} take is given each frame */
  constructor(video, take) {
    Object.assign(this, { video, take, running: false });
  }

  /** Shows the camera. */
  async openCamera() {
    if (!navigator.mediaDevices) throw new UserError("Browsers give the camera only to pages from this computer or over https.");
    const wanted = { video: { facingMode: "user", width: { ideal: 960 } }, audio: false };
    const stream = await navigator.mediaDevices.getUserMedia(wanted).catch((error) => {
      const why = { NotAllowedError: "it was not allowed", NotFoundError: "there is none" }[error.name] ?? error.message;
      throw new UserError(`The camera cannot be used: ${why}.`);
    });
    this.stop();
    this.video.srcObject = stream;
    await this.#start();
  }

  /** Shows a video file, again and again. */
  async openFile(file) {
    this.stop();
    this.video.src = URL.createObjectURL(file);
    await this.#start().catch(() => {
      this.stop();
      throw new UserError(`${file.name} is no video that this browser can play.`);
    });
  }

  async #start() {
    await this.video.play();
    this.running = true;
  }

  /** Gives frames until `stop`; what goes wrong with one ends it. */
  async run() {
    while (this.running) {
      const frame = await createImageBitmap(this.video);
      try {
        await this.take(frame);
      } finally {
        frame.close();
      }
      await new Promise(requestAnimationFrame); // the page stays responsive
    }
  }

  /** The frame that is shown, as an image file. */
  async frame() {
    const { videoWidth: width, videoHeight: height } = this.video;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d").drawImage(this.video, 0, 0);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
    return new File([blob], "frame.jpg", { type: "image/jpeg" });
  }

  stop() {
    this.running = false;
    this.video.pause();
    for (const track of this.video.srcObject?.getTracks() ?? []) track.stop(); // the camera's light goes out
    this.video.srcObject = null;
    if (this.video.src) {
      URL.revokeObjectURL(this.video.src);
      this.video.removeAttribute("src");
    }
  }
}
