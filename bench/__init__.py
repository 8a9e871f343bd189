"""Every performance figure the README quotes, one command each: `python -m bench.NAME`."""
