// Poses as files: JSON as `Poses.to_dict` gives it, CSV as calipose/formats/csv.py writes it.

const IMAGE_COLUMNS = ["file", "frame", "seconds", "drawing"]; // the last three are a video's, and empty here
const BOX = ["left", "top", "right", "bottom"];
const REGION_COLUMNS = ["radius", "coverage"]; // where poses have radii
const COLUMNS = ["pose", "keypoint", "x", "y", "keypoint_score", "score", "raw_score", "p_oks50", "p_oks75", "track_id", "filled", ...BOX];

/** The same plain object as `Poses.to_dict()` in Python. */
export function toDict(poses, skeleton, width, height, coverage = null) {
  const entry = ({ score, keypoints, keypoint_scores, radii, ...more }) => {
    const named = {};
    skeleton.keypoints.forEach((name, k) => {
      const [x, y] = keypoints[k];
      named[name] = keypoint_scores ? { x, y, score: keypoint_scores[k] } : { x, y };
      if (radii && radii[k] !== null) named[name].radius = radii[k];
    });
    return { score, ...more, keypoints: named };
  };
  return { image_size: [width, height], skeleton: skeleton.name, ...(coverage === null ? {} : { coverage }), poses: poses.map(entry) };
}

/** One row a keypoint, as `--save csv` writes it: pixels rounded to hundredths, scores to four digits. */
export function toCsv(poses, skeleton, file, coverage = null) {
  const rows = [[...IMAGE_COLUMNS, ...COLUMNS, ...(coverage === null ? [] : REGION_COLUMNS)]];
  poses.forEach((pose, p) => {
    const box = [Math.min, Math.max].flatMap((of) => [0, 1].map((axis) => of(...pose.keypoints.map((point) => point[axis]))));
    const scores = [pose.score, pose.raw_score, pose.p_oks50, pose.p_oks75].map((value) => rounded(value, 4));
    skeleton.keypoints.forEach((name, k) => {
      const [x, y] = pose.keypoints[k].map((value) => rounded(value, 2));
      const region = coverage === null ? [] : [rounded(pose.radii[k], 2), coverage];
      rows.push([file, "", "", "", p, name, x, y, rounded(pose.keypoint_scores?.[k], 4), ...scores, "", "", ...box.map((value) => rounded(value, 2)), ...region]);
    });
  });
  return rows.map((row) => `${row.map(cell).join(",")}\n`).join("");
}

function rounded(value, digits) {
  if (value === undefined || value === null) return "";
  const text = String(Number(value.toFixed(digits)));
  return text.includes(".") ? text : `${text}.0`; // a float, as Python writes it
}

function cell(value) {
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Offers a text as a file to save. */
export function save(text, name, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
