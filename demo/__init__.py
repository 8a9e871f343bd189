"""A stand-in for Danbooru and the model hub, drawn posts and two tiny models."""
