"""Reads masks from the files of label tools: images, COCO, LabelMe and YOLO."""
