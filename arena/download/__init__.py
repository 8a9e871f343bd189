"""download.py's room: from the site to posts.jsonl, originals/ and metadata/."""
