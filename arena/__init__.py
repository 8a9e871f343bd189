"""What the four scripts share, and the parts of validate.py."""
