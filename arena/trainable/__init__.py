"""trainable.py's room: from originals/ to resized/ and trainable.jsonl."""
