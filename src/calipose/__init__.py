"""Calipose: all people's poses in one pass, each with a score that is trained towards its OKS.

What stands here imports no torch; networks and training are in `calipose.model` and `calipose.training`.
"""

__version__ = "0.1.0"  # before the imports: checkpoints name the version that wrote them

from calipose.calibration import Calibration, ScoreMap
from calipose.draw import contact_sheet, draw_poses, save_picture
from calipose.errors import CaliposeError, InputError, NonFiniteLossError, PictureError
from calipose.hub import from_pretrained, push_to_hub, save_pretrained
from calipose.images import read_picture
from calipose.method import Method
from calipose.poses import Poses
from calipose.predictor import Predictor
from calipose.recipe import PredictSettings, Recipe, load_recipe, recipe_names
from calipose.skeleton import COCO_17, Skeleton
from calipose.sources import Frame, Source, find_sources
from calipose.track import Tracker, fill_gaps
from calipose.video_writer import VideoWriter

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
