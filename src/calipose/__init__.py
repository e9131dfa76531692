"""Calipose: all people's poses in one pass, each with a score that is trained towards its OKS.

What stands here imports no torch; networks and training are in `calipose.model` and `calipose.training`.
"""

from calipose._version import __version__
from calipose.calibration.maps import Calibration, ScoreMap
from calipose.config.method import Method
from calipose.config.recipe import Recipe, load_recipe, recipe_names
from calipose.config.settings import PredictSettings
from calipose.draw import contact_sheet, draw_poses, save_picture
from calipose.errors import CaliposeError, InputError, NonFiniteLossError, PictureError
from calipose.inference.hub import from_pretrained, push_to_hub, save_pretrained
from calipose.inference.predictor import Predictor
from calipose.io.images import read_picture
from calipose.io.sources import Frame, Source, find_sources
from calipose.io.video_writer import VideoWriter
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton
from calipose.track import Tracker, fill_gaps

__all__ = [
    "COCO_17",
    "Calibration",
    "CaliposeError",
    "Frame",
    "InputError",
    "Method",
    "NonFiniteLossError",
    "PictureError",
    "Poses",
    "PredictSettings",
    "Predictor",
    "Recipe",
    "ScoreMap",
    "Skeleton",
    "Source",
    "Tracker",
    "VideoWriter",
    "__version__",
    "contact_sheet",
    "draw_poses",
    "fill_gaps",
    "find_sources",
    "from_pretrained",
    "load_recipe",
    "push_to_hub",
    "read_picture",
    "recipe_names",
    "save_picture",
    "save_pretrained",
]
