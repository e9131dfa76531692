"""Models in the form of the Hugging Face hub: a folder with model.safetensors, config.json and a model card."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calipose._version import __version__
from calipose.errors import InputError, install_hint
from calipose.inference.predictor import Predictor
from calipose.io.atomic import make_folder, replacing

if TYPE_CHECKING:
    from calipose.model.checkpoint import Checkpoint

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


def save_pretrained(source: str | Path, folder: str | Path, card: str | None = None, licence: str = "other") -> Path:
    """Write a trained network into a folder in the hub's form.

    Args:
        source: a checkpoint or run folder.
        folder: made if needed; its files of these names are replaced.
        card: text of the model card after its front matter; by default what the checkpoint knows of itself.
        licence: of the weights, as the hub names licences ("mit", "apache-2.0", "other", ...).

    Returns:
        The folder.

    Raises:
        InputError: the checkpoint is missing, damaged, or not Calipose's; or the folder cannot be written to.
    """
    from calipose.model.checkpoint import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(source)
    folder = Path(folder)
    make_folder(folder)
    save_checkpoint(folder / WEIGHTS, checkpoint)
    config = {
        "library": "calipose",
        "version": __version__,
        "recipe": checkpoint.recipe.to_dict(),
        "skeleton": checkpoint.skeleton.to_dict(),
        "calibration": checkpoint.calibration.to_dict(),
    }
    front = {"library_name": "calipose", "pipeline_tag": "keypoint-detection", "license": licence, "tags": ["pose"]}
    matter = "".join(f"{key}: {json.dumps(value)}\n" for key, value in front.items())
    texts = {CONFIG: json.dumps(config, indent=2), CARD: f"---\n{matter}---\n\n{card or model_card(checkpoint)}"}
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return folder


def model_card(checkpoint: Checkpoint) -> str:
    """A card of what a checkpoint knows of itself."""
    recipe, score_map = checkpoint.recipe, checkpoint.calibration.score
    calibrated = "not calibrated: scores are the network's own"
    if not score_map.is_identity:
        calibrated = f"calibrated on {score_map.data} ({score_map.poses} poses of {score_map.images} images)"
    notes = "".join(f"- {name}: {value}\n" for name, value in checkpoint.notes.items())
    return (
        f"# {recipe.name}\n\n{recipe.description}\n\n"
        f"- network: {recipe.backbone.name}, skeleton {checkpoint.skeleton.name}\n"
        f"- input: short side {recipe.predict.short_side} pixels\n- scores: {calibrated}\n{notes}\n"
        "```python\nimport calipose\n\n"
        'poses = calipose.from_pretrained("OWNER/NAME").predict("photo.jpg")\n```\n'
    )


def from_pretrained(name: str | Path, **options: Any) -> Predictor:
    """Predictor of a model in the hub's form.

    Args:
        name: a folder that `save_pretrained` wrote, or "OWNER/NAME" on the hub, fetched once and kept.
        options: as of `Predictor`.

    Returns:
        A predictor of this model.

    Raises:
        InputError: there is no such folder, or the hub does not give it, or it holds no model of Calipose.
    """
    folder = Path(name)
    if not folder.is_dir():
        folder = _fetch(str(name))
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{name}: holds no {WEIGHTS}; save_pretrained writes such a folder")
    return Predictor(folder / WEIGHTS, **options)


def push_to_hub(source: str | Path, name: str, *, private: bool = False, licence: str = "other") -> str:
    """Upload a trained network to the hub.

    Args:
        source: a checkpoint or run folder.
        name: "OWNER/NAME"; the repository is made if needed.
        private: make a private repository.
        licence: of the weights, as the hub names licences ("mit", "apache-2.0", "other", ...).

    Returns:
        The address of the model on the hub.

    Raises:
        InputError: the checkpoint cannot be read, huggingface_hub is missing, or the hub refuses.
    """
    hub = _hub(name)
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(source)
        if not (saved / CONFIG).is_file():  # a folder in the hub's form goes up as it is, its own card included
            saved = save_pretrained(source, Path(folder) / "model", licence=licence)
        try:
            api = hub.HfApi()
            api.create_repo(name, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=name, folder_path=str(saved), allow_patterns=[WEIGHTS, CONFIG, CARD]))
        except (OSError, ValueError) as error:  # the hub's errors are OSErrors; a malformed name is a ValueError
            raise InputError(f"'{name}': the hub did not take it: {error}") from error


def _fetch(name: str) -> Path:
    hub = _hub(name)
    try:
        return Path(hub.snapshot_download(name, allow_patterns=[WEIGHTS, CONFIG, CARD]))
    except (OSError, ValueError) as error:
        raise InputError(f"'{name}': no such folder, and the hub does not give it: {error}") from error


def _hub(name: str) -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise InputError(f"'{name}' needs huggingface_hub: {install_hint('hub')}") from None
    return huggingface_hub
