"""Calipose finds the poses of all people in an image; the score of a pose is the OKS to expect of it.

    >>> import calipose
    >>> poses = calipose.Predictor().predict("photo.jpg")
    >>> poses.scores, poses.keypoints_img

Everything named here works without torch. Networks and training, which need it, are in `calipose.model` and
`calipose.training`.
"""

from calipose._version import __version__
from calipose.calibration.maps import Calibration, CalibrationMap
from calipose.calibration.second_look import SecondLook
from calipose.config.method import Method
from calipose.config.recipe import Recipe, load_recipe, recipe_names
from calipose.config.settings import PredictSettings
from calipose.data.labels.convert import convert_labels
from calipose.draw import contact_sheet, draw_poses, save_image
from calipose.errors import CaliposeError, ImageError, InputError, NonFiniteLossError
from calipose.evaluation.comparison import Comparison, compare
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.ground_truth import GroundTruth, read_ground_truth
from calipose.evaluation.one_call import evaluate, fit_calibration
from calipose.formats.cvat import to_cvat
from calipose.formats.label_studio import label_studio_config, to_label_studio
from calipose.formats.movement import to_movement
from calipose.formats.one_image import save_poses
from calipose.formats.openpose import to_openpose
from calipose.formats.pandas import to_pandas
from calipose.formats.supervision import to_supervision
from calipose.inference.hub import from_pretrained, push_to_hub, save_pretrained
from calipose.inference.predictor import Predictor
from calipose.inference.refiner import Refiner
from calipose.io.images import read_image
from calipose.io.sources import Frame, Source, find_sources
from calipose.io.video_writer import VideoWriter
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton
from calipose.track import Tracker, fill_gaps

__all__ = [
    "COCO_17",
    "Calibration",
    "CalibrationMap",
    "CaliposeError",
    "Comparison",
    "Evaluation",
    "Frame",
    "GroundTruth",
    "ImageError",
    "InputError",
    "Method",
    "NonFiniteLossError",
    "Poses",
    "PredictSettings",
    "Predictor",
    "Recipe",
    "Refiner",
    "SecondLook",
    "Skeleton",
    "Source",
    "Tracker",
    "VideoWriter",
    "__version__",
    "compare",
    "contact_sheet",
    "convert_labels",
    "draw_poses",
    "evaluate",
    "fill_gaps",
    "find_sources",
    "fit_calibration",
    "from_pretrained",
    "label_studio_config",
    "load_recipe",
    "push_to_hub",
    "read_ground_truth",
    "read_image",
    "recipe_names",
    "save_image",
    "save_poses",
    "save_pretrained",
    "to_cvat",
    "to_label_studio",
    "to_movement",
    "to_openpose",
    "to_pandas",
    "to_supervision",
]
