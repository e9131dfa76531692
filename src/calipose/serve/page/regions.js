// Where keypoints may be: circles, as calipose/calibration/regions.py computes them from a model's calibration.

import { askRegions } from "./server.js";

const LEAST_COVERAGE = 50; // percent
const CLIP = 0.02; // keypoint scores nearer to 0 and 1 count as this near
const NARROW = 0.1; // a box counts as having at least this part of its longer side's square
const AREA_PER_BOX = 0.53; // a person's area, of the box around the keypoints

/**
 * Radii of a pose's keypoints in pixels, null where nothing is known.
 * @param {object} pose as `Model.predict` gives it; @param {object} regions a `RegionMap` as JSON
 * @param {number} percent the coverage
 */
export function radiiOf(pose, regions, sigmas, percent) {
  const size = personSize(pose.keypoints);
  return sigmas.map((sigma, k) => {
    if (!regions.labelled[k]) return null;
    const score = pose.keypoint_scores?.[k] ?? 1;
    const clipped = Math.min(Math.max(score, CLIP), 1 - CLIP);
    const unit = 2 * sigma * regions.kind_factors[k] * size * (regions.by_score ? Math.sqrt(-2 * Math.log(clipped)) : 1);
    return unit * factor(regions.group, percent, score, size);
  });
}

/** The quantile of the keypoint's part; where the images of a part are too few for the coverage, the whole group counts. */
function factor(group, percent, score, size) {
  const index = percent - LEAST_COVERAGE;
  if (!group.parts.length || group.parts.some((part) => part.quantiles.length <= index)) return group.quantiles[index];
  const value = group.split === "score" ? score : size;
  return factor(group.parts[group.edges.filter((edge) => edge <= value).length], percent, score, size);
}

/** The root of a person's area in pixels, guessed from the box around the keypoints. */
function personSize(keypoints) {
  const [width, height] = [0, 1].map((axis) => {
    const values = keypoints.map((point) => point[axis]);
    return Math.max(...values) - Math.min(...values);
  });
  return Math.max(Math.sqrt(AREA_PER_BOX * Math.max(width * height, NARROW * Math.max(width, height) ** 2)), 1);
}

const element = (id) => document.getElementById(id);

/** The check box, the slider, and what the calibration of the model at work knows. */
export class Regions {
  /** @param {Place} place */
  constructor(place) {
    Object.assign(this, { place, known: new Map(), current: null });
  }

  /** What the circles hold, such as 0.9; null where none are shown. */
  get coverage() {
    return this.current ? Number(element("coverage").value) / 100 : null;
  }

  /** Brings the controls and `current` up to date with the check box and the model that found the poses. */
  async prepare(model) {
    const { onServer } = this.place;
    const source = onServer ? "server" : model.regions?.group ? model : null;
    const on = element("regions-on").checked;
    this.current = (on && this.known.get(source)) || null;
    if (on && source && !this.known.has(source)) {
      const regions = source === model ? model.regions : await askRegions(element("token").value);
      this.known.set(source, regions.group ? regions : null);
      return this.prepare(model);
    }
    element("coverage-row").hidden = !this.current;
    const missing = onServer ? "The calibration of the server's model has no regions." : "The calibration of this model has no regions.";
    element("regions-note").textContent = on && !this.current ? `${missing} calipose calibrate fits them.` : "";
    if (this.current) element("coverage").max = LEAST_COVERAGE - 1 + this.current.group.quantiles.length;
  }

  /** Gives the poses their radii, or takes them. */
  apply(poses, skeleton) {
    const percent = Number(element("coverage").value);
    element("coverage-value").textContent = `${percent} % of cases`;
    for (const pose of poses) {
      if (this.current) pose.radii = radiiOf(pose, this.current, skeleton.sigmas, percent);
      else delete pose.radii;
    }
  }
}
