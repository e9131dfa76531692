"""Calipose: all people's poses in one pass, each with a score that is trained towards its OKS.

What stands here imports no torch; networks and training are in `calipose.model` and `calipose.training`.
"""

__version__ = "0.1.0"  # before the imports: checkpoints name the version that wrote them

from calipose.draw import contact_sheet, draw_poses, save_picture
from calipose.errors import CaliposeError, InputError, NonFiniteLossError, PictureError
from calipose.images import read_picture
from calipose.method import Method
from calipose.poses import Poses
from calipose.predictor import Predictor
from calipose.recipe import PredictSettings, Recipe, load_recipe, recipe_names
from calipose.skeleton import COCO_17, Skeleton

__all__ = [
    "COCO_17",
    "CaliposeError",
    "InputError",
    "Method",
    "NonFiniteLossError",
    "PictureError",
    "Poses",
    "PredictSettings",
    "Predictor",
    "Recipe",
    "Skeleton",
    "__version__",
    "contact_sheet",
    "draw_poses",
    "load_recipe",
    "read_picture",
    "recipe_names",
    "save_picture",
]
