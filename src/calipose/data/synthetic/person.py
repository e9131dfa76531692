"""One synthetic person: a body with exact joints, and how it is painted.

Bodies come from `layouts.npz` (made by `tools/make_layouts.py`): a mixture of Gaussians fitted to COCO
train2017's keypoint annotations (CC BY 4.0, COCO Consortium). All coordinates are pixels of the image,
integer = pixel centre.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calipose.data.synthetic.canvas import CIRCLE, Canvas, Cloth, Rng, hull
from calipose.geometry import Floats
from calipose.skeleton import COCO_17

NOSE, EYES, EARS, SHOULDERS, HIPS = 0, [1, 2], [3, 4], [5, 6], [11, 12]
ARMS, LEGS = ((5, 7, 9), (6, 8, 10)), ((11, 13, 15), (12, 14, 16))

# The head in units of half the distance between the ears: x to the person's left, y down, z forwards (nose,
# eyes, ears), and the half axes of the ellipsoid around it. From common anthropometry, a little enlarged.
HEAD = np.array([[0, 0.3, 1.3], [0.42, -0.2, 1.0], [-0.42, -0.2, 1.0], [1, 0, -0.1], [-1, 0, -0.1]])
HEAD_CENTRE, HEAD_AXES = np.array([0.0, -0.15, 0.1]), np.array([1.0, 1.5, 1.25])
HEAD_ENDS = HEAD_CENTRE + np.array([[0, -1.5, 0], [0, 1.5, 0]])
# A part of the face can be seen where its depth towards the viewer exceeds this: the far ear is hidden from
# about 25 degrees of turning on, the far eye from about 60.
SEEN_FROM_DEPTH = np.array([-0.1, 0.1, 0.1, -0.5, -0.5])
# Length of the trunk by the length of a bone, from body proportions; foreshortening only shortens, so that
# nearly the largest of these tells the person's true scale.
BONES = [(5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10), (11, 13), (12, 14), (13, 15), (14, 16)]
TRUNK_PER_BONE = np.array([1, 1, 1.3, 1.5, 1.5, 1.7, 1.7, 1.15, 1.15, 1.15, 1.15])


@cache
def layouts() -> dict[str, NDArray[Any]]:
    """The table of poses and positions, numbers as float64."""
    with np.load(str(files("calipose.data.synthetic") / "layouts.npz")) as file:
        table = {name: file[name].astype(np.float64) for name in file.files if name != "source"}
    rows, columns = np.tril_indices(34)
    factor = np.zeros((len(table["pose_mean"]), 34, 34))
    factor[:, rows, columns] = table["pose_factor"]
    mean = table["pose_mean"].reshape(-1, 17, 2)
    # Standing: shoulders well above hips, and these above ankles; the unit is the body's diagonal.
    shoulders, hips, ankles = (mean[:, rows, 1].mean(1) for rows in (SHOULDERS, HIPS, [15, 16]))
    upright = (hips - shoulders > 0.2) & (ankles - hips > 0.45) & (table["pose_back"] == 0)
    return table | {"pose_factor": factor, "upright": upright}


def sample_mixture(
    rng: Rng, name: str, spread: float = 1.0, allowed: NDArray[np.bool_] | None = None
) -> tuple[int, Floats]:
    """Sample one of the table's mixtures; returns the component's index and the value.

    Args:
        rng: random generator.
        name: "pose", "first" or "other".
        spread: factor of the deviations from the component's mean.
        allowed: mask of the components; all by default.
    """
    table = layouts()
    weight = table[f"{name}_weight"] if allowed is None else table[f"{name}_weight"] * allowed
    c = int(rng.choice(len(weight), p=weight / weight.sum()))
    mean = table[f"{name}_mean"][c]
    return c, mean + spread * table[f"{name}_factor"][c] @ rng.standard_normal(len(mean))


@dataclass(frozen=True)
class Body:
    """Joints, and what else determines how a body looks.

    Attributes:
        joints: `(17, 2)`, pixels.
        trunk: true (not foreshortened) length from shoulders to hips.
        head: `(3, 3)` rotation (rows: right, down, towards the viewer of the image) of the head's axes.
        head_size: half the distance between the ears.
        head_at: `(2,)`, the middle between the ears.
        back: whether the person is seen from behind, with no face; left and right of `head` are then exchanged.
        chest: whether the trunk's front is seen.
        arm_behind: for each arm, whether it is behind the trunk.
    """

    joints: Floats
    trunk: float
    head: Floats
    head_size: float
    head_at: Floats
    back: bool
    chest: bool
    arm_behind: tuple[bool, bool]

    @property
    def box(self) -> Floats:
        """Left, top, right and bottom of what is painted, roughly; `(4,)`."""
        top = self.head_on(HEAD_ENDS)
        points = np.concatenate([self.joints, top])
        pad = 0.17 * self.trunk
        return np.concatenate([points.min(0) - pad, points.max(0) + pad])

    def head_on(self, points: Floats) -> Floats:
        """Project points `(n, 3)` of the head (units of HEAD) to the image, `(n, 2)`."""
        return self.head_at + self.head_size * points @ self.head[:2].T

    @property
    def face_seen(self) -> NDArray[np.bool_]:
        """Which of nose, eyes and ears face the viewer; `(5,)`."""
        depth = HEAD @ self.head[2]
        if not self.back:
            front: NDArray[np.bool_] = depth > SEEN_FROM_DEPTH
            return front
        behind: NDArray[np.bool_] = -depth > SEEN_FROM_DEPTH
        behind[:3] = False  # from behind: ears at most, even where the head is turned to the side
        seen: NDArray[np.bool_] = behind[COCO_17.flip_index[:5]]
        return seen

    def moved(self, size: float, center: Floats) -> Body:
        """The same body scaled and moved, so that its box has the longer side `size` and the middle `center`."""
        box = self.box
        scale = size / (box[2:] - box[:2]).max()
        shift = center - scale * (box[:2] + box[2:]) / 2
        return Body(
            self.joints * scale + shift, self.trunk * scale, self.head, self.head_size * scale,
            self.head_at * scale + shift, self.back, self.chest, self.arm_behind,
        )  # fmt: skip


def sample_body(rng: Rng, upright_only: bool, lean_deg: float) -> Body:
    """Sample a body of arbitrary position and scale.

    A pose is sampled from the table, mirrored or not, its limbs made a little longer or shorter.

    Args:
        rng: random generator.
        upright_only: sample standing poses only.
        lean_deg: largest rotation.
    """
    table = layouts()
    c, values = sample_mixture(rng, "pose", 0.8, table["upright"] if upright_only else None)
    keypoints, seen, back = values.reshape(17, 2), table["pose_seen"][c], bool(table["pose_back"][c])
    if rng.random() < 0.5:
        keypoints = (keypoints * [-1, 1])[COCO_17.flip_index]
        seen = seen[COCO_17.flip_index]
    keypoints = keypoints.copy()
    for sides in (ARMS, LEGS):
        upper, lower = np.exp(rng.normal(0, 0.05, 2))
        for a, b, c in sides:
            first, second = keypoints[b] - keypoints[a], keypoints[c] - keypoints[b]
            keypoints[b] = keypoints[a] + upper * first
            keypoints[c] = keypoints[b] + lower * second
    angle = np.deg2rad(lean_deg) * float(np.clip(rng.normal(0, 0.5), -1, 1))
    keypoints = keypoints @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])

    lengths = (
        np.linalg.norm(keypoints[[a for a, _ in BONES]] - keypoints[[b for _, b in BONES]], axis=1) * TRUNK_PER_BONE
    )
    trunk = float(np.sort(lengths)[-2])
    # The head: the rotation and scale under which HEAD comes nearest to the five joints (weak perspective).
    # From behind it is fitted with left and right exchanged, which is the same image of a head turned away.
    order = COCO_17.flip_index[:5] if back else np.arange(5)
    face = keypoints[order]
    middle = HEAD.mean(0)
    u, stretch, vt = np.linalg.svd((face - face.mean(0)).T @ np.linalg.pinv(HEAD - middle).T, full_matrices=False)
    right_down = u @ vt
    head = np.vstack([right_down, np.cross(right_down[0], right_down[1])])
    head_size = float(np.clip(stretch.mean(), 0.15 * trunk, 0.2 * trunk))
    head_at = face.mean(0) - head_size * right_down @ middle
    keypoints[order] = head_at + head_size * HEAD @ right_down.T

    spine, across = keypoints[HIPS].mean(0) - keypoints[SHOULDERS].mean(0), keypoints[5] - keypoints[6]
    chest = bool(across[0] * spine[1] - across[1] * spine[0] > 0)
    arm_behind = (bool(seen[[7, 9]].mean() < 0.6), bool(seen[[8, 10]].mean() < 0.6))
    return Body(keypoints, trunk, head, head_size, head_at, back, chest, arm_behind)


@dataclass(frozen=True)
class Look:
    """What a person wears: cloths, and how far sleeve and leg reach down the limb (in bones, 0 to 2)."""

    skin: Cloth
    hair: Cloth
    shirt: Cloth
    trousers: Cloth
    shoes: Cloth
    sleeve: float
    leg: float
    long_hair: bool
    outlined: bool


def sample_look(rng: Rng, colours: Floats, patterned: float) -> Look:
    """Sample a look whose clothes are close to some of `colours` `(n, 3)`."""
    dark = rng.random()
    skin = (1 - dark) * np.array([250, 215, 185]) + dark * np.array([85, 55, 40])
    hair = rng.uniform(10, 70) * np.ones(3) if rng.random() < 0.6 else rng.uniform([90, 60, 20], [230, 190, 120])
    shirt, trousers, shoes = colours[rng.integers(len(colours), size=3)]
    return Look(
        skin=Cloth(np.clip(skin + rng.normal(0, 6, 3), 0, 255), skin),
        hair=Cloth(hair, hair),
        shirt=Cloth.sample(rng, shirt, patterned),
        trousers=Cloth.sample(rng, trousers, 0.4 * patterned),
        shoes=Cloth.sample(rng, shoes, 0),
        sleeve=float(rng.choice([0.0, 0.6, 0.7, 2.0, 2.0])),
        leg=float(rng.choice([0.6, 1.0, 2.0, 2.0, 2.0])),
        long_hair=bool(rng.random() < 0.35),
        outlined=bool(rng.random() < 0.3),
    )


def paint_person(canvas: Canvas, body: Body, look: Look) -> None:
    """Paint a person; the canvas's `painter` says which one."""
    t, keypoints = body.trunk, body.joints
    shoulders, hips = keypoints[SHOULDERS].mean(0), keypoints[HIPS].mean(0)

    def bone(a: Floats, b: Floats, ra: float, rb: float, cloth: Cloth) -> None:
        axis = (b - a) / max(float(np.linalg.norm(b - a)), 1e-6)
        outline = hull((a, ra * t), (b, rb * t))
        canvas.fill(outline, cloth, (a, axis, t, max(ra, rb) * t))
        if look.outlined:
            canvas.trace(outline)

    def limb(chain: tuple[int, int, int], radii: tuple[float, float, float], cloth: Cloth, reach: float) -> None:
        """Skin, and cloth over the first `reach` bones."""
        for i in range(2):
            a, b = keypoints[chain[i]], keypoints[chain[i + 1]]
            share = float(np.clip(reach - i, 0, 1))
            if share < 1:
                bone(a, b, radii[i], radii[i + 1], look.skin)
            if share > 0:
                end = radii[i] + share * (radii[i + 1] - radii[i])
                bone(a, a + share * (b - a), radii[i] + 0.012, end + 0.012, cloth)

    def arm(side: int) -> None:
        elbow, wrist = keypoints[list(ARMS[side][1:])]
        forwards = (wrist - elbow) / max(float(np.linalg.norm(wrist - elbow)), 0.2 * t)
        bone(wrist, wrist + 0.13 * t * forwards, 0.065, 0.075, look.skin)
        limb(ARMS[side], (0.115, 0.085, 0.06), look.shirt, look.sleeve)

    def leg(side: int) -> None:
        knee, ankle = keypoints[list(LEGS[side][1:])]
        down = (ankle - knee) / max(float(np.linalg.norm(ankle - knee)), 0.2 * t)
        # A foot points where the face does, and along the shin where that is towards the viewer.
        bone(ankle, ankle + t * (0.12 * down + 0.22 * body.head[:2, 2]), 0.08, 0.07, look.shoes)
        limb(LEGS[side], (0.17, 0.115, 0.075), look.trousers, look.leg)

    for side in (0, 1):
        if body.arm_behind[side]:
            arm(side)
    if look.long_hair and not body.back:
        paint_long_hair(canvas, body, look)
    for side in (0, 1):
        leg(side)
    bone(shoulders, body.head_on(HEAD_CENTRE[None])[0], 0.11, 0.09, look.skin)
    trunk = hull(*((p, 0.13 * t) for p in keypoints[SHOULDERS]), *((p, 0.16 * t) for p in keypoints[HIPS]))
    spine = (hips - shoulders) / max(float(np.linalg.norm(hips - shoulders)), 1e-6)
    half = 0.13 * t + float(np.linalg.norm(keypoints[5] - keypoints[6])) / 2
    canvas.fill(trunk, look.shirt, (shoulders, spine, t, half))
    if look.outlined:
        canvas.trace(trunk)
    bone(keypoints[11], keypoints[12], 0.165, 0.165, look.trousers)
    if body.chest:  # a neckline and a row of buttons; a back has only its shirt
        neck = shoulders - 0.1 * t * spine
        canvas.fill(hull((neck, 0.11 * t), (shoulders + 0.1 * t * spine, 0.03 * t)), look.skin)
        for along in (0.3, 0.45, 0.6, 0.75):
            canvas.fill(hull((shoulders + along * (hips - shoulders), 0.022 * t)), look.shoes)
    paint_head(canvas, body, look)
    if look.long_hair and body.back:
        paint_long_hair(canvas, body, look)
    for side in (0, 1):
        if not body.arm_behind[side]:
            arm(side)


def paint_long_hair(canvas: Canvas, body: Body, look: Look) -> None:
    """Paint hair down to the shoulders, at the back of the head."""
    top, end = body.head_on(np.array([[0, -0.3, -0.3], [0, 1.7, -0.5]]))
    canvas.fill(hull((top, body.head_size), (end, 0.9 * body.head_size)), look.hair)


def paint_head(canvas: Canvas, body: Body, look: Look) -> None:
    """Paint an ellipsoid with hair on top and behind, ears, and a face where it is towards the viewer.

    Each pixel's ray meets the ellipsoid in a point. The point's position in the head's own axes says whether it is hair
    or skin.
    """
    size, seen = body.head_size, body.face_seen
    half_axes = size * body.head[:2] * HEAD_AXES  # (2, 3): unit sphere -> image
    lower = np.linalg.cholesky(half_axes @ half_axes.T)
    centre = body.head_on(HEAD_CENTRE[None])[0]
    outline = centre + CIRCLE @ lower.T
    for ear in np.flatnonzero(seen[3:]) + 3:
        canvas.fill(hull((body.joints[ear], 0.28 * size)), look.skin)
    window = canvas.window(outline)
    if window is not None:
        rows, columns = window
        y, x = np.mgrid[rows, columns]
        disc = np.linalg.inv(lower)
        plane = disc @ half_axes  # (2, 3) with orthonormal rows
        depth = np.cross(plane[0], plane[1]) * (-1 if body.back else 1)
        a = disc[0, 0] * (x - centre[0])
        b = disc[1, 0] * (x - centre[0]) + disc[1, 1] * (y - centre[1])
        c = np.sqrt(np.maximum(1 - a * a - b * b, 0))
        up, forwards = (a * plane[0, i] + b * plane[1, i] + c * depth[i] for i in (1, 2))
        hair = (up < -0.5 - 0.2 * forwards) | ((forwards < -0.15) & (up < 0.6))
        colour = np.where(hair[..., None], look.hair.colour, look.skin.colour) * (0.75 + 0.25 * c)[..., None]
        canvas.blend(window, outline, colour.astype(np.float32))
    if look.outlined:
        canvas.trace(outline)
    if body.back:
        return
    dark, white = Cloth(np.full(3, 25.0), np.zeros(3)), Cloth(np.full(3, 240.0), np.zeros(3))
    lips = Cloth(look.skin.colour * [0.75, 0.45, 0.45], np.zeros(3))
    for eye in np.flatnonzero(seen[1:3]) + 1:
        canvas.fill(hull((body.joints[eye], 0.2 * size)), white)
        canvas.fill(hull((body.joints[eye], 0.13 * size)), dark)
    if seen[NOSE]:
        bridge = body.head_on(np.array([[0, -0.1, 1.1]]))[0]
        nose = Cloth(look.skin.colour * 0.8, np.zeros(3))
        canvas.fill(hull((bridge, 0.08 * size), (body.joints[NOSE], 0.16 * size)), nose)
        corners = body.head_on(np.array([[-0.3, 0.75, 0.95], [0.3, 0.75, 0.95]]))
        canvas.fill(hull((corners[0], 0.08 * size), (corners[1], 0.08 * size)), lips)
