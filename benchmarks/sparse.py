"""The sparse form beside the dense one: the same poses? in what time?

    python benchmarks/sparse.py CHECKPOINT --data ANNOTATIONS.json=IMAGES [--crowds 40] [--cells 256 512]

The checkpoint's head has a presence map. For the labelled images, and for hard synthetic crowds: how many of the dense
form's peaks of score 0.05 or more are among the M cells of highest presence, how many images have the same poses after
pose NMS, and the largest difference of those. Then the time of head and network in both forms, in turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import torch

from calipose.data.locate import read_data
from calipose.data.synthetic.scene import HARD, synthesize_scene
from calipose.geometry import pose_nms
from calipose.io.images import Image, network_input, read_image
from calipose.model.checkpoint import load_checkpoint
from calipose.model.decode import find_candidates, find_peaks, presence_cells, score_map
from calipose.model.network import Network
from calipose.skeleton import COCO_17
from head_cost import interleaved, machine

LEAST = 0.05  # of the scores that count


def crowds(number: int) -> Iterator[Image]:
    """Synthetic scenes of many people who hide each other."""
    settings = replace(HARD, people=(8, 16), as_in_photographs=False)
    for seed in range(number):
        yield synthesize_scene(np.random.default_rng(seed), (640, 480), settings).image


@torch.no_grad()
def compare(network: Network, inputs: list[torch.Tensor], cells: int) -> None:
    """Print how the two forms' poses compare on network inputs (1, h, w, 3)."""
    network.head.method = msgspec.structs.replace(network.head.method, sparse_cells=cells)
    peaks = among = same = 0
    gaps = [0.0]
    for images in inputs:
        maps = network.encode(images)
        places, values = find_peaks(score_map(network, maps), 30)
        assert maps.presence is not None
        chosen = {tuple(cell) for cell in presence_cells(maps.presence, cells)[0][0].tolist()}
        shown = [
            tuple(place) for place, value in zip(places[0].tolist(), values[0].tolist(), strict=True) if value >= LEAST
        ]
        peaks += len(shown)
        among += sum(place in chosen for place in shown)
        kept = []
        for form in (False, True):
            found = find_candidates(network, images, 30, sparse=form)
            keypoints, scores = found.keypoints_inp[0].double().numpy(), found.scores[0].double().numpy()
            real = scores >= LEAST
            keep = pose_nms(keypoints[real], scores[real], COCO_17.sigmas_array, 0.3)
            kept.append(keypoints[real][keep])
        if len(kept[0]) == len(kept[1]) and np.allclose(kept[0], kept[1], atol=0.05):
            same += 1
            gaps.append(float(np.abs(kept[0] - kept[1]).max(initial=0)))
    print(
        f"M {cells}: {among} of {peaks} peaks among the cells; the same poses in {same} of {len(inputs)} images "
        f"(largest difference {max(gaps):.1e} px)"
    )


def main() -> None:
    """Compare poses and times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--data")
    parser.add_argument("--crowds", type=int, default=40)
    parser.add_argument("--cells", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    checkpoint = load_checkpoint(options.checkpoint)
    network = checkpoint.network().eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    predict = checkpoint.recipe.predict
    colour = [round(float(m)) for m in network.mean.flatten()]

    def prepared(image: Image) -> torch.Tensor:
        return torch.from_numpy(network_input(image, predict.short_side, colour)[0]).unsqueeze(0)

    sets = {"synthetic crowds": [prepared(image) for image in crowds(options.crowds)]}
    if options.data:
        data = read_data([options.data])
        files = [Path(data.image_path(i)) for i in range(len(data))]
        sets[f"{options.data.partition('=')[0]}"] = [
            prepared(read_image(file, ignore_orientation=True)) for file in files
        ]
    for name, inputs in sets.items():
        print(f"{name}, {len(inputs)} images:")
        for cells in options.cells:
            compare(network, inputs, cells)
    print(machine())
    images = torch.randint(0, 256, (1, 448, 608, 3), dtype=torch.uint8)
    with torch.no_grad():
        normalised = (images.permute(0, 3, 1, 2).float() - network.mean) / network.std
        times = interleaved(
            {
                "backbone": lambda: network.backbone(normalised),
                "dense": lambda: find_candidates(network, images, 30, sparse=False),
                "sparse": lambda: find_candidates(network, images, 30, sparse=True),
            },
            options.repeats,
        )
    base = float(np.median(times["backbone"]))
    for name, values in times.items():
        low, middle, high = np.percentile(values, [25, 50, 75]) * 1e3
        print(f"{name:<9} {middle:6.0f} ms ({low:.0f} to {high:.0f})  x {middle / base / 1e3:.3f}")


if __name__ == "__main__":
    start = time.monotonic()
    main()
    print(f"{time.monotonic() - start:.0f} s")
