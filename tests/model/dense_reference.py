"""The paper's literal, dense form of both query encodings, slow and plain, on the parameters of a `Head`."""

import torch
import torch.nn.functional as F
from torch import Tensor

from calipose.model.head import Head


def bilinear(maps: Tensor, positions: Tensor) -> Tensor:
    """(b, c, h, w) read at (b, l, 2): (b, l, c), four corners by hand."""
    _, c, h, w = maps.shape
    x = positions[..., 0].clamp(0, w - 1)
    y = positions[..., 1].clamp(0, h - 1)
    x0, y0 = x.detach().floor().clamp(max=max(w - 2, 0)), y.detach().floor().clamp(max=max(h - 2, 0))
    rows = maps.flatten(2).transpose(1, 2)

    def corner(dx: int, dy: int) -> Tensor:
        index = ((y0 + dy).clamp(max=h - 1) * w + (x0 + dx).clamp(max=w - 1)).long()
        weight = (x - x0 if dx else 1 - (x - x0)) * (y - y0 if dy else 1 - (y - y0))
        return rows.gather(1, index.unsqueeze(-1).expand(-1, -1, c)) * weight.unsqueeze(-1)

    return corner(0, 0) + corner(1, 0) + corner(0, 1) + corner(1, 1)


def dense_head(head: Head, branches: list[Tensor]) -> dict[str, Tensor]:
    """Score (b, h, w), quality, D_ck (b, k, h w, 2) and the joints' scores (b, k, h w) for every cell."""
    method, k, width = head.method, head.keypoints, head.method.keypoint_width
    size = branches[0].shape[-2:]
    general = torch.cat(
        [branches[0]] + [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in branches[1:]], 1
    )
    r_k = F.relu(head.keypoint_norm(head.keypoint_features(general)))
    r_i = F.relu(head.instance_norm(head.instance_features(general)))
    b, _, h, w = r_i.shape
    ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    center = torch.stack([xs, ys], -1).reshape(1, -1, 2).to(r_i.dtype).expand(b, -1, -1)

    def layer(conv: torch.nn.Conv2d, i: int, features: Tensor) -> Tensor:  # features (b, l, width)
        out = conv.weight.shape[0] // k
        return features @ conv.weight[i * out : (i + 1) * out, :, 0, 0].T + conv.bias[i * out : (i + 1) * out]

    queries, semantics, keypoints, joints = [], [], [], []

    def end(moves: Tensor, start: Tensor) -> None:  # the layer's third output is the joint's score
        keypoints.append(start + moves[..., :2])
        joints.append(moves[..., 2:])

    for i in range(k):
        r = r_k[:, i * width : (i + 1) * width]
        here = r.flatten(2).transpose(1, 2)
        if not method.kqe:
            end(layer(head.center_to_keypoint, i, here), center)
            continue
        query = center + layer(head.center_to_query, i, here)
        if method.semantic_points:
            at = bilinear(r, query) if method.semantic_at == "query" else here
            steps = layer(head.query_to_semantic, i, at).unflatten(-1, (-1, 2))
            points = query.unsqueeze(2) + steps
        else:
            points = query.unsqueeze(2)
        transformed = sum(bilinear(r, points[:, :, n]) for n in range(points.shape[2]))  # R'_k
        end(layer(head.query_to_keypoint, i, transformed), query)
        queries.append(query)
        semantics += list(points.unbind(2))
    positions = {
        "none": [center],
        "auto": [],
        "query": queries,
        "semantic": semantics,
        "keypoint": keypoints,
    }[method.pose_query]
    if method.pose_query == "auto":
        moves = head.center_to_auto(r_i).flatten(2).transpose(1, 2).unflatten(-1, (-1, 2))
        positions = [center + moves[:, :, i] for i in range(k)]
    concatenated = torch.cat([bilinear(r_i, p) for p in positions], -1)  # R'_I, Eq. 7

    def read_out(conv: torch.nn.Conv2d) -> Tensor:
        return (concatenated @ conv.weight[0, :, 0, 0] + conv.bias).view(b, h, w)

    result = {"displacement": torch.stack(keypoints, 1) - center.unsqueeze(1), "score": read_out(head.score)}
    if method.keypoint_scores:
        result["joints"] = torch.stack(joints, 1).squeeze(-1)
    if method.quality_branch:
        result["quality"] = read_out(head.quality)
    return result
