"""The second look in the package: MoveNet Thunder with its decoding inside, as one ONNX file of `Refiner`'s form.

Takes the graph of the network's four maps (docs/second-look.md says where it comes from), frees its batch, and adds what
MoveNet does with the maps. One thing differs from MoveNet: the person looked for is the one nearest to the first pose,
not the one nearest to the middle of the crop.

    python tools/make_refiner.py MAPS.onnx --out src/calipose/weights/thunder.onnx [--size 256]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper, parser

from calipose.inference.backends.onnx import METADATA_KEY
from calipose.skeleton import COCO_17

# Crops of uint8 RGB -> what the network wants.
PREPARE = """
<ir_version: 9, opset_import: ["" : 18]>
prepare (uint8[b, h, w, 3] crops, float[b, 17, 2] keypoints) => (float[b, 3, h, w] pixels, float[b, 17, 2] first)
<float[1] scale = {127.5}, float[1] unit = {1.0}>
{
    values = Cast<to = 1>(crops)
    scaled = Div(values, scale)
    centred = Sub(scaled, unit)
    pixels = Transpose<perm = [0, 3, 1, 2]>(centred)
    first = Identity(keypoints)
}
"""

# The maps -> keypoints in pixels of the crop (integer = pixel centre) and the heat maps' values there. MoveNet's numbers
# are (y, x), in cells of 4 pixels, from a cell's corner; both ArgMax divide by the distance in cells + 1.8.
DECODE = """
<ir_version: 9, opset_import: ["" : 18]>
decode (float[b, 1, oh, ow] center, float[b, 34, oh, ow] regress, float[b, 17, oh, ow] heat,
        float[b, 34, oh, ow] offset, float[b, 17, 2] before)
    => (float[b, 17, 2] refined, float[b, 17] confidences)
<float[1] stride = {4.0}, float[1] corner = {0.5}, float[1] first_cell = {1.5}, float[1] softness = {1.8}, int64[1] xy = {-1}, int64[1] zero = {0},
 int64[1] one = {1}, int64[1] two = {2}, int64[1] three = {3}, int64 none = {0}, int64 step = {1},
 int64[3] flat = {0, 0, -1}, int64[4] pairs = {0, 17, 2, -1}, int64[4] twice = {1, 1, 2, 1},
 int64[3] point = {0, 17, 2}, int64[3] every = {0, 34, 1}, int64[2] row = {0, 17}>
{
    columns = Shape<start = 3>(center)
    shape = Shape<start = 2>(center)
    number = ReduceProd<keepdims = 0>(shape)
    index = Range(none, number, step)
    column = Mod(index, columns)
    line = Div(index, columns)
    column_f = Cast<to = 1>(column)
    line_f = Cast<to = 1>(line)
    column_r = Unsqueeze(column_f, zero)
    line_r = Unsqueeze(line_f, zero)
    cells = Concat<axis = 0>(line_r, column_r)

    mean = ReduceMean<keepdims = 1>(before, one)
    mean_shifted = Sub(mean, first_cell)
    middle = Div(mean_shifted, stride)
    middle_x = Slice(middle, zero, one, two)
    middle_y = Slice(middle, one, two, two)
    middle_yx = Concat<axis = 1>(middle_y, middle_x)
    to_middle = Sub(cells, middle_yx)
    to_middle_2 = Mul(to_middle, to_middle)
    from_middle_2 = ReduceSum<keepdims = 1>(to_middle_2, one)
    from_middle = Sqrt(from_middle_2)
    middle_weight = Add(from_middle, softness)
    center_flat = Reshape(center, flat)
    center_score = Div(center_flat, middle_weight)
    place = ArgMax<axis = 2, keepdims = 1>(center_score)

    regress_flat = Reshape(regress, flat)
    batch = Shape<start = 0, end = 1>(center)
    every_tail = Slice(every, one, three)
    every_shape = Concat<axis = 0>(batch, every_tail)
    place_every = Expand(place, every_shape)
    moves = GatherElements<axis = 2>(regress_flat, place_every)
    moves_yx = Reshape(moves, point)
    place_line = Div(place, columns)
    place_column = Mod(place, columns)
    place_cell = Concat<axis = 2>(place_line, place_column)
    place_cell_f = Cast<to = 1>(place_cell)
    rough = Add(moves_yx, place_cell_f)

    rough_pair = Unsqueeze(rough, xy)
    to_rough = Sub(cells, rough_pair)
    to_rough_2 = Mul(to_rough, to_rough)
    from_rough_2 = ReduceSum<keepdims = 0>(to_rough_2, two)
    from_rough = Sqrt(from_rough_2)
    rough_weight = Add(from_rough, softness)
    heat_flat = Reshape(heat, flat)
    heat_score = Div(heat_flat, rough_weight)
    best = ArgMax<axis = 2, keepdims = 1>(heat_score)
    confidence = GatherElements<axis = 2>(heat_flat, best)
    confidences = Reshape(confidence, row)

    offset_pairs = Reshape(offset, pairs)
    best_pair = Unsqueeze(best, two)
    best_twice = Expand(best_pair, twice)
    within = GatherElements<axis = 3>(offset_pairs, best_twice)
    within_yx = Reshape(within, point)
    best_line = Div(best, columns)
    best_column = Mod(best, columns)
    best_cell = Concat<axis = 2>(best_line, best_column)
    best_cell_f = Cast<to = 1>(best_cell)
    exact = Add(best_cell_f, within_yx)
    exact_y = Slice(exact, zero, one, two)
    exact_x = Slice(exact, one, two, two)
    exact_xy = Concat<axis = 2>(exact_x, exact_y)
    from_corner = Mul(exact_xy, stride)
    refined = Sub(from_corner, corner)
}
"""


def free_batch(model: onnx.ModelProto) -> None:
    """Batch of any size, where the stored graph says 1; all its operators keep the batch."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "b"
        for dim, name in zip(value.type.tensor_type.shape.dim[2:], ("oh", "ow"), strict=True):
            dim.dim_param = name if value.name != model.graph.input[0].name else name[1:]
    del model.graph.value_info[:]


def shorten_names(model: onnx.ModelProto) -> None:
    """Plain numbers for the names of tensors and nodes inside the graph."""
    outside = {value.name for value in (*model.graph.input, *model.graph.output)} | {""}
    short: dict[str, str] = {}
    for node in model.graph.node:
        node.name = ""
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name not in outside:
                    names[i] = short.setdefault(name, f"t{len(short)}")
    for tensor in model.graph.initializer:
        tensor.name = short.get(tensor.name, tensor.name)


def main() -> None:
    """Write the file."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("maps", type=Path)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--size", type=int, default=256)
    options = arguments.parse_args()
    maps = onnx.load(options.maps)
    free_batch(maps)
    shorten_names(maps)
    prepare, decode = parser.parse_model(PREPARE), parser.parse_model(DECODE)
    model = compose.merge_models(prepare, maps, [("pixels", maps.graph.input[0].name)], outputs=["first", *(o.name for o in maps.graph.output)])
    names = {"center_0": "center", "kpt_regress_0": "regress", "kpt_heatmap_0": "heat", "kpt_offset_0": "offset", "first": "before"}
    model = compose.merge_models(model, decode, list(names.items()))
    model.graph.name, model.producer_name = options.maps.stem.removesuffix("_maps"), "calipose"
    header = {
        "skeleton": COCO_17.to_dict(),
        "size": options.size,
        "notes": {"network": "MoveNet single-pose, Google, Apache-2.0"},
    }
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(header)
    onnx.checker.check_model(model)
    onnx.save(model, options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
