// Draws poses as calipose/draw/people.py does: left side warm, right side cool, middle neutral, a dark edge around all lines.

const LEFT = "rgb(255 142 38)";
const RIGHT = "rgb(48 160 255)";
const MIDDLE = "rgb(226 226 214)";
const CASING = "rgb(22 22 26)"; // keeps lines apart from an image of their colour
const OUTLINE = "white";
const PAPER = "rgb(30 30 34)"; // behind a score
const INK = "rgb(245 245 245)";
const REGION_TINT = 0.22; // opacity of the inside of a keypoint's circle
const FADED = 0.22; // opacity of the others while one pose is chosen

/**
 * Draws onto a canvas that lies over the shown image.
 * @param {object[]} poses best first, as `Model.predict` gives them; the best is drawn last, so it lies on top
 * @param {number} cssPerImg size of an image's pixel on the page
 * @param {object | null} chosen one of the poses, or null
 */
export function drawPoses(canvas, poses, skeleton, cssPerImg, chosen) {
  const context = canvas.getContext("2d");
  const density = window.devicePixelRatio;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  Object.assign(canvas, { width: Math.round(width * density), height: Math.round(height * density) });
  context.setTransform(density, 0, 0, density, 0, 0);
  context.lineCap = "round";
  if (!poses.length) return;

  const sides = sideColours(skeleton);
  const people = poses.map((pose) => {
    const points = pose.keypoints.map(([x, y]) => [(x + 0.5) * cssPerImg, (y + 0.5) * cssPerImg]);
    const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
    const box = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
    const extent = Math.hypot(box[2] - box[0], box[3] - box[1]);
    return { pose, points, box, extent, line: lineWidth(extent, Math.sqrt(width * height)) };
  });
  drawRegions(context, people.filter(({ pose }) => pose.radii && (!chosen || pose === chosen)), cssPerImg, sides);
  const inOrder = people.toReversed();
  if (chosen) inOrder.sort((a, b) => (a.pose === chosen) - (b.pose === chosen));
  for (const person of inOrder) {
    context.globalAlpha = !chosen || person.pose === chosen ? 1 : FADED;
    drawPerson(context, person, skeleton, sides);
  }
  context.globalAlpha = 1;
  const placed = [];
  const labelled = chosen ? people.filter((person) => person.pose === chosen) : people;
  for (const person of labelled) drawScore(context, person, width, height, placed);
}

/** Pixels: 1/75 of the person, but never hair-thin nor thicker than the image bears. */
function lineWidth(extent, side) {
  return Math.min(Math.max(extent / 75, 1.2, side / 550), Math.max(2, side / 80));
}

/** A colour a joint. Of a flip pair, the name says which is left; where it does not, the first is. */
function sideColours(skeleton) {
  const colours = skeleton.keypoints.map(() => MIDDLE);
  for (let [first, second] of skeleton.flip_pairs) {
    const [a, b] = [first, second].map((k) => skeleton.keypoints[k].toLowerCase());
    if (a.includes("right") || b.includes("left")) [first, second] = [second, first];
    colours[first] = LEFT;
    colours[second] = RIGHT;
  }
  return colours;
}

/** Circles of the keypoints' regions: tinted inside, which does not add up within a colour, and a fine edge. */
function drawRegions(context, people, cssPerImg, sides) {
  for (const colour of new Set(sides)) {
    const path = new Path2D();
    for (const { pose, points } of people) {
      pose.radii.forEach((radius, k) => {
        if (radius === null || sides[k] !== colour) return;
        path.moveTo(points[k][0] + radius * cssPerImg, points[k][1]);
        path.arc(...points[k], radius * cssPerImg, 0, 2 * Math.PI);
      });
    }
    context.globalAlpha = REGION_TINT;
    context.fillStyle = context.strokeStyle = colour;
    context.fill(path);
    context.globalAlpha = 1;
    context.lineWidth = 1;
    context.stroke(path);
  }
}

function drawPerson(context, { points, line }, skeleton, sides) {
  const stroke = ([a, b], colour, width) => {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(...points[a]);
    context.lineTo(...points[b]);
    context.stroke();
  };
  const disc = (point, radius, colour) => {
    context.fillStyle = colour;
    context.beginPath();
    context.arc(...point, radius, 0, 2 * Math.PI);
    context.fill();
  };
  for (const limb of skeleton.limbs) stroke(limb, CASING, line + Math.max(1.5, 0.5 * line));
  for (const limb of skeleton.limbs) {
    // A limb from side to side is of the middle; one from the middle to a side is of that side.
    const found = new Set(limb.map((k) => sides[k]).filter((colour) => colour !== MIDDLE));
    stroke(limb, found.size === 1 ? [...found][0] : MIDDLE, line);
  }
  const radius = 0.85 * line + 0.6;
  points.forEach((point, k) => {
    if (line >= 1.5) disc(point, radius + Math.max(0.7, 0.25 * line), OUTLINE);
    disc(point, radius, sides[k]);
  });
}

/** The score in a dark box above the person, moved into the image and off other scores; none where all is taken. */
function drawScore(context, { pose, box, extent, line }, width, height, placed) {
  const [x0, y0, x1, y1] = box;
  if (x1 < 0 || y1 < 0 || x0 > width || y0 > height) return; // nobody to be seen
  const size = Math.min(Math.max(6 * line, 11), Math.max(11, Math.sqrt(width * height) / 45)); // of the font
  const text = pose.score.toFixed(2);
  context.font = `600 ${size}px system-ui, sans-serif`;
  const [boxWidth, boxHeight] = [context.measureText(text).width + 0.7 * size, 1.35 * size];
  const within = (value, most) => Math.min(Math.max(value, 0), Math.max(most, 0));
  const above = y0 - 2 * line - 0.06 * extent - boxHeight; // hair is above eyes
  const places = [[0, 0]];
  for (const step of [1, 2, 3]) places.push([0, -step], [step, 0], [-step, 0], [0, step]);
  for (const [dx, dy] of places) {
    const left = within((x0 + x1 - boxWidth) / 2 + 0.6 * dx * boxWidth, width - boxWidth);
    const top = within(above + 1.05 * dy * boxHeight, height - boxHeight);
    const [right, bottom] = [left + boxWidth, top + boxHeight];
    if (placed.some(([l, t, r, b]) => left < r && right > l && top < b && bottom > t)) continue;
    placed.push([left, top, right, bottom]);
    context.fillStyle = PAPER;
    context.beginPath();
    context.roundRect(left, top, boxWidth, boxHeight, size / 4);
    context.fill();
    context.fillStyle = INK;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(text, (left + right) / 2, (top + bottom) / 2 + 0.04 * size);
    return;
  }
}
