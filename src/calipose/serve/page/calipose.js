// Predicts in the browser with a file that `calipose export` wrote; does what calipose/inference/predictor.py does in Python.
// Frames as in docs/frames.md: img are pixels of the upright image, inp those of the network's input, integer = centre.

const RUNTIME = new URL("node_modules/onnxruntime-web/dist/", import.meta.url).href;
const METADATA_KEY = "calipose";
const INPUT_MULTIPLE = 32; // the backbones' coarsest stride

/** An error whose message is meant for the page's reader. */
export class UserError extends Error {}

let runtime; // a promise of onnxruntime-web, loaded once

function loadRuntime() {
  runtime ??= import(`${RUNTIME}ort.wasm.min.mjs`).then(
    (ort) => {
      ort.env.wasm.wasmPaths = RUNTIME;
      ort.env.wasm.proxy = true; // in a worker: the page stays responsive
      ort.env.logLevel = "error";
      return ort;
    },
    () => {
      throw new UserError("onnxruntime-web is missing: run npm install in examples/browser, then reload the page.");
    },
  );
  return runtime;
}

/** A network with all that its file says about it. */
export class Model {
  /**
   * @param {Uint8Array} bytes the whole file; @param {string} name for messages
   * @param {object} calibration that of NAME.calipose.json, if there is one: it takes the place of the file's own
   */
  static async load(bytes, name, calibration) {
    const header = readHeader(bytes, name);
    const model = new Model();
    model.name = name;
    model.size = bytes.length; // before the bytes move to the worker
    model.skeleton = header.skeleton;
    model.settings = header.predict;
    model.padColour = header.pad_colour;
    model.calibration = calibration ?? null;
    model.regions = (calibration ?? header.calibration)?.regions ?? null;
    const maps = calibration ? "the .calipose.json file beside it" : "the maps inside the file";
    model.scoresBy = (calibration ?? header.calibration)?.score?.x?.length ? `scores by ${maps}` : "scores not calibrated";
    model.ort = await loadRuntime();
    try {
      model.session = await model.ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
    } catch (error) {
      throw new UserError(`${name} cannot be run by this browser: ${error.message ?? error}`);
    }
    return model;
  }

  /**
   * Poses in an image, best first.
   * @param {ImageBitmap} image upright
   * @returns {{poses: object[], milliseconds: object}} a pose has score, keypoints [[x, y], ...] in img pixels and, where
   *   the network gives them, raw_score and keypoint_scores
   */
  async predict(image) {
    const { short_side, scales = [1], nms_threshold } = this.settings;
    const milliseconds = { prepare: 0, network: 0 };
    const all = [];
    for (const scale of scales) all.push(...(await this.predictAt(image, Math.max(INPUT_MULTIPLE, roundHalfEven(short_side * scale)), milliseconds)));
    all.sort((a, b) => (b.raw_score ?? b.score) - (a.raw_score ?? a.score));
    // The graph has dropped duplicates within a size; those of different sizes are dropped here.
    const poses = scales.length > 1 ? poseNms(all, this.skeleton.sigmas, nms_threshold) : all;
    return { poses, milliseconds };
  }

  /** Poses that the network sees in an image at one size; adds what it took to `milliseconds`. */
  async predictAt(image, shortSide, milliseconds) {
    const start = performance.now();
    const { max_aspect, score_threshold } = this.settings;
    const input = networkInput(image, shortSide, max_aspect, this.padColour);
    const images = new this.ort.Tensor("uint8", input.data, [1, input.height, input.width, 3]);
    const prepared = performance.now();
    const outputs = await this.session.run({ images });
    const done = performance.now();

    const { keypoints, scores, valid, raw_scores, keypoint_scores, raw_keypoint_scores } = outputs;
    const joints = this.skeleton.keypoints.length;
    const poses = [];
    for (let p = 0; p < scores.data.length; p++) {
      if (!valid.data[p] || !((raw_scores ?? scores).data[p] > score_threshold)) continue;
      const pose = { score: scores.data[p], keypoints: [] };
      for (let k = 0; k < joints; k++) {
        const at = 2 * (p * joints + k);
        // inp + 0.5 = s (img + 0.5)
        pose.keypoints.push([0, 1].map((axis) => (keypoints.data[at + axis] + 0.5) / input.inpPerImg - 0.5));
      }
      if (raw_scores) pose.raw_score = raw_scores.data[p];
      const ofPose = (values) => [...values.data.slice(p * joints, (p + 1) * joints)];
      if (keypoint_scores) pose.keypoint_scores = ofPose(keypoint_scores);
      if (this.calibration && raw_scores) {
        const { score, keypoint } = this.calibration;
        pose.score = mapped(score, pose.raw_score);
        if (raw_keypoint_scores) pose.keypoint_scores = ofPose(raw_keypoint_scores).map((raw) => unit(mapped(keypoint, unit(raw))));
      }
      poses.push(pose);
    }
    milliseconds.prepare += prepared - start;
    milliseconds.network += done - prepared;
    return poses;
  }

  /** Gives the memory back; waits for a prediction under way. */
  async release() {
    await this.session.release();
  }
}

const unit = (value) => Math.min(Math.max(value, 0), 1);

/** A calibration map's score of a raw score, as `CalibrationMap` in calipose/calibration/maps.py. */
function mapped(map, raw) {
  if (!map?.x?.length) return raw; // nothing was calibrated
  const { x, y } = map;
  const last = x.length - 1;
  const least = 1e-6 / (x[last] - x[0] || 1); // the slope beyond the knots
  if (raw <= x[0]) return y[0] + least * (raw - x[0]);
  if (raw >= x[last]) return y[last] + least * (raw - x[last]);
  const next = x.findIndex((knot) => knot > raw);
  return y[next - 1] + ((y[next] - y[next - 1]) * (raw - x[next - 1])) / (x[next] - x[next - 1]);
}

/** Greedy pose NMS by OKS, as `pose_nms` in calipose/geometry.py; poses come best first. */
function poseNms(poses, sigmas, threshold) {
  const kept = [];
  for (const pose of poses) {
    if (kept.every((better) => similarity(pose.keypoints, better.keypoints, sigmas) <= threshold)) kept.push(pose);
  }
  return kept;
}

/** OKS of a pose with a better one, whose box is the area. */
function similarity(keypoints, better, sigmas) {
  const span = (axis) => {
    const values = better.map((point) => point[axis]);
    return Math.max(...values) - Math.min(...values);
  };
  const area = span(0) * span(1) + Number.EPSILON;
  const terms = keypoints.map(([x, y], k) => {
    const squared = (x - better[k][0]) ** 2 + (y - better[k][1]) ** 2;
    return Math.exp(-squared / (2 * area * (2 * sigmas[k]) ** 2));
  });
  return terms.reduce((sum, term) => sum + term, 0) / terms.length;
}

/**
 * An image fitted to the network: aspect kept, padded right and bottom to multiples of 32, as `network_input` in
 * calipose/io/images.py does, but for the rounding of a few values. (How a canvas scales differs between browsers.)
 * @returns {{data: Uint8Array, width: number, height: number, inpPerImg: number}} data is RGB, row by row
 */
export function networkInput(image, shortSide, maxAspect, padColour) {
  const sides = [image.width, image.height];
  const [short, long] = [Math.min(...sides), Math.max(...sides)];
  const inpPerImg = Math.min(shortSide / short, (maxAspect * shortSide) / long);
  const [width, height] = sides.map((side) => {
    const content = Math.max(1, roundHalfEven(side * inpPerImg));
    return Math.ceil(content / INPUT_MULTIPLE) * INPUT_MULTIPLE;
  });
  // Bilinear reading alone would skip pixels: a reduction by 2 or more first averages whole pixels.
  const factor = Math.max(1, Math.floor(1 / Math.max(inpPerImg, 1e-9) + 1e-9));
  const small = averaged(image, factor, padColour);
  const columns = taps(width, inpPerImg * factor, small.width);
  const rows = taps(height, inpPerImg * factor, small.height);
  const source = small.data;
  const stride = 3 * (small.width + 2);
  const data = new Uint8ClampedArray(3 * width * height); // rounds half to even, as OpenCV does
  for (let y = 0, out = 0; y < height; y++) {
    const [above, below] = [rows.first[y] * stride, rows.second[y] * stride];
    const down = rows.share[y];
    for (let x = 0; x < width; x++) {
      const [left, right] = [3 * columns.first[x], 3 * columns.second[x]];
      const across = columns.share[x];
      for (let c = 0; c < 3; c++) {
        const top = source[above + left + c] * (1 - across) + source[above + right + c] * across;
        const bottom = source[below + left + c] * (1 - across) + source[below + right + c] * across;
        data[out++] = top * (1 - down) + bottom * down;
      }
    }
  }
  return { data: new Uint8Array(data.buffer), width, height, inpPerImg };
}

/** For each output pixel of one axis: its two neighbours, counted from the border, which is 0, and the second's share. */
function taps(length, outPerSmall, smallLength) {
  const [first, second, share] = [new Int32Array(length), new Int32Array(length), new Float64Array(length)];
  const inside = (i) => Math.min(Math.max(i + 1, 0), smallLength + 1);
  for (let i = 0; i < length; i++) {
    const position = (i + 0.5) / outPerSmall - 0.5;
    const low = Math.floor(position);
    first[i] = inside(low);
    second[i] = inside(low + 1);
    share[i] = position - low;
  }
  return { first, second, share };
}

/**
 * Averages factor x factor pixels to one, over white where the image is transparent; the last column and row are
 * repeated to fill the last block. The result has a border of one pixel in the padding's colour.
 */
function averaged(image, factor, padColour) {
  const { width: across, height: down } = image; // read once: asking an image for its size is slow
  const [width, height] = [Math.ceil(across / factor), Math.ceil(down / factor)];
  const stride = 3 * (width + 2);
  const data = new Uint8ClampedArray(stride * (height + 2));
  for (let i = 0; i < data.length; i++) data[i] = padColour[i % 3];

  // Strip by strip: phones limit the area of a canvas to less than their camera's images have.
  const strip = Math.max(1, Math.floor(256 / factor)); // rows of the result
  const canvas = Object.assign(document.createElement("canvas"), { width: across, height: strip * factor });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  const share = Math.fround(1 / factor ** 2); // OpenCV's is a float, too
  for (let top = 0; top < height; top += strip) {
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, -top * factor);
    const lines = Math.min(strip * factor, down - top * factor);
    const pixels = context.getImageData(0, 0, across, lines).data;
    for (let y = 0; y < Math.min(strip, height - top); y++) {
      for (let x = 0; x < width; x++) {
        const at = stride * (top + y + 1) + 3 * (x + 1);
        for (let c = 0; c < 3; c++) {
          let sum = 0;
          for (let dy = 0; dy < factor; dy++) {
            const row = Math.min(y * factor + dy, lines - 1) * across;
            for (let dx = 0; dx < factor; dx++) {
              sum += pixels[4 * (row + Math.min(x * factor + dx, across - 1)) + c];
            }
          }
          // OpenCV rounds half up for blocks of four, else half to even.
          data[at + c] = factor === 2 ? (sum + 2) >> 2 : Math.fround(sum * share);
        }
      }
    }
  }
  return { data, width, height };
}

function roundHalfEven(value) {
  const low = Math.floor(value);
  return value - low === 0.5 ? low + (low % 2) : Math.round(value);
}

/** The JSON that `calipose export` wrote into the file. onnxruntime-web does not show it, so it is read from the bytes. */
export function readHeader(bytes, name) {
  let text;
  let graph = false;
  try {
    for (const [number, value] of fields(bytes)) {
      if (number === 7) graph = true; // ModelProto.graph
      if (number !== 14) continue; // ModelProto.metadata_props, entries of key (1) and value (2)
      const entry = new Map(fields(value));
      const decoder = new TextDecoder();
      if (decoder.decode(entry.get(1)) === METADATA_KEY) text = decoder.decode(entry.get(2));
    }
  } catch {
    graph = false;
  }
  if (!graph) throw new UserError(`${name} is not an ONNX file, or it is damaged.`);
  if (!text) throw new UserError(`${name} is an ONNX file, but not one that calipose export wrote.`);
  return JSON.parse(text);
}

/** The fields of a protobuf message, [number, value]; values with a length are parts of `bytes`, not copies. */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; scale < 2 ** 70; scale *= 128) {
      if (at >= bytes.length) throw new RangeError("cut off");
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    throw new RangeError("no number");
  };
  while (at < bytes.length) {
    const key = varint();
    const kind = key % 8;
    let value;
    if (kind === 0) value = varint();
    else {
      const length = { 1: () => 8, 2: varint, 5: () => 4 }[kind]?.();
      if (length === undefined || at + length > bytes.length) throw new RangeError("no message");
      value = bytes.subarray(at, at + length);
      at += length;
    }
    yield [Math.floor(key / 8), value];
  }
}
