"""Drawing: poses over an image, images on a sheet, a score map over the network's input (numpy, OpenCV).

Images are `(h, w, 3)` uint8, RGB. Drawing never changes its arguments.
"""

from calipose.draw.files import save_image
from calipose.draw.people import LEFT, MIDDLE, QUERY, RIGHT, draw_poses
from calipose.draw.sheets import contact_sheet, heat_overlay

__all__ = ["LEFT", "MIDDLE", "QUERY", "RIGHT", "contact_sheet", "draw_poses", "heat_overlay", "save_image"]
