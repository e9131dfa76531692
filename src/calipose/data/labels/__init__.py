"""Labels of other tools (CVAT, Label Studio, YOLO), read into the form of a COCO annotation file."""
