"""validate.py's room: from resized/ to predictions, ground truth and results."""
