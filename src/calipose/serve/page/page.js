// The page: takes an image or a film, shows it with its poses, and says what went wrong.

import { Model, UserError } from "./calipose.js";
import { drawPoses } from "./draw.js";
import { save, toCsv, toDict } from "./files.js";
import { Film } from "./film.js";
import { MODEL, chosenModel, fetchModel, isModel } from "./modelfiles.js";
import { Place } from "./place.js";
import { Regions } from "./regions.js";
import { ServerModel } from "./server.js";

const MIN_SCORE = 0.3; // where the slider starts, as `calipose predict` does

const element = (id) => document.getElementById(id);

let model = null; // a promise of the model that runs in the browser
let current = null; // the image's file
let result = null; // {model, poses, width, height, milliseconds} of the image or frame
let pinned = null; // the pose that was clicked in the list
let hovered = null;
let turn = 0; // number of images opened; the result of an earlier one comes too late
let tasks = 0; // under way

const film = new Film(element("video"), showFrame);
const place = new Place({ attempt, changed: changePlace, setThreshold });
const regions = new Regions(place);

/** Runs a task, shows that it runs, and what went wrong. */
async function attempt(text, task) {
  element("error").hidden = true;
  element("busy").hidden = false;
  if (text) element("status").textContent = text;
  tasks++;
  try {
    await task();
  } catch (error) {
    if (!(error instanceof UserError)) console.error(error);
    element("error").textContent =
      error instanceof UserError ? error.message : `This went wrong: ${error.message ?? error}`;
    element("error").hidden = false;
  } finally {
    tasks--;
    if (!tasks) {
      element("busy").hidden = true;
      describeResult();
    }
  }
}

/**
 * Opens a model; images wait for it. If it fails, the one before stays.
 * @param {() => Promise<{bytes: Uint8Array, calibration?: object}>} read its file, and what lies beside that
 */
function openModel(name, read, packaged = false) {
  return attempt(`Loading ${name} ...`, async () => {
    const before = model;
    const loading = read().then(({ bytes, calibration }) => Model.load(bytes, name, calibration));
    model = loading;
    let loaded;
    try {
      loaded = await loading;
    } catch (error) {
      if (model === loading) model = before;
      throw error;
    }
    const { skeleton, settings, size } = loaded;
    const about =
      `${name}: ${skeleton.keypoints.length} keypoints (${skeleton.name}), ` +
      `short side ${settings.short_side} px, ${(size / 1e6).toFixed(1)} MB; ${loaded.scoresBy}`;
    place.browserHas(name, about, packaged);
    const old = await before?.catch(() => null);
    await old?.release();
    if (current && !place.onServer) openImage(current);
  });
}

/** Whatever finds the poses now: the server, or a model in this browser. */
async function predictor() {
  if (place.onServer) return place.serverModel();
  if (!model) throw new UserError("There is no model yet: choose a file that calipose export wrote.");
  return model;
}

/** Shows an image at once, and its poses when they are found. */
function openImage(file) {
  return attempt("Looking for people ...", async () => {
    const mine = ++turn;
    endFilm();
    const start = performance.now();
    // Pixels as they are stored, as OpenCV reads them: colours not converted; EXIF orientation applied.
    const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
    const bitmap = await createImageBitmap(file, options).catch(() => {
      throw new UserError(`${file.name} is no image that this browser can read. JPEG, PNG and WebP are.`);
    });
    const decode = performance.now() - start;
    if (mine !== turn) return;
    current = file;
    result = pinned = hovered = null;
    showImage(file, bitmap.width / bitmap.height);
    showResult();
    try {
      const network = await predictor();
      const { poses, milliseconds } = await network.predict(bitmap, file);
      if (mine !== turn) return;
      const { width, height } = bitmap;
      result = { model: network, poses, width, height, milliseconds: { decode, ...milliseconds } };
      await showResultWithRegions();
    } catch (error) {
      if (mine === turn) throw error; // else of an image or model that was replaced
    } finally {
      bitmap.close();
    }
  });
}

function showImage(file, aspect) {
  const image = element("image");
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(file); // shown by the browser itself: colours and scaling at their best
  image.alt = file.name;
  showStage(image, aspect);
}

function showStage(surface, aspect) {
  for (const other of ["image", "video"]) element(other).hidden = element(other) !== surface;
  element("shown").style.setProperty("--aspect", aspect);
  element("shown").hidden = false;
  element("stage").classList.remove("empty");
}

/** Shows a camera or a video file, and the poses of its frames until it is stopped. */
async function openFilm(name, open) {
  await attempt("Opening the film ...", async () => {
    await open();
    turn++; // an image under way comes too late
    current = null;
    result = pinned = hovered = null;
    showStage(element("video"), element("video").videoWidth / element("video").videoHeight);
    element("video").ariaLabel = name;
    element("film").hidden = true;
    element("stop").hidden = false;
    element("stop").focus();
    showResult();
  });
  if (!film.running) return;
  await film.run().catch((error) => {
    endFilm();
    return attempt("", async () => {
      throw error;
    });
  });
}

async function showFrame(frame) {
  const network = await predictor();
  const file = network instanceof ServerModel ? await film.frame() : null;
  const { width, height } = frame;
  const { poses, milliseconds } = await network.predict(frame, file);
  if (!film.running) return;
  result = { model: network, poses, width, height, milliseconds: { decode: 0, ...milliseconds } };
  pinned = hovered = null;
  await showResultWithRegions();
}

function endFilm() {
  film.stop();
  const hadFocus = document.activeElement === element("stop");
  element("stop").hidden = true;
  element("film").hidden = false;
  if (hadFocus) element("film").focus();
}

const threshold = () => Number(element("threshold").value);
const shownPoses = () => result.poses.filter((pose) => pose.score >= threshold());

/** Shows the poses at once, and their regions when they are known. */
async function showResultWithRegions() {
  const known = regions.prepare(result.model);
  showResult();
  await known;
  if (result) update();
}

/** Lists the poses; called once an image. */
function showResult() {
  element("results").hidden = !result;
  element("list").ariaLive = film.running ? "off" : "polite"; // a film would be read out without end
  element("list").replaceChildren(...(result?.poses ?? []).map(listEntry));
  update();
}

function listEntry(pose) {
  const entry = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.ariaPressed = "false";
  button.ariaLabel = `Pose of score ${pose.score.toFixed(2)}`;
  const [bar, score] = [document.createElement("span"), document.createElement("span")];
  bar.className = "bar";
  bar.style.setProperty("--share", Math.min(Math.max(pose.score, 0), 1));
  score.textContent = pose.score.toFixed(2);
  button.append(bar, score);
  button.addEventListener("click", () => {
    pinned = pinned === pose ? null : pose;
    for (const other of element("list").querySelectorAll("button")) {
      other.ariaPressed = String(other === button && pinned === pose);
    }
    draw();
  });
  const hover = (over) => (event) => {
    if (event.pointerType !== "mouse") return;
    hovered = over;
    draw();
  };
  button.addEventListener("pointerenter", hover(pose));
  button.addEventListener("pointerleave", hover(null));
  entry.append(button);
  return entry;
}

/** Brings all that depends on the slider up to date. */
function update() {
  element("threshold-value").textContent = threshold().toFixed(2);
  if (result) {
    regions.apply(result.poses, result.model.skeleton);
    [...element("list").children].forEach((entry, p) => {
      entry.hidden = result.poses[p].score < threshold();
    });
    element("json").textContent = asJson();
  }
  draw();
  if (!tasks) describeResult();
}

function asJson() {
  const { model: { skeleton }, width, height } = result;
  return JSON.stringify(toDict(shownPoses(), skeleton, width, height, regions.coverage), null, 1);
}

function describeResult() {
  const count = (number) => `${number} ${number === 1 ? "pose" : "poses"}`;
  let text = model || place.onServer ? "Ready for an image." : "Waiting for a model.";
  if (result) {
    const number = shownPoses().length;
    const below = result.poses.length - number;
    text = number || below ? `${count(number)} of score ${threshold().toFixed(2)} or more` : "Nobody found";
    text += below ? `, ${below} below.` : ".";
  }
  element("status").ariaLive = film.running ? "off" : "polite";
  element("status").textContent = text;
  if (result && current) element("image").alt = `${current.name}: ${text}`;
}

function draw() {
  const filming = !element("video").hidden;
  const surface = element(filming ? "video" : "image");
  const cssPerImg = surface.clientWidth / (filming ? surface.videoWidth : surface.naturalWidth);
  const start = performance.now();
  const poses = result ? shownPoses() : [];
  const chosen = [hovered, pinned].find((pose) => poses.includes(pose)) ?? null;
  drawPoses(element("overlay"), poses, result?.model.skeleton, cssPerImg, chosen);
  if (!result) return;
  result.milliseconds.draw ??= performance.now() - start; // the first time only: not while the slider moves
  const atServer = result.model instanceof ServerModel;
  const names = { decode: "Decoding", prepare: "Fitting", network: atServer ? "Server" : "Network", draw: "Drawing" };
  element("timings").replaceChildren(
    ...Object.entries(names).map(([key, name]) => {
      const [group, term, value] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
      term.textContent = name;
      value.textContent = `${result.milliseconds[key].toFixed(key === "draw" ? 1 : 0)} ms`;
      group.append(term, value);
      return group;
    }),
  );
}

/** Opens what was dropped, chosen or pasted: the first file; of a model, also the file beside it. */
function open([...files]) {
  const file = files.find(isModel) ?? files[0];
  if (!file) return;
  if (isModel(file)) {
    openModel(file.name, () => chosenModel(file, files));
  } else if (file.name.endsWith(".json")) {
    fail(`${file.name} says what the scores of a model mean: choose or drop it together with the model's .onnx file.`);
  } else if (file.type.startsWith("video/")) {
    openFilm(file.name, () => film.openFile(file));
  } else {
    openImage(file);
  }
}

const fail = (message) => attempt("", async () => {
  throw new UserError(message);
});

/** Poses are found in another place from now on. */
function changePlace() {
  if (!place.onServer && !model) openModel(MODEL, fetchModel, true);
  else if (current) openImage(current);
  else if (!tasks) describeResult();
}

function setThreshold(score) {
  element("threshold").value = score;
  update();
}

for (const id of ["image-file", "model-file"]) {
  element(id).addEventListener("change", (event) => {
    open(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  });
}
element("film").addEventListener("click", () => openFilm("Camera", () => film.openCamera()));
element("stop").addEventListener("click", async () => {
  const file = await film.frame();
  endFilm();
  openImage(file);
});
element("save-json").addEventListener("click", () => save(asJson(), `${stem()}.json`, "application/json"));
element("save-csv").addEventListener("click", () => {
  save(toCsv(shownPoses(), result.model.skeleton, current?.name ?? "frame", regions.coverage), `${stem()}.csv`, "text/csv");
});
const stem = () => (current?.name ?? "frame").replace(/\.[^.]*$/, "");
document.addEventListener("paste", (event) => open(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  element("stage").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) element("stage").classList.remove("over"); // left the window
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  element("stage").classList.remove("over");
  if (event.dataTransfer.files.length) open(event.dataTransfer.files);
  else fail("That was a link or text. Save the image first, then drop its file.");
});
element("threshold").value = MIN_SCORE;
element("threshold").addEventListener("input", () => {
  place.forgetPrecision();
  update();
});
element("regions-on").addEventListener("change", () => attempt("", showResultWithRegions));
element("coverage").addEventListener("input", update);
for (const surface of ["image", "video"]) new ResizeObserver(draw).observe(element(surface));
place.meet();
